// Tables are sorted by a button in each heading, and filtered by text and by kind of value.

const numberIn = (text) => parseFloat(text.replace("−", "-"));

function compare(a, b, numeric) {
  if (!a || !b) return a ? -1 : b ? 1 : 0; // what is empty comes last, either way
  return numeric ? numberIn(a) - numberIn(b) : a.localeCompare(b, "en", { numeric: true });
}

function startTable(block) {
  const table = block.querySelector("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const status = html("output", { "aria-live": "polite" });
  sortable(headings, rows, body);
  const count = () => {
    const shown = rows.filter((row) => !row.hidden).length;
    status.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
  };
  const title = table.caption.textContent;
  const filter = html("input", { type: "search", "aria-label": `Filter rows of ${title}`, placeholder: "e.g. T₄ or epic/s3", autocomplete: "off" });
  filter.addEventListener("input", () => {
    const words = plain(filter.value).split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => plain(row.textContent).includes(word));
    count();
  });
  const bar = html("div", { class: "toolbar" }, html("label", {}, "Filter", filter));
  const kinds = [...new Set(headings.map((heading) => heading.dataset.kind).filter(Boolean))];
  if (kinds.length > 1) bar.append(kindBoxes(table, headings, kinds, title));
  bar.append(status);
  block.prepend(bar);
  count();
}

// As people type it: S_1, s1 and S₁ are the same
const plain = (text) => text.toLowerCase().replace(/[₀-₉]/g, (digit) => SUBSCRIPTS.indexOf(digit)).replace(/\b([st])_(?=\d)/g, "$1");

function sortable(headings, rows, body) {
  headings.forEach((heading, place) => {
    const button = html("button", { type: "button" }, ...heading.childNodes);
    heading.replaceChildren(button);
    const numeric = heading.classList.contains("number");
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const first = numeric ? "descending" : "ascending";
      const next = before === null ? first : before === first ? (numeric ? "ascending" : "descending") : null;
      for (const other of headings) other.removeAttribute("aria-sort");
      if (next) heading.setAttribute("aria-sort", next);
      body.append(...sorted(rows, place, next, numeric));
    });
  });
}

function sorted(rows, place, direction, numeric) {
  if (!direction) return rows;
  const text = (row) => row.cells[place].textContent.trim();
  const [empty, full] = [rows.filter((row) => !text(row)), rows.filter((row) => text(row))];
  const sign = direction === "ascending" ? 1 : -1;
  return [...full.sort((a, b) => sign * compare(text(a), text(b), numeric)), ...empty];
}

// Boxes that show and hide the columns of a kind; the group above a column shrinks with it
function kindBoxes(table, headings, kinds, title) {
  const hidden = new Set();
  const groups = table.tHead.rows.length > 1 ? [...table.tHead.rows[0].cells].map((cell) => [cell, cell.colSpan]) : [];
  const apply = () => {
    headings.forEach((heading, place) => {
      const hide = hidden.has(heading.dataset.kind);
      heading.hidden = hide;
      for (const row of table.tBodies[0].rows) row.cells[place].hidden = hide;
    });
    let place = 0;
    for (const [cell, span] of groups) {
      const left = headings.slice(place, place + span).filter((heading) => !heading.hidden).length;
      cell.hidden = left === 0;
      if (left) cell.colSpan = left;
      place += span;
    }
  };
  const boxes = kinds.map((kind) => {
    const box = html("input", { type: "checkbox", checked: true, value: kind });
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(kind);
      else hidden.add(kind);
      apply();
    });
    return html("label", {}, box, html("span", { class: `mark ${kind}`, "aria-hidden": "true" }), kind);
  });
  return html("fieldset", {}, html("legend", { class: "hidden" }, `Columns of ${title}`), ...boxes);
}

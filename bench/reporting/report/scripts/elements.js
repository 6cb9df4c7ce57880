// Making elements, and numbers and names for people. Texts are always set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";

// "S_1,T_2" as S₁,T₂
const typeset = (text) =>
  text.replace(/\b([ST])_(\d+)/g, (_, letter, digits) => letter + [...digits].map((digit) => SUBSCRIPTS[digit]).join(""));

// Prose with the subscripts of S_k and T_M, as nodes
const withSubscripts = (text) =>
  text.split(/\b([ST]_\w)/).map((part) => (/^[ST]_\w$/.test(part) ? html("span", {}, part[0], html("sub", {}, part[2])) : part));

// A number with so many significant digits, never as a power of ten
function digits(value, significant = 4) {
  if (!value) return "0";
  const decimals = Math.max(0, significant - 1 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(decimals, 12)).replace("-", "−");
}

// A value with its interval, if it has one
function withBounds([value, low, high]) {
  return low === undefined ? digits(value) : `${digits(value)} [${digits(low)}, ${digits(high)}]`;
}

const kindWords = (kind) => (kind ? `, ${kind}` : "");

// Give a select its options, as [value, words] or [value, words, group]; a choice that is still there is kept
function setOptions(select, options) {
  const chosen = select.value;
  select.replaceChildren();
  const groups = new Map();
  for (const [value, words, group] of options) {
    const option = html("option", { value }, words);
    if (!group) {
      select.append(option);
      continue;
    }
    if (!groups.has(group)) {
      groups.set(group, html("optgroup", { label: group }));
      select.append(groups.get(group));
    }
    groups.get(group).append(option);
  }
  if (options.some(([value]) => String(value) === chosen)) select.value = chosen;
}

// A plot's table, for who does not see the plot: columns are words, or {words, kind} of numbers
function tableOf(title, columns, rows) {
  const head = columns.map((column) =>
    column.words === undefined ? html("th", { scope: "col" }, column) : html("th", { scope: "col", class: "number", "data-kind": column.kind }, column.words));
  const body = rows.map((row) =>
    html("tr", {}, ...row.map((cell, index) => {
      const text = String(cell ?? "");
      if (index === 0) return html("th", { scope: "row" }, text);
      const column = columns[index];
      return html("td", column.words === undefined ? {} : { class: `number ${text && column.kind ? column.kind : ""}`.trim() }, text);
    })));
  return html("table", {}, html("caption", {}, title), html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...body));
}

// A place below a plot where its table unfolds; it is made when it is first opened
class Alternative {
  constructor(host) {
    this.region = html("div", { class: "scroll", role: "region", tabindex: 0 });
    this.details = html("details", { class: "alternative" }, html("summary", {}, "The same as a table"), this.region);
    this.details.addEventListener("toggle", () => this.draw());
    host.append(this.details);
  }

  show(title, columns, rows) {
    this.make = () => tableOf(title, columns, rows());
    this.region.setAttribute("aria-label", title);
    this.draw();
  }

  draw() {
    if (this.details.open && this.make) this.region.replaceChildren(this.make());
  }
}

// Decisions of a system on clips, a letter in each frame.

const DECISIONS = { F: ["full", "processed fully"], P: ["prescan", "only pre-scanned"], S: ["skip", "skipped"] };

function startStrips(strips) {
  const select = byId("decisions-system");
  const host = byId("decisions-strips");
  if (!strips.length) {
    host.append(html("p", { class: "prose" }, "No system has a temporal sampler."));
    return;
  }
  setOptions(select, strips.map(({ system, title }) => [system, `${system} · ${typeset(title)}`, system.split("/")[0]]));
  select.value = (strips.find(({ source }) => source === "evaluated") ?? strips.find(({ system }) => system === "epic/s3-t4") ?? strips[0]).system;
  const draw = () => host.replaceChildren(...strip(strips.find(({ system }) => system === select.value)));
  select.addEventListener("change", draw);
  select.closest(".controls").hidden = false;
  draw();
}

function strip({ system, source, note, clips }) {
  const frames = Math.max(...clips.map(({ decisions }) => decisions.length));
  const judged = clips.some(({ right }) => right !== undefined);
  const title = `Decisions of ${system} on ${clips.length} ${source === "evaluated" ? "held-out clips" : "drawn sequences"}`;
  const cells = (decisions) => Array.from({ length: frames }, (_, t) => {
    const [kind, words] = DECISIONS[decisions[t]] ?? [];
    return html("td", {}, ...(kind ? [html("abbr", { class: `decision ${kind}`, title: words }, decisions[t])] : []));
  });
  const head = ["Clip", ...Array.from({ length: frames }, (_, t) => String(t))].map((words) => html("th", { scope: "col" }, words));
  head.push(html("th", { scope: "col", class: "number" }, "GFLOPs per frame"));
  if (judged) head.push(html("th", { scope: "col" }, "Prediction"));
  const rows = clips.map((clip) => {
    const row = html("tr", {}, html("th", { scope: "row" }, clip.name), ...cells(clip.decisions), html("td", { class: "number counted" }, digits(clip.gflops)));
    if (judged) row.append(html("td", {}, clip.right ? "right" : "wrong"));
    return row;
  });
  const table = html("table", {}, html("caption", {}, title), html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...rows));
  return [html("div", { class: "scroll strip", role: "region", tabindex: 0, "aria-label": title }, table), html("p", { class: "aside" }, ...withSubscripts(note))];
}

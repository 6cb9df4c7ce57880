// What each part of a system costs in the order in which it runs: its own operations, and those so far.

const BEST_BARS = 75; // the finest detail with no more bars is shown first
const NAMED_BARS = 110; // more have no room for their names
const BAR = 9; // pixels at least
const NAMED_BAR = 15;
const PANELS = { top: 30, curve: 210, gap: 22, bars: 150, bottom: 34, names: 132, left: 62, right: 14 };

// Layers of a stage whose names begin with the same parts, and that run one after another, are one part; parts that
// multiply nothing belong to the next that does, or, at the end of a stage, to the last
function merged(stages, depth, convention) {
  const found = [];
  for (const [stage, layers] of stages) {
    const parts = [];
    for (const [name, type, macs, paper, exact] of layers) {
      const own = { stage, name: named(name, depth), type, macs, flops: convention === "paper" ? paper : exact, layers: 1 };
      const last = parts[parts.length - 1];
      if (last && depth !== Infinity && (last.name === own.name || !last.macs)) parts[parts.length - 1] = joined(last, own);
      else parts.push(own);
    }
    const [before, last] = parts.slice(-2);
    if (depth !== Infinity && parts.length > 1 && !last.macs) parts.splice(-2, 2, joined(before, last));
    found.push(...parts);
  }
  let total = 0;
  for (const part of found) part.total = total += part.flops;
  return found;
}

const named = (name, depth) => name.split(".").slice(0, depth).join(".") || "(the system itself)";

// Two parts as one, with the name of the one that multiplies, or of the later one
function joined(first, second) {
  const { name, type } = first.macs && !second.macs ? first : second;
  return { ...first, name, type, macs: first.macs + second.macs, flops: first.flops + second.flops, layers: first.layers + second.layers };
}

class LayerPlot {
  constructor(host) {
    this.host = host;
    this.canvas = html("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Plot of layers" });
    host.append(this.canvas);
    this.tooltip = new Tooltip(host);
    this.alternative = new Alternative(host);
    this.canvas.addEventListener("scroll", () => this.tooltip.hide());
    new ResizeObserver(() => this.last && this.canvas.clientWidth !== this.width && this.show(...this.last)).observe(this.canvas);
  }

  show(system, bars, convention) {
    this.last = [system, bars, convention];
    this.width = this.canvas.clientWidth;
    this.tooltip.hide();
    const room = Math.max(240, this.width - PANELS.left - PANELS.right);
    const isNamed = bars.length <= NAMED_BARS;
    const step = Math.max(isNamed ? NAMED_BAR : BAR, room / bars.length);
    const width = Math.ceil(PANELS.left + PANELS.right + step * bars.length);
    const curveEnd = PANELS.top + PANELS.curve;
    const barsTop = curveEnd + PANELS.gap;
    const barsEnd = barsTop + PANELS.bars;
    const height = barsEnd + (isNamed ? PANELS.names : PANELS.bottom);
    const total = bars.length ? bars[bars.length - 1].total : 0;
    const most = Math.max(...bars.map(({ flops }) => flops), 1);
    const unit = total >= 1e8 ? [1e9, "GFLOPs"] : [1e6, "MFLOPs"];
    const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `Layers of ${system}, ${convention} convention: ${bars.length} parts, ${digits(total / unit[0])} ${unit[1]}. Arrow keys go from part to part.` });
    const toCurve = (flops) => curveEnd - (flops / (total || 1)) * PANELS.curve;
    const toBar = (flops) => barsEnd - (flops / most) * PANELS.bars;
    this.drawStages(root, bars, step, barsEnd);
    for (const [place, limit, count] of [[toCurve, total, 5], [toBar, most, 4]]) {
      for (const [tick, text] of ticks(0, limit / unit[0], count)) {
        const y = place(tick * unit[0]);
        root.append(svg("line", { class: "grid", x1: PANELS.left, x2: width - PANELS.right, y1: y, y2: y }), svg("text", { x: PANELS.left - 8, y: y + 4, "text-anchor": "end" }, text));
      }
    }
    const title = (text, from, size) => svg("text", { class: "title", x: -(from + size / 2), y: 15, "text-anchor": "middle", transform: "rotate(-90)" }, text);
    root.append(title(`${unit[1]} so far`, PANELS.top, PANELS.curve), title(`each, ${unit[1]}`, barsTop, PANELS.bars));
    const points = bars.map(({ total: sum }, place) => `${PANELS.left + (place + 0.5) * step},${toCurve(sum)}`);
    root.append(svg("polyline", { class: "curve", points: [`${PANELS.left},${curveEnd}`, ...points].join(" ") }));
    const marks = bars.map((bar, place) => {
      const x = PANELS.left + place * step;
      const node = svg("g", { class: "layer" }, svg("rect", { class: "bar", x: x + step * 0.12, width: step * 0.76, y: toBar(bar.flops), height: Math.max(0, barsEnd - toBar(bar.flops)) }), svg("rect", { class: "hit", x, width: step, y: PANELS.top, height: barsEnd - PANELS.top }));
      const what = bar.layers > 1 ? `${bar.layers} layers` : bar.type;
      const lines = [bar.name, `${bar.stage === "call" ? "" : `stage ${bar.stage}, `}${what}`, `${digits(bar.flops / unit[0])} ${unit[1]}, ${digits((100 * bar.flops) / (total || 1), 3)} %`, `${digits(bar.total / unit[0])} ${unit[1]} so far`];
      return { node, lines };
    });
    root.append(...marks.map(({ node }) => node), svg("line", { class: "axis", x1: PANELS.left, x2: width - PANELS.right, y1: barsEnd, y2: barsEnd }), svg("line", { class: "axis", x1: PANELS.left, x2: width - PANELS.right, y1: curveEnd, y2: curveEnd }));
    bars.forEach(({ name }, place) => {
      const [x, y] = [PANELS.left + (place + 0.5) * step + 4, barsEnd + 8];
      if (isNamed) root.append(svg("text", { class: "tick", x, y, transform: `rotate(-90 ${x} ${y})`, "text-anchor": "end", "aria-hidden": "true" }, name.length > 20 ? `…${name.slice(-19)}` : name));
    });
    if (!isNamed) root.append(svg("text", { class: "title", x: PANELS.left + Math.min(room, width) / 2, y: height - 10, "text-anchor": "middle" }, `${bars.length} layers in the order in which they run`));
    this.canvas.replaceChildren(root);
    explore(marks, this.tooltip, ({ node }) => node.scrollIntoView({ block: "nearest", inline: "nearest" }));
    this.alternative.show(
      `Layers of ${system}, ${convention} convention`,
      ["Part", "Stage", "What", { words: `Own ${unit[1]}`, kind: "counted" }, { words: `${unit[1]} so far`, kind: "counted" }],
      () => bars.map((bar) => [bar.name, bar.stage, bar.layers > 1 ? `${bar.layers} layers` : bar.type, digits(bar.flops / unit[0], 5), digits(bar.total / unit[0], 6)]),
    );
  }

  // Stages as bands with their names, where there are several
  drawStages(root, bars, step, end) {
    const stages = [];
    bars.forEach(({ stage }, place) => {
      if (stages.length && stages[stages.length - 1].stage === stage) stages[stages.length - 1].count += 1;
      else stages.push({ stage, from: place, count: 1 });
    });
    if (stages.length < 2) return;
    const bands = svg("g");
    const names = svg("g");
    let free = 0;
    for (const { stage, from, count } of stages) {
      const x = PANELS.left + from * step;
      bands.append(svg("rect", { class: "stage", x, width: count * step, y: PANELS.top - 22, height: end - PANELS.top + 22 }));
      const at = Math.max(x + 4, free);
      const isLast = from + count === bars.length && count * step < stage.length * 6.6;
      names.append(isLast ? svg("text", { x: x + count * step, y: PANELS.top - 8, "text-anchor": "end" }, stage) : svg("text", { x: at, y: PANELS.top - 8 }, stage));
      free = at + stage.length * 6.6 + 8;
    }
    root.append(bands, names);
  }
}

// SAN19 against the side of its input, as Fig. 3 of the paper
function startSizes(sizes, convention) {
  if (!sizes.length) return;
  byId("sizes").hidden = false;
  const plot = new Scatter(byId("sizes-plot"), "SAN19 by the side of its input");
  const draw = () => {
    const y = `GFLOPs, ${convention.value} convention, counted`;
    const points = sizes.map(({ size, ...gflopsBy }) => {
      const gflops = gflopsBy[`gflops_${convention.value}`];
      return { system: `N = ${size}`, title: `N = ${size}`, group: "T_1", crops: 0, x: [size], y: [gflops], lines: [`3 × ${size} × ${size}`, `${digits(gflops)} ${y}`] };
    });
    plot.show({ points, x: "Side N of the input, 3 × N × N", y, curve: true });
    plot.alternative.show("SAN19 by the side of its input", ["Side", { words: y, kind: "counted" }], () => points.map((point) => [point.x[0], digits(point.y[0])]));
  };
  convention.addEventListener("change", draw);
  draw();
}

function startLayers({ systems, layers, titles, sizes }) {
  const [system, convention, depth] = ["layers-system", "layers-convention", "layers-depth"].map(byId);
  const plot = new LayerPlot(byId("layers-plot"));
  const ids = Object.keys(systems);
  const group = (id) => (id.includes("/") ? id.split("/")[0] : "backbones");
  const inOrder = [...ids.filter((id) => id.includes("/")), ...ids.filter((id) => !id.includes("/"))];
  setOptions(system, inOrder.map((id) => [id, titles[id] ? `${id} · ${typeset(titles[id])}` : id, group(id)]));
  system.value = ids.find((id) => id === "epic/s3-t4") ?? inOrder[0];
  const stagesOf = (id) => systems[id].map(([name, place]) => [name, layers[place]]);
  const details = () => {
    const stages = stagesOf(system.value);
    const deepest = Math.max(...stages.flatMap(([, own]) => own.map(([name]) => name.split(".").length)));
    const sizes = Array.from({ length: deepest }, (_, place) => [place + 1, merged(stages, place + 1, "exact").length]);
    const options = sizes.filter(([, size], place) => place === 0 || size !== sizes[place - 1][1]);
    setOptions(depth, [...options.map(([level, size]) => [level, `${size} parts`]), ["every", "every layer"]]);
    const best = options.filter(([, size]) => size <= BEST_BARS).pop() ?? options[0];
    depth.value = String(best[0]);
  };
  const draw = () => plot.show(system.value, merged(stagesOf(system.value), depth.value === "every" ? Infinity : Number(depth.value), convention.value), convention.value);
  system.addEventListener("change", () => {
    details();
    draw();
  });
  for (const select of [convention, depth]) select.addEventListener("change", draw);
  system.closest(".controls").hidden = false;
  details();
  draw();
  startSizes(sizes, convention);
}

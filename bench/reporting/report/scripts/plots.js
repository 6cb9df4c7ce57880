// Accuracy against a cost of choice, and speed-ups by operations against those by time.

function startAccuracy({ axes, data }) {
  const [set, cost, kind] = ["accuracy-data", "accuracy-cost", "accuracy-kind"].map(byId);
  const plot = new Scatter(byId("accuracy-plot"), "Accuracy against cost");
  setOptions(set, data.map(({ name, title }) => [name, title]));
  const draw = () => {
    const { title, points } = data.find(({ name }) => name === set.value);
    const kinds = ["published", "measured"].filter((each) => points.some((point) => point.accuracy[each]));
    setOptions(kind, (kinds.length ? kinds : ["published"]).map((each) => [each, `top-1, ${each}`]));
    const costs = Object.keys(axes).filter((axis) => points.some((point) => point.cost[axis]));
    setOptions(cost, costs.map((axis) => [axis, `${axes[axis].label}, ${axes[axis].kind}`]));
    const axis = axes[cost.value];
    const [x, y] = [`${axis.label}, ${axis.kind}`, `Top-1 accuracy (%), ${kind.value}`];
    const both = points.filter((point) => point.cost[cost.value] && point.accuracy[kind.value]);
    const shown = both.map((point) => {
      const [at, height] = [point.cost[cost.value], point.accuracy[kind.value]];
      const lines = [`${typeset(point.title)} (${point.inputs})`, point.system, `${withBounds(height)} % top-1, ${kind.value}`, `${withBounds(at)} ${axis.label}, ${axis.kind}`];
      return { ...point, x: at, y: height, lines };
    });
    const front = new Set(paretoFront(shown));
    for (const point of front) point.lines.push("on the Pareto front");
    plot.show({ points: shown, x, y, front: true });
    plot.alternative.show(
      `${title}: accuracy against cost`,
      ["System", "Name", { words: `${axis.label} (${axis.kind})`, kind: axis.kind }, { words: `Top-1, % (${kind.value})`, kind: kind.value }, "Pareto front"],
      () => shown.map((point) => [point.system, typeset(point.title), withBounds(point.x), withBounds(point.y), front.has(point) ? "yes" : "no"]),
    );
    const missing = points.filter((point) => !both.includes(point)).map((point) => point.system);
    byId("accuracy-missing").textContent = missing.length ? `Not in the plot, as one of the two is not known: ${missing.join(", ")}.` : "";
  };
  for (const select of [set, cost, kind]) select.addEventListener("change", draw);
  set.closest(".controls").hidden = false;
  draw();
}

function startSpeedUps(speedUps) {
  const [set, setup] = ["speed-ups-data", "speed-ups-setup"].map(byId);
  const host = byId("speed-ups-plot");
  if (!speedUps.length) {
    host.append(html("p", { class: "prose" }, "No speed-ups were measured: foveabench measure takes those of every S_k,T_M beside its S_k."));
    return;
  }
  const plot = new Scatter(host, "Operations saved against time saved");
  setOptions(set, [...new Set(speedUps.map(({ data }) => data))].map((name) => [name, name]));
  const draw = () => {
    const ofSet = speedUps.filter(({ data }) => data === set.value);
    setOptions(setup, [...new Set(ofSet.map((each) => each.setup))].map((words) => [words, words]));
    const points = ofSet.filter((each) => each.setup === setup.value).map((each) => ({
      ...each,
      x: each.counted,
      y: each.measured,
      lines: [typeset(each.title), each.system, `${withBounds(each.counted)} by operations, counted`, `${withBounds(each.measured)} by time, measured`, `${digits(each.realised[0], 3)} of it realised`],
    }));
    plot.show({ points, x: "Speed-up by operations, counted", y: "Speed-up by time, measured", diagonal: true });
    plot.alternative.show(
      `${set.value}: speed-ups`,
      ["System", "Name", { words: "By operations", kind: "counted" }, { words: "By time", kind: "measured" }, { words: "Realised", kind: "measured" }],
      () => points.map((each) => [each.system, typeset(each.title), withBounds(each.x), withBounds(each.y), digits(each.realised[0], 3)]),
    );
  };
  for (const select of [set, setup]) select.addEventListener("change", draw);
  set.closest(".controls").hidden = false;
  draw();
}

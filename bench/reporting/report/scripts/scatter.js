// A scatter plot with intervals, that can be zoomed by buttons, keys, a rectangle, or the wheel with Ctrl.

const MARGIN = { top: 14, right: 18, bottom: 46, left: 58 };
const ROOM = 0.07; // beside the outermost points, as a part of the range
const SHAPES = {
  circle: "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z",
  square: "M-4.6,-4.6h9.2v9.2h-9.2z",
  diamond: "M0,-6.4l6,6.4l-6,6.4l-6,-6.4z",
  triangle: "M0,-6.2l6,10.6h-12z",
  cross: "M-5.6,-2h3.6v-3.6h4v3.6h3.6v4h-3.6v3.6h-4v-3.6h-3.6z",
};
const SHAPE_OF_CROPS = ["circle", "square", "diamond", "triangle"];
const shapeOf = (point) => (point.crops === null ? "cross" : SHAPE_OF_CROPS[point.crops % SHAPE_OF_CROPS.length]);

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) found.push([tick, tick.toFixed(decimals).replace("-", "−")]);
  return found;
}

class Scatter {
  constructor(host, name) {
    this.host = host;
    this.name = name;
    this.status = html("output", { "aria-live": "polite" });
    const button = (label, words, act) => {
      const node = html("button", { type: "button", "aria-label": `${words}: ${name}`, title: words }, label);
      node.addEventListener("click", act);
      return node;
    };
    host.append(
      html("div", { class: "zoom" }, button("+", "Zoom in", () => this.scale(0.6)), button("−", "Zoom out", () => this.scale(1 / 0.6)), button("Reset", "Reset the zoom", () => this.reset()), this.status),
    );
    this.canvas = html("div", { class: "canvas" });
    host.append(this.canvas);
    this.tooltip = new Tooltip(host);
    this.key = html("ul", { class: "key" });
    host.append(this.key);
    this.alternative = new Alternative(host);
    new ResizeObserver(() => this.picture && this.canvas.clientWidth !== this.width && this.draw()).observe(this.canvas);
  }

  // picture: {points: [{x, y, title, lines, group, crops}], x: label, y: label}, and which lines there are: front,
  // diagonal, or curve through all points
  show(picture) {
    this.picture = picture;
    const range = (values) => {
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const room = ROOM * (high - low || Math.abs(high) || 1);
      return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
    };
    const points = picture.points;
    const whole = { x: [0, 1], y: [0, 1] };
    if (points.length) for (const axis of ["x", "y"]) whole[axis] = range(points.flatMap((point) => point[axis]));
    if (picture.diagonal && points.length) {
      const both = range(points.flatMap((point) => [...point.x, ...point.y]));
      whole.x = [...both];
      whole.y = [...both];
    } else if (whole.x[0] > 0 && whole.x[0] < whole.x[1] / 2) whole.x[0] = 0; // costs are seen in proportion
    this.whole = whole;
    this.view = structuredClone(whole);
    this.status.textContent = "";
    this.drawKey();
    this.draw();
  }

  reset() {
    this.view = structuredClone(this.whole);
    this.zoomed();
  }

  // A factor below 1 comes nearer; the place stays where it is
  scale(factor, place = { x: this.middle("x"), y: this.middle("y") }) {
    for (const axis of ["x", "y"]) {
      const [low, high] = this.view[axis];
      this.view[axis] = [place[axis] - (place[axis] - low) * factor, place[axis] + (high - place[axis]) * factor];
      if (this.view[axis][1] - this.view[axis][0] > this.whole[axis][1] - this.whole[axis][0]) this.view[axis] = [...this.whole[axis]];
    }
    this.zoomed();
  }

  middle(axis) {
    return (this.view[axis][0] + this.view[axis][1]) / 2;
  }

  zoomed() {
    this.draw();
    const part = (axis) => `${axis} from ${digits(this.view[axis][0], 3)} to ${digits(this.view[axis][1], 3)}`;
    this.status.textContent = this.isWhole() ? "Everything is shown" : `Zoomed: ${part("x")}, ${part("y")}`;
  }

  isWhole() {
    return ["x", "y"].every((axis) => this.view[axis].every((end, side) => Math.abs(end - this.whole[axis][side]) < 1e-9));
  }

  draw() {
    const { picture } = this;
    const hadFocus = this.canvas.contains(document.activeElement) ? document.activeElement.dataset.system : null;
    this.tooltip.hide();
    this.width = Math.max(280, this.canvas.clientWidth);
    this.height = Math.round(Math.max(300, Math.min(540, this.width * 0.6)));
    const inner = { left: MARGIN.left, right: this.width - MARGIN.right, top: MARGIN.top, bottom: this.height - MARGIN.bottom };
    const { x: [x0, x1], y: [y0, y1] } = this.view;
    this.toX = (value) => inner.left + ((value - x0) / (x1 - x0)) * (inner.right - inner.left);
    this.toY = (value) => inner.bottom - ((value - y0) / (y1 - y0)) * (inner.bottom - inner.top);
    this.fromPixel = (px, py) => ({ x: x0 + ((px - inner.left) / (inner.right - inner.left)) * (x1 - x0), y: y0 + ((inner.bottom - py) / (inner.bottom - inner.top)) * (y1 - y0) });
    const clip = `${this.host.id}-clip`;
    const label = `${this.name}: ${picture.points.length} points, ${picture.y} against ${picture.x}. Arrow keys go from point to point, plus and minus zoom, 0 resets.`;
    const root = svg("svg", { viewBox: `0 0 ${this.width} ${this.height}`, role: "group", "aria-label": label });
    root.append(svg("clipPath", { id: clip }, svg("rect", { x: inner.left, y: inner.top, width: inner.right - inner.left, height: inner.bottom - inner.top })));
    this.drawAxes(root, inner);
    const plane = svg("g", { "clip-path": `url(#${clip})` });
    if (picture.diagonal) plane.append(svg("line", { class: "diagonal", x1: this.toX(0), y1: this.toY(0), x2: this.toX(1e3), y2: this.toY(1e3) }));
    if (picture.front) plane.append(this.frontLine());
    if (picture.curve) plane.append(svg("polyline", { class: "curve", points: picture.points.map(({ x, y }) => `${this.toX(x[0])},${this.toY(y[0])}`).join(" ") }));
    const marks = this.marks();
    plane.append(...marks.map(({ node }) => node));
    if (picture.front) this.drawNames(plane, inner);
    root.append(plane);
    this.pointers(root);
    this.canvas.replaceChildren(root);
    this.host.classList.toggle("zoomed", !this.isWhole());
    explore(marks, this.tooltip, (mark) => this.reveal(mark.point));
    root.addEventListener("keydown", (event) => {
      const act = { "+": () => this.scale(0.6), "=": () => this.scale(0.6), "-": () => this.scale(1 / 0.6), 0: () => this.reset() }[event.key];
      if (!act || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      act();
    });
    if (hadFocus) [...root.querySelectorAll(".point")].find((node) => node.dataset.system === hadFocus)?.focus({ preventScroll: true });
  }

  drawAxes(root, inner) {
    const { picture } = this;
    for (const [tick, text] of ticks(...this.view.x, this.width < 500 ? 4 : 8)) {
      root.append(svg("line", { class: "grid", x1: this.toX(tick), x2: this.toX(tick), y1: inner.top, y2: inner.bottom }), svg("text", { x: this.toX(tick), y: inner.bottom + 18, "text-anchor": "middle" }, text));
    }
    for (const [tick, text] of ticks(...this.view.y, 6)) {
      root.append(svg("line", { class: "grid", x1: inner.left, x2: inner.right, y1: this.toY(tick), y2: this.toY(tick) }), svg("text", { x: inner.left - 8, y: this.toY(tick) + 4, "text-anchor": "end" }, text));
    }
    root.append(
      svg("line", { class: "axis", x1: inner.left, x2: inner.right, y1: inner.bottom, y2: inner.bottom }),
      svg("text", { class: "title", x: (inner.left + inner.right) / 2, y: this.height - 8, "text-anchor": "middle" }, shortened(picture.x, this.width)),
      svg("text", { class: "title", x: -(inner.top + inner.bottom) / 2, y: 15, "text-anchor": "middle", transform: "rotate(-90)" }, picture.y),
    );
    if (!picture.points.length) root.append(svg("text", { x: this.width / 2, y: this.height / 2, "text-anchor": "middle" }, "No system has both values."));
  }

  marks() {
    const inOrder = [...this.picture.points].sort((a, b) => a.x[0] - b.x[0] || a.y[0] - b.y[0]);
    return inOrder.map((point) => {
      const [x, y] = [this.toX(point.x[0]), this.toY(point.y[0])];
      const node = svg("g", { class: `point ${point.group}`, "data-system": point.system });
      if (point.x.length > 1) node.append(svg("line", { class: "interval", x1: this.toX(point.x[1]), x2: this.toX(point.x[2]), y1: y, y2: y }));
      if (point.y.length > 1) node.append(svg("line", { class: "interval", x1: x, x2: x, y1: this.toY(point.y[1]), y2: this.toY(point.y[2]) }));
      node.append(svg("circle", { class: "halo", cx: x, cy: y, r: 9 }), svg("path", { class: "shape", d: SHAPES[shapeOf(point)], transform: `translate(${x},${y})` }));
      return { node, lines: point.lines, point };
    });
  }

  frontLine() {
    const front = paretoFront(this.picture.points);
    const parts = front.map((point, place) => {
      const [x, y] = [this.toX(point.x[0]), this.toY(point.y[0])];
      return place ? `H${x}V${y}` : `M${x},${y}`;
    });
    return svg("path", { class: "front", d: parts.join("") || "M0,0" });
  }

  // Names of the points of the front, where there is room
  drawNames(plane, inner) {
    const taken = this.picture.points.map((point) => ({ x: this.toX(point.x[0]) - 6, y: this.toY(point.y[0]) - 6, width: 12, height: 12 }));
    const meets = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
    for (const point of paretoFront(this.picture.points)) {
      const others = this.picture.points.filter(({ title }) => title === point.title);
      const name = typeset(point.title) + (others.length > 1 ? ` (${point.inputs})` : "");
      const [x, y, width] = [this.toX(point.x[0]), this.toY(point.y[0]), name.length * 6.6];
      const places = [{ x: x - width - 8, y: y - 18 }, { x: x - width / 2, y: y - 24 }, { x: x + 9, y: y - 18 }, { x: x + 9, y: y + 6 }];
      const box = places.map((place) => ({ ...place, width, height: 14 })).find((each) => each.x > inner.left && each.x + width < inner.right && each.y > inner.top && !taken.some((other) => meets(each, other)));
      if (!box) continue;
      taken.push(box);
      plane.append(svg("text", { class: "name", x: box.x, y: box.y + 11, "aria-hidden": "true" }, name));
    }
  }

  reveal(point) {
    const outside = ["x", "y"].some((axis) => point[axis][0] < this.view[axis][0] || point[axis][0] > this.view[axis][1]);
    if (!outside) return;
    for (const axis of ["x", "y"]) {
      const half = (this.view[axis][1] - this.view[axis][0]) / 2;
      this.view[axis] = [point[axis][0] - half, point[axis][0] + half];
    }
    this.draw();
    [...this.canvas.querySelectorAll(".point")].find((node) => node.dataset.system === point.system)?.focus({ preventScroll: true });
  }

  // A mouse draws the rectangle to zoom into; a finger moves what is zoomed
  pointers(root) {
    const pixel = (event) => {
      const box = root.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * this.width, ((event.clientY - box.top) / box.height) * this.height];
    };
    let start = null;
    let frame = null;
    root.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || (event.pointerType !== "mouse" && this.isWhole())) return;
      start = { pixel: pixel(event), view: structuredClone(this.view) };
      if (event.pointerType === "mouse") {
        event.preventDefault(); // no text is selected
        frame = svg("rect", { class: "selection" });
        root.append(frame);
      }
    });
    root.addEventListener("pointermove", (event) => {
      if (!start) return;
      const [[ax, ay], [bx, by]] = [start.pixel, pixel(event)];
      if (frame) fill(frame, { x: Math.min(ax, bx), y: Math.min(ay, by), width: Math.abs(bx - ax), height: Math.abs(by - ay) }, []);
    });
    const end = (event) => {
      if (!start) return;
      const [from, to] = [this.fromPixel(...start.pixel), this.fromPixel(...pixel(event))];
      const far = Math.hypot(pixel(event)[0] - start.pixel[0], pixel(event)[1] - start.pixel[1]) > 12;
      const drawn = frame;
      start = null;
      frame?.remove();
      frame = null;
      if (!far) return;
      for (const axis of ["x", "y"]) {
        if (drawn) this.view[axis] = [Math.min(from[axis], to[axis]), Math.max(from[axis], to[axis])];
        else this.view[axis] = this.view[axis].map((bound) => bound + from[axis] - to[axis]);
      }
      this.zoomed();
    };
    root.addEventListener("pointerup", end);
    root.addEventListener("pointerleave", end);
    root.addEventListener("dblclick", () => this.reset());
    root.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // else it scrolls the page
      event.preventDefault();
      this.scale(event.deltaY < 0 ? 0.8 : 1.25, this.fromPixel(...pixel(event)));
    }, { passive: false });
  }

  drawKey() {
    const { points, curve } = this.picture;
    if (curve) return;
    const entry = (group, shape, words) =>
      html("li", { class: group }, svg("svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }, svg("path", { class: "shape", d: SHAPES[shape] })), words);
    const groups = [...new Set(points.filter((point) => point.group !== "baseline").map((point) => point.group))].sort();
    const crops = [...new Set(points.map((point) => point.crops).filter((k) => k !== null))].sort();
    const names = { S_k: "Sₖ alone" };
    this.key.replaceChildren(
      ...(points.some((point) => point.group === "baseline") ? [entry("baseline", "cross", "others")] : []),
      ...groups.map((group) => entry(group, "circle", names[group] ?? `Sₖ,${typeset(group)}`)),
      ...(crops.length > 1 ? crops.map((k) => entry("", SHAPE_OF_CROPS[k % SHAPE_OF_CROPS.length], `${k} crop${k === 1 ? "" : "s"}`)) : []),
    );
  }
}

// Points than which no other is both cheaper and more accurate, the cheapest first
function paretoFront(points) {
  const front = [];
  for (const point of [...points].sort((a, b) => a.x[0] - b.x[0] || b.y[0] - a.y[0])) {
    if (!front.length || point.y[0] > front[front.length - 1].y[0]) front.push(point);
  }
  return front;
}

const shortened = (text, width) => (text.length * 6.4 < width - 80 ? text : text.replace(/ \(.*\)/, ""));

// What a mark of a plot stands for, shown while a pointer is over it or the keyboard is on it.

class Tooltip {
  constructor(host) {
    this.host = host;
    this.box = html("div", { class: "tooltip", "aria-hidden": "true", hidden: true });
    host.append(this.box);
    host.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.hide();
    });
  }

  show(mark, lines) {
    this.box.replaceChildren(...lines.map((line) => html("p", {}, line)));
    this.box.hidden = false;
    const host = this.host.getBoundingClientRect();
    const own = (mark.querySelector(".halo, .bar") ?? mark).getBoundingClientRect();
    const x = own.left + own.width / 2 - host.left;
    const left = Math.max(0, Math.min(x - this.box.offsetWidth / 2, host.width - this.box.offsetWidth));
    const above = own.top - host.top - this.box.offsetHeight - 8;
    this.box.style.left = `${left}px`;
    this.box.style.top = `${above >= 0 ? above : own.bottom - host.top + 8}px`;
  }

  hide() {
    this.box.hidden = true;
  }
}

// Marks of a plot are one stop of the Tab key; arrows go from one to the next, and each says its lines
function explore(marks, tooltip, reveal = () => {}) {
  const goTo = (place) => {
    const mark = marks[Math.max(0, Math.min(place, marks.length - 1))];
    for (const { node } of marks) node.setAttribute("tabindex", node === mark.node ? 0 : -1);
    reveal(mark);
    mark.node.focus({ preventScroll: true });
  };
  marks.forEach((mark, place) => {
    const { node, lines } = mark;
    fill(node, { role: "img", "aria-label": lines.join("; "), tabindex: place === 0 ? 0 : -1 }, []);
    node.addEventListener("pointerenter", () => tooltip.show(node, lines));
    node.addEventListener("pointerleave", () => tooltip.hide());
    node.addEventListener("focus", () => tooltip.show(node, lines));
    node.addEventListener("blur", () => tooltip.hide());
    node.addEventListener("keydown", (event) => {
      const step = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: marks.length - 1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      goTo(step);
    });
  });
}

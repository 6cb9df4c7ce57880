const results = JSON.parse(byId("data").textContent);
startTheme();
for (const block of document.querySelectorAll("[data-table]")) startTable(block);
startAccuracy(results.accuracy);
startLayers(results.layers);
startSpeedUps(results.speedUps);
startStrips(results.strips);

// The contents show which section is being read
const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    const link = links.get(target.id);
    link?.setAttribute("aria-current", "true");
    if (link) link.closest("ul").scrollLeft = link.offsetLeft - 24;
  }
}, { rootMargin: "-15% 0px -75% 0px" });
for (const section of document.querySelectorAll("main > section")) seen.observe(section);

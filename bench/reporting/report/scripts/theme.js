// Light, dark, or as the system has it; the choice is kept where the browser lets a file keep something.

const THEMES = ["auto", "light", "dark"];

function storedTheme() {
  try {
    return localStorage.getItem("foveabench-theme");
  } catch {
    return null;
  }
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").querySelector("span").textContent = theme;
}

function startTheme() {
  const button = byId("theme");
  const stored = storedTheme();
  let theme = THEMES.includes(stored) ? stored : "auto";
  setTheme(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    setTheme(theme);
    try {
      localStorage.setItem("foveabench-theme", theme);
    } catch {
      // then it holds until the page is closed
    }
  });
}

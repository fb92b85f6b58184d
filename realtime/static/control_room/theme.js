/** The switch between the system's colours, light and dark. A cookie keeps it: the server writes it into the page. */

const THEMES = ["auto", "light", "dark"];
const YEAR = 31_536_000;

export function offerThemes() {
  const button = document.querySelector("#theme");
  const show = (theme) => {
    button.textContent = `Theme: ${theme}`;
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new Event("themechange"));
  };
  let theme = document.documentElement.dataset.theme ?? "auto";
  button.hidden = false;
  show(theme);
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    const age = theme === "auto" ? 0 : YEAR;
    document.cookie = `control-room-theme=${theme}; path=/; max-age=${age}; samesite=lax`;
    show(theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(theme));
}

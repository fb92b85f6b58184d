// The insights page works without this. With it, what changes is shown while one looks.

const EVERY_MS = 2_000;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

function show(texts) {
  for (const element of document.querySelectorAll("[data-text]")) {
    const text = texts[element.dataset.text] ?? "";
    if (element.textContent !== text) element.textContent = text;
    if (element.matches(".notice")) element.hidden = !text;
  }
  for (const element of document.querySelectorAll("[data-time]")) showTime(element, texts[element.dataset.time]);
}

function showTime(element, iso) {
  if (!iso) return;
  const date = new Date(iso);
  const text = clock.format(date);
  if (element.textContent === text) return;
  element.dateTime = iso;
  element.title = date.toLocaleString();
  element.textContent = text;
}

/** Tables and the chart are made by the server: when what they show has changed, the page is asked for again. */
async function draw() {
  const answer = await fetch(location.href);
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  const main = document.querySelector("main");
  if (main.querySelector("input:focus")) return; // not under somebody's hands
  const scrolled = document.querySelector(".scroll")?.scrollTop ?? 0;
  const focused = document.activeElement?.getAttribute("aria-label");
  main.replaceWith(fresh);
  if (scrolled) document.querySelector(".scroll")?.scrollTo(0, scrolled);
  if (focused) document.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
  localTimes();
}

function localTimes() {
  for (const element of document.querySelectorAll("[data-time][datetime]")) showTime(element, element.dateTime);
}

async function look() {
  try {
    const answer = await fetch("/insights/state/");
    if (answer.redirected) {
      location.reload(); // signed out
      return;
    }
    const { texts, drawing } = await answer.json();
    show(texts);
    if (document.querySelector("main").dataset.drawing !== drawing) await draw();
  } catch {
    // the site is away for a moment: the next look tells
  }
  setTimeout(look, EVERY_MS);
}

localTimes();
look();

/**
 * Works through all jobs that match, a piece a request, until it is over or stopped. Without it "Continue" does.
 * What has the focus keeps it, or hands it on; how it ended is announced.
 */

import { patch } from "./patch.js";

const box = document.querySelector("#run");
let stopped = false;

box.addEventListener("click", ({ target }) => {
  const stop = target.closest("[data-stop]");
  if (!stop) return;
  stopped = true;
  stop.setAttribute("aria-disabled", "true");
  say("Stopped. What was done is done; “Continue” goes on with the rest.");
});
box.addEventListener("submit", (event) => {
  event.preventDefault();
  stopped = false;
  go();
});

async function go() {
  let form;
  while (!stopped && (form = box.querySelector("#run-form"))) {
    going(true);
    try {
      const response = await fetch(form.action, { method: "POST", body: new FormData(form) });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const next = page.querySelector("#run");
      if (!next) {
        const refused = page.querySelector("#main > p:not([hidden])")?.textContent ?? "The server refused to go on.";
        say(response.redirected ? "You are not signed in any more. What was done is done; the rest can be begun anew." : refused);
        break;
      }
      show(next);
    } catch {
      say("The server does not answer. “Continue” tries again.");
      break;
    }
  }
  going(false);
  document.querySelector("#announcer").textContent = box.querySelector("#run-words").textContent;
}

function show(next) {
  const focused = box.contains(document.activeElement);
  going(true, next); // as it is here: a button that is hidden for a moment loses the focus
  patch(box, next.innerHTML);
  box.toggleAttribute("data-over", next.hasAttribute("data-over"));
  if (focused && !box.contains(document.activeElement)) box.querySelector("a").focus();
}

/** One of the two buttons is shown; the focus goes from one to the other. */
function going(on, where = box) {
  const stop = where.querySelector("[data-stop]");
  if (!stop) return;
  const more = where.querySelector(".button.primary");
  const [shown, gone] = on ? [stop, more] : [more, stop];
  stop.removeAttribute("aria-disabled");
  shown.hidden = false;
  if (document.activeElement === gone) shown.focus();
  gone.hidden = true;
}

function say(words) {
  box.querySelector("#run-words").textContent = words;
}

go();

/** Works through all jobs that match, a piece a request, until it is over or stopped. Without it "Continue" does. */

const box = document.querySelector("#run");
let stopped = false;

box.addEventListener("click", ({ target }) => {
  if (!target.closest("[data-stop]")) return;
  stopped = target.closest("[data-stop]").disabled = true;
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
      box.replaceChildren(...next.childNodes);
      box.toggleAttribute("data-over", next.hasAttribute("data-over"));
    } catch {
      say("The server does not answer. “Continue” tries again.");
      break;
    }
  }
  going(false);
}

function going(on) {
  const stop = box.querySelector("[data-stop]");
  if (!stop) return;
  stop.hidden = !on;
  stop.disabled = stopped;
  box.querySelector(".button.primary").hidden = on;
}

function say(words) {
  box.querySelector("#run-words").textContent = words;
}

go();

/**
 * Forms whose button or self has `data-ask` get their question in a dialog. The server asks: what the dialog shows is
 * the page that a browser without scripts would be given.
 */

export function listenToForms() {
  const dialog = document.querySelector("#dialog");
  document.addEventListener("submit", (event) => {
    const { target: form, submitter } = event;
    if (!(form.hasAttribute("data-ask") || submitter?.hasAttribute("data-ask"))) return;
    event.preventDefault();
    ask(dialog, form, submitter);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target.closest("[data-close]") || event.target === dialog) {
      event.preventDefault();
      dialog.close();
    }
  });
}

async function ask(dialog, form, submitter) {
  const address = submitter?.getAttribute("formaction") ?? form.getAttribute("action") ?? location.href;
  submitter?.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(address, { method: "POST", body: new FormData(form, submitter) });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const answer = page.querySelector("form.confirm");
    if (answer) dialog.replaceChildren(heading(page.querySelector("h1").textContent), document.adoptNode(answer));
    else dialog.replaceChildren(...refusal(response, page));
  } catch {
    dialog.replaceChildren(heading("The server does not answer."), close("Close; nothing was done"));
  }
  submitter?.removeAttribute("aria-busy");
  dialog.showModal();
  dialog.querySelector(".confirm-buttons > *")?.focus();
}

function heading(words) {
  const made = document.createElement("h1");
  made.id = "question";
  made.textContent = words.trim();
  return made;
}

/** Why there is no question: nobody is signed in any more, there was nothing to ask, or the server refused. */
function refusal(response, page) {
  const said = page.querySelector("#said");
  if (said) return [heading(said.textContent), close("Close")];
  if (response.redirected) {
    return [heading("Nothing was done: you are not signed in any more. Reload the page to sign in."), close("Close")];
  }
  const words = page.querySelectorAll("main > p:not([hidden], .onwards)");
  return [heading(page.querySelector("h1")?.textContent ?? "The server refused."), ...words, close("Close")];
}

function close(words) {
  const box = document.createElement("div");
  box.className = "confirm-buttons";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button";
  button.dataset.close = "";
  button.textContent = words;
  box.append(button);
  return box;
}

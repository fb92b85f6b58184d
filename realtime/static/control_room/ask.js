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
    const question = page.querySelector("h1");
    const answer = page.querySelector("form.confirm");
    if (answer) dialog.replaceChildren(heading(question), document.adoptNode(answer));
    else dialog.replaceChildren(heading(question), refusal(response));
  } catch {
    dialog.replaceChildren(heading(null), refusal(null));
  }
  submitter?.removeAttribute("aria-busy");
  dialog.showModal();
  dialog.querySelector(".confirm-buttons > *")?.focus();
}

function heading(found) {
  const made = document.createElement("h1");
  made.id = "question";
  made.textContent = found?.textContent.trim() || "The server does not answer.";
  return made;
}

/** Why there is no question: the server refused, or is not there. */
function refusal(response) {
  const box = document.createElement("div");
  box.className = "confirm-buttons";
  const close = document.createElement("button");
  close.type = "button";
  close.className = "button";
  close.dataset.close = "";
  close.textContent = response ? "Close" : "Close; nothing was done";
  box.append(close);
  return box;
}

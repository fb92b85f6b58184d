// Copying to the clipboard, and saying so on the button that did it.

const SAID_MS = 1500;

/** Makes a button copy what `text()` gives. The button says "Copied", or that the browser refused. */
export function copies(button, text) {
  let back = null;
  button.addEventListener("click", async () => {
    const copied = await copy(text());
    clearTimeout(back);
    button.dataset.said = copied ? "Copied" : "Select and copy by hand";
    back = setTimeout(() => delete button.dataset.said, SAID_MS);
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // a page over plain http on another host has no clipboard API
  }
}

function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return copied;
}

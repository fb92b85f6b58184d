// The few DOM helpers that the page needs. Data only ever goes in as text.

export const byId = (id) => document.getElementById(id);

/** Clones a <template> and returns [its first element, its data-part elements by name]. */
export function fromTemplate(id) {
  const root = byId(id).content.firstElementChild.cloneNode(true);
  return [root, parts(root)];
}

/** The data-part elements under `root`, by name. */
export function parts(root) {
  const found = {};
  for (const element of root.querySelectorAll("[data-part]")) found[element.dataset.part] = element;
  return found;
}

/** Writes only what changed: a selection in the page, or a screen reader, is not disturbed by a refresh. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setData(element, name, value) {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

/** Shows `text` in `element`, or hides the element when there is none. */
export function say(element, text) {
  setText(element, text ?? "");
  element.hidden = !text;
}

/** Reads a text aloud to a screen reader. */
export function announce(text) {
  setText(byId("announcer"), text);
}

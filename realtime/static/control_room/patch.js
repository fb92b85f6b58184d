/**
 * Make an element's content what some HTML of the server's says, changing only what differs: what has the focus, is
 * ticked, opened or scrolled stays so. Elements are matched by `id` or `data-key`, the others by their place.
 * What has `data-keep` is left alone.
 */

export function patch(element, html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const focused = document.activeElement;
  children(element, template.content);
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key || null : null);

const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName;

function children(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) {
    const key = keyOf(child);
    if (key !== null) keyed.set(key, child);
  }
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const key = keyOf(wanted);
    // A keyed element whose turn has not come is not taken for another one.
    while (place && key === null && keyOf(place) !== null) place = place.nextSibling;
    const found = key === null ? place : keyed.get(key);
    if (found && alike(found, wanted) && keyOf(found) === key) {
      keyed.delete(key);
      if (found === place) place = place.nextSibling;
      else old.insertBefore(found, place);
      same(found, wanted);
      mark(found);
    } else {
      mark(old.insertBefore(wanted, place));
    }
  }
  for (const child of [...old.childNodes]) {
    if (marked.has(child)) marked.delete(child);
    else child.remove();
  }
}

const marked = new Set();
const mark = (node) => marked.add(node);

function same(old, wanted) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  if (old.hasAttribute("data-keep")) return;
  attributes(old, wanted);
  if (old.nodeName === "TIME" && old.classList.contains("ago")) return; // its words are the page's own
  children(old, wanted);
}

function attributes(old, wanted) {
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!wanted.hasAttribute(name) && !(name === "open" || name === "title" || name === "aria-busy")) old.removeAttribute(name);
  }
}

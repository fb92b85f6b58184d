// The list of deliveries. A row is made once and patched in place from then on; the list is never drawn anew.
import { copies } from "./copy.js";
import { byId, fromTemplate, setData, setText } from "./dom.js";
import { hideTime, showTime } from "./time.js";
import { phase, rowWords, splitUrl, waits, waitsForRetry } from "./words.js";

export class List {
  #deliveries;
  #rows = new Map(); // id -> {element, parts}
  #opened = null;

  constructor(deliveries) {
    this.#deliveries = deliveries;
    deliveries.addEventListener("change", ({ detail: id }) => {
      if (this.#rows.has(id)) this.#patch(id);
      else if (deliveries.loaded) this.#arrange();
    });
    deliveries.addEventListener("page", () => this.#arrange());
    byId("older").addEventListener("click", () => this.#older());
  }

  /** Marks the row that is open in the detail pane. */
  mark(id) {
    for (const one of [this.#opened, id]) {
      const link = this.#rows.get(one)?.element.querySelector("a");
      if (one === id) link?.setAttribute("aria-current", "true");
      else link?.removeAttribute("aria-current");
    }
    this.#opened = id;
  }

  /** Puts missing rows where they belong and takes away those no longer listed. */
  #arrange() {
    const list = byId("rows");
    const listed = this.#deliveries.listed();
    const ids = new Set(listed.map((delivery) => delivery.id));
    for (const [id, { element }] of this.#rows) {
      if (!ids.has(id)) {
        element.remove();
        this.#rows.delete(id);
      }
    }
    let place = list.firstElementChild;
    for (const { id } of listed) {
      const row = this.#rows.get(id) ?? this.#make(id);
      if (row.element === place) place = place.nextElementSibling;
      else list.insertBefore(row.element, place);
    }
    byId("list-loading").hidden = true;
    byId("list-empty").hidden = listed.length > 0;
    byId("older").hidden = !this.#deliveries.more;
  }

  #make(id) {
    const [element, parts] = fromTemplate("row-template");
    const { created_at, url } = this.#deliveries.get(id);
    const link = element.querySelector("a");
    link.href = `/deliveries/${id}/`;
    link.dataset.link = id;
    if (id === this.#opened) link.setAttribute("aria-current", "true");
    const [where, what] = splitUrl(url);
    setText(parts.where, where);
    setText(parts.what, what);
    parts.url.title = url;
    showTime(parts.age, created_at);
    setText(parts.id, id.slice(0, 8));
    copies(parts.id, () => id);
    const row = { element, parts };
    this.#rows.set(id, row);
    this.#patch(id);
    return row;
  }

  #patch(id) {
    const delivery = this.#deliveries.get(id);
    const { element, parts } = this.#rows.get(id);
    const { name, word } = phase(delivery);
    setData(element, "phase", name);
    setText(parts.badge, word);
    setText(parts.words, rowWords(delivery));
    parts.words.title = delivery.reason;
    if (waits(delivery)) showTime(parts.next, delivery.job.due_at, waitsForRetry(delivery) ? "next" : "first");
    else hideTime(parts.next);
  }

  async #older() {
    const button = byId("older");
    button.disabled = true;
    try {
      await this.#deliveries.readOlder();
      setText(byId("list-error"), "");
      byId("list-error").hidden = true;
    } catch (error) {
      setText(byId("list-error"), `Older deliveries could not be read: ${error.message}`);
      byId("list-error").hidden = false;
    } finally {
      button.disabled = false;
    }
  }
}

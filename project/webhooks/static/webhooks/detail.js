// The opened delivery: where it stands, what can be done with it, its timeline.
import { copies } from "./copy.js";
import { announce, byId, parts, say, setData, setText } from "./dom.js";
import { enable, oneAtATime } from "./once.js";
import { hideTime, showTime } from "./time.js";
import { Timeline } from "./timeline.js";
import { headline, phase, shortUrl, splitUrl, waits, waitsForRetry } from "./words.js";

const SAID = {
  retry_now: "Moved into the queue.",
  cancel: "Cancelled.",
  redeliver: "Sent again.",
};

export class Detail {
  #deliveries;
  #socket;
  #parts = parts(byId("detail-body"));
  #timeline = new Timeline(this.#parts.timeline);
  #buttons = [...byId("detail-body").querySelectorAll("[data-action]")];
  #id = null;
  #phase = null;

  constructor(deliveries, socket) {
    this.#deliveries = deliveries;
    this.#socket = socket;
    const act = oneAtATime(this.#buttons, (name) => this.#act(name), byId("detail-heading"));
    for (const button of this.#buttons) button.addEventListener("click", () => act(button.dataset.action));
    copies(this.#parts.id, () => this.#id);
    copies(this.#parts.curl, () => this.#deliveries.get(this.#id).curl);
    deliveries.addEventListener("change", ({ detail: id }) => id === this.#id && this.#show());
    deliveries.addEventListener("missing", ({ detail: id }) => id === this.#id && this.#missing());
  }

  get id() {
    return this.#id;
  }

  allowKill(allowed) {
    this.#timeline.allowKill(allowed);
  }

  /** Opens a delivery, or none (null). */
  open(id) {
    this.#id = id;
    this.#phase = null;
    say(this.#parts.said, "");
    this.#parts.said.hidden = false;
    say(this.#parts.error, "");
    byId("detail-none").hidden = id !== null;
    byId("detail-missing").hidden = true;
    byId("detail-body").hidden = true;
    if (id === null) return;
    this.#show();
    this.#deliveries.read(id).catch((error) => {
      if (error.status !== 404) say(this.#parts.error, `The delivery could not be read: ${error.message}`);
    });
  }

  #missing() {
    setText(parts(byId("detail-missing")).id, this.#id);
    byId("detail-missing").hidden = false;
    byId("detail-body").hidden = true;
  }

  #show() {
    const delivery = this.#deliveries.get(this.#id);
    if (!delivery) return;
    const p = this.#parts;
    const { name, word } = phase(delivery);
    setData(byId("detail-body"), "phase", name);
    setText(p.badge, word);
    const [where, what] = splitUrl(delivery.url);
    setText(p.where, where);
    setText(p.what, what);
    setText(p.headline, headline(delivery));
    if (waits(delivery)) showTime(p.next, delivery.job.due_at, waitsForRetry(delivery) ? "next" : "first");
    else hideTime(p.next);
    setText(p.id, delivery.id);
    if (p.job) p.job.href = document.body.dataset.jobAddress.replace("JOB", `${delivery.id}.${delivery.generation}`);
    showTime(p.created, delivery.created_at);
    p["send-at-fact"].hidden = !delivery.send_at;
    if (delivery.send_at) showTime(p["send-at"], delivery.send_at, "clock");
    p["finished-fact"].hidden = !delivery.finished_at;
    if (delivery.finished_at) showTime(p.finished, delivery.finished_at);
    setText(p.payload, pretty(delivery.payload));
    this.#offerActions(delivery);
    if (delivery.attempts) this.#timeline.show(delivery);
    byId("detail-body").hidden = false;
    byId("detail-missing").hidden = true;
    if (this.#phase && this.#phase !== name) announce(`${shortUrl(delivery.url)}: ${headline(delivery)}`);
    this.#phase = name;
    document.title = `${word} · ${shortUrl(delivery.url)}`;
  }

  #offerActions(delivery) {
    const pending = delivery.state === "pending";
    const possible = {
      retry_now: pending && delivery.job?.state === "scheduled",
      cancel: pending && !delivery.job?.cancel_requested,
      redeliver: !pending,
    };
    for (const button of this.#buttons) enable(button, possible[button.dataset.action]);
    this.#parts.curl.disabled = !delivery.curl;
  }

  async #act(name) {
    const id = this.#id;
    const asOf = performance.now();
    say(this.#parts.error, "");
    setText(this.#parts.said, this.#socket.live ? "" : "Waiting for the connection…");
    try {
      const args = { delivery: id };
      // The generation that was seen: asked for twice, or in two tabs, it is redelivered once.
      if (name === "redeliver") args.generation = this.#deliveries.get(id).generation;
      const { delivery } = await this.#socket.command(name, args);
      this.#deliveries.put(delivery, asOf);
      if (id === this.#id) setText(this.#parts.said, delivery.job?.cancel_requested ? "Asked to stop." : SAID[name]);
    } catch (error) {
      if (id !== this.#id) return;
      setText(this.#parts.said, "");
      say(this.#parts.error, error.fields?.delivery ?? error.message);
    }
    this.#deliveries.touch(id); // whatever was answered, the row is the truth
  }
}

/** JSON with its indentation; what isn't JSON stays as it is. */
function pretty(payload) {
  try {
    return JSON.stringify(JSON.parse(payload), null, 2);
  } catch {
    return payload;
  }
}

// The form that sends a webhook. The server judges the input; its words are shown beside the field they are about.
import { byId, fromTemplate, say, setText } from "./dom.js";
import { oneAtATime } from "./once.js";
import { zone } from "./time.js";

const FIELDS = ["url", "payload", "send_at"];
const OFFERED = "fails twice"; // the receiver to try after the first success

export class Form {
  #form = byId("compose");
  #socket;
  #taken;
  #commandId = null; // kept until the server has answered: the same content, sent again, is the same command
  #offered = null;
  #watched = null; // the delivery sent last

  /** taken(delivery, asOf, queued): called with each delivery that the server has accepted. */
  constructor(deliveries, socket, taken) {
    this.#socket = socket;
    this.#taken = taken;
    setText(byId("send_at-hint"), `Optional; empty: at once. Your time zone: ${zone}.`);
    const send = oneAtATime([byId("deliver")], () => this.#send());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    byId("deliver").addEventListener("click", (event) => {
      if (event.detail > 1) event.preventDefault(); // the second click of a double click
    });
    this.#form.addEventListener("input", (event) => {
      this.#commandId = null;
      if (FIELDS.includes(event.target.name)) this.#complain(event.target.name, "");
    });
    byId("offer-use").addEventListener("click", () => {
      this.#use(this.#offered);
      byId("offer").hidden = true;
      this.#form.url.focus(); // what changed; Enter sends it
    });
    deliveries.addEventListener("change", ({ detail: id }) => this.#offer(deliveries.get(id)));
  }

  /** Offers the site's own receivers; the first one, which succeeds, fills an untouched form. */
  offerReceivers(receivers) {
    const list = byId("receiver-list");
    if (list.childElementCount === receivers.length) return;
    list.replaceChildren(...receivers.map((receiver) => {
      const [item] = fromTemplate("chip-template");
      const button = item.firstElementChild;
      setText(button, receiver.name);
      button.title = receiver.description;
      button.addEventListener("click", () => this.#use(receiver));
      return item;
    }));
    byId("receivers").hidden = receivers.length === 0;
    this.#offered = receivers.find((receiver) => receiver.name === OFFERED) ?? null;
    if (receivers.length && !this.#form.url.value) this.#use(receivers[0]);
  }

  #use(receiver) {
    this.#commandId = null;
    this.#form.url.value = receiver.url;
    this.#complain("url", "");
  }

  async #send() {
    for (const name of FIELDS) this.#complain(name, "");
    say(byId("compose-error"), "");
    byId("offer").hidden = true;
    if (this.#form.send_at.validity.badInput) { // its value would be "", which means at once
      this.#refuse({ send_at: "Not a complete date and time. Fill in all of it, or empty it to send at once." });
      return;
    }
    const { url, payload, send_at } = this.#form;
    const args = { url: url.value.trim(), payload: payload.value };
    if (send_at.value) args.send_at = new Date(send_at.value).toISOString();
    this.#commandId ??= newCommandId();
    const asOf = performance.now();
    setText(byId("compose-said"), this.#socket.live ? "" : "Waiting for the connection; it is sent once.");
    try {
      const { delivery, queued } = await this.#socket.command("deliver", args, { id: this.#commandId });
      this.#commandId = null;
      this.#watched = delivery.id;
      setText(byId("compose-said"), queued === false ? "Kept; it goes out when the store is back." : "Accepted.");
      this.#taken(delivery, asOf, queued);
    } catch (error) {
      if (error.code !== "unavailable") this.#commandId = null;
      setText(byId("compose-said"), "");
      this.#refuse(error.fields ?? {}, error.message);
    }
  }

  #refuse(fields, message) {
    const named = FIELDS.filter((name) => fields[name]);
    for (const name of named) this.#complain(name, fields[name]);
    if (named.length) this.#form[named[0]].focus();
    else say(byId("compose-error"), message);
  }

  #complain(name, words) {
    say(byId(`${name}-error`), words);
    if (words) this.#form[name].setAttribute("aria-invalid", "true");
    else this.#form[name].removeAttribute("aria-invalid");
  }

  /** After a delivery from here has arrived: the receiver that shows what retries look like. */
  #offer(delivery) {
    if (delivery.id !== this.#watched || delivery.state !== "delivered") return;
    this.#watched = null;
    byId("offer").hidden = !this.#offered || delivery.url === this.#offered.url;
    const pane = byId("offer").closest(".pane");
    pane.scrollTop = pane.scrollHeight; // on a low screen the form scrolls in its own place
  }
}

function newCommandId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The socket and its state, which is always in sight: live, reconnecting in 4 s, caught up with 12 events.
import { connect } from "../realtime/client.js";
import { announce, byId, setData, setText } from "./dom.js";
import { socketWords } from "./words.js";

/** Events: "live" after each connect, "signed-out". */
export class Connection extends EventTarget {
  #socket = connect("/ws/deliveries/", { user: document.body.dataset.user });
  #status = { state: "connecting", retryIn: null, caughtUp: null };
  #since = performance.now();

  constructor() {
    super();
    this.#socket.onstatus = (status) => this.#changed(status);
    setInterval(() => this.#show(), 250);
  }

  get live() {
    return this.#status.state === "live";
  }

  /** Resolves with the server's answer; the client sends it again after a reconnect until there is one. */
  command(name, args, options) {
    return this.#socket.command(name, args, options);
  }

  subscribe(topic, handlers) {
    return this.#socket.subscribe(topic, handlers);
  }

  #changed(status) {
    const before = this.#status;
    this.#status = status;
    if (["state", "retryIn", "caughtUp"].some((name) => status[name] !== before[name])) this.#since = performance.now();
    this.#show();
    if (status.state === before.state) return;
    if (status.state === "live") this.dispatchEvent(new Event("live"));
    if (status.state === "closed" && status.code === 4401) this.dispatchEvent(new Event("signed-out"));
    if (before.state !== "connecting" || status.state !== "live") announce(`Connection: ${socketWords(status, 0)}`);
  }

  #show() {
    setData(byId("socket"), "state", this.#status.state);
    setText(byId("socket-words"), socketWords(this.#status, performance.now() - this.#since));
  }
}

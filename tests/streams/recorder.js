/**
 * client.js in the hands of a rig: it follows topics, submits commands, and remembers what it was given. `tell` gets
 * ["live", connections], and ["resumed", replayed, recovered] once every topic goes on after a reconnect.
 */

import { connect } from "../../realtime/static/realtime/client.js";

/** Quicker than a browser should be: a rig reconnects a thousand times. */
const TIMES = { reconnectBase: 40, reconnectCap: 400, pingEvery: 500, pongTimeout: 2500, probeTimeout: 2500, welcomeTimeout: 8000 };

export class Recorder {
  #tell;
  #connections = 0;
  #answers = new Map(); // topic -> whether it was recovered, of this connection
  #known = new Set(); // topics that have been followed
  #live = false;
  #told = true;
  #answered = 0;
  #refused = [];
  seen;

  constructor(url, topics, tell, options = {}) {
    this.#tell = tell;
    this.seen = Object.fromEntries(topics.map((topic) => [topic, []]));
    this.client = connect(url, { ...TIMES, ...options });
    this.client.onstatus = (status) => this.#status(status);
    this.client.onanswer = ({ error }) => this.#answer(error);
    for (const topic of topics) {
      this.client.subscribe(topic, {
        event: (event) => this.#event(event),
        subscribed: (info) => this.#subscribed(info),
      });
    }
  }

  #status({ state, caughtUp }) {
    if (state !== "live") {
      this.#answers.clear();
      this.#told = false;
    } else if (!this.#told && caughtUp !== null) {
      this.#told = true;
      this.#tell("resumed", caughtUp, [...this.#answers.values()].every(Boolean));
    }
    if (state === "live" && this.#answers.size === 0 && !this.#live) this.#tell("live", (this.#connections += 1));
    this.#live = state === "live";
  }

  #subscribed({ topic, recovered }) {
    this.#answers.set(topic, recovered || !this.#known.has(topic)); // cut before its first answer: nothing to recover
    this.#known.add(topic);
    if (!recovered) this.seen[topic] = []; // what it knew is void, said the client
  }

  #event({ topic, epoch, offset, name, data }) {
    this.seen[topic].push([epoch, offset, name, data.data?.n ?? null]);
  }

  /** Submit so many commands and wait for none of them; returns how many the client has taken. */
  submit(count) {
    for (let number = 0; number < count; number += 1) {
      this.client.command("order", { number }).then(() => this.#answer(), (error) => this.#answer(error));
    }
    return count;
  }

  #answer(error) {
    if (error) this.#refused.push(`${error.code}: ${error.message}`);
    else this.#answered += 1;
  }

  report() {
    return { seen: this.seen, answered: this.#answered, refused: this.#refused, status: this.client.status };
  }
}

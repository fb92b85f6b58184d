/** The followed topics: where each handler is, what is asked for, gaps. A part of client.js. */

import { CommandError } from "./errors.js";
import { RETRYABLE } from "./iteration.js";
import { backoff, Timers } from "./timers.js";

export class Topics {
  #link;
  #timers;
  #topics = new Map(); // name -> {handlers, confirmed, refused, left (of the replay), refusals}
  #missed = null; // events replayed since the reconnect; null: not after one, or told already

  /** `link`: {env, times, send(make), guard(work), caughtUp(count)}. */
  constructor(link) {
    this.#link = link;
    this.#timers = new Timers(link.env);
  }

  subscribe(name, on, after) {
    let topic = this.#topics.get(name);
    if (!topic) {
      topic = { handlers: new Set(), confirmed: false, refused: false, left: 0, refusals: 0 };
      this.#topics.set(name, topic);
    }
    const handler = { on, epoch: after?.epoch ?? null, offset: after?.offset ?? null, fresh: false };
    topic.handlers.add(handler);
    this.#ask(name, topic);
    return () => {
      if (!topic.handlers.delete(handler) || topic.handlers.size || this.#topics.get(name) !== topic) return;
      this.#topics.delete(name);
      this.#timers.clear(name);
      this.#link.send(() => (this.#topics.has(name) ? null : { type: "unsubscribe", topic: name }));
    };
  }

  /** How far each topic has been told to all of its handlers: name -> {epoch, offset}. */
  places() {
    const found = [...this.#topics].map(([name, topic]) => [name, this.#frame(name, topic)]);
    return new Map(found.filter(([, frame]) => frame.epoch > 0).map(([name, { epoch, offset }]) => [name, { epoch, offset }]));
  }

  connected(again) {
    this.#missed = again ? 0 : null;
    for (const [name, topic] of this.#topics) this.#ask(name, topic);
    this.#maybeCaughtUp();
  }

  disconnected() {
    this.#timers.clearAll();
    this.#missed = null;
    for (const topic of this.#topics.values()) topic.confirmed = false;
  }

  /** The socket is closed for good. */
  closed(error) {
    for (const topic of this.#topics.values()) {
      for (const handler of [...topic.handlers]) this.#call(handler, "error", error);
    }
  }

  subscribed({ topic: name, epoch, offset, replayed }) {
    const topic = this.#topics.get(name);
    if (!topic) return;
    const start = offset - replayed;
    topic.confirmed = true;
    topic.refusals = 0;
    topic.left = replayed;
    if (this.#missed !== null) this.#missed += replayed;
    for (const handler of [...topic.handlers]) {
      // From the log's end when it was empty (epoch 0), events count from 1 in whatever log follows.
      const same = handler.offset !== null && (handler.epoch === epoch || handler.epoch === 0);
      const recovered = same && start <= handler.offset && handler.offset <= offset;
      handler.fresh = !recovered;
      handler.epoch = epoch;
      if (!recovered) handler.offset = start;
      const info = { topic: name, epoch, offset, recovered, replayed: offset - handler.offset };
      this.#call(handler, "subscribed", info);
    }
    this.#maybeCaughtUp();
  }

  snapshot({ topic: name, data }) {
    for (const handler of [...(this.#topics.get(name)?.handlers ?? [])]) {
      if (handler.fresh) this.#call(handler, "snapshot", data);
    }
  }

  /** `first`: the event stands for all from there to its own offset (progress that a newer one has overtaken). */
  event(event) {
    const topic = this.#topics.get(event.topic);
    if (!topic?.confirmed) return; // of a subscription that is being made again
    const first = event.first ?? event.offset;
    for (const handler of [...topic.handlers]) {
      if (handler.offset === null) continue; // it came after this subscription: its own is on the way
      const follows = handler.epoch === event.epoch || (handler.epoch === 0 && handler.offset === 0);
      if (!follows || first > handler.offset + 1) {
        this.#ask(event.topic, topic); // a gap: ask for what is between
        return;
      }
      if (event.offset <= handler.offset) continue; // seen
      handler.epoch = event.epoch;
      handler.offset = event.offset;
      this.#call(handler, "event", event);
    }
    if (topic.left > 0) {
      topic.left -= event.offset - first + 1;
      this.#maybeCaughtUp();
    }
  }

  /** A topic's error frame: tried again, with backoff, where that can help. */
  refused({ topic: name, code, message, fields }) {
    const topic = this.#topics.get(name);
    if (!topic) return;
    if (RETRYABLE.has(code)) {
      const { retryBase, reconnectCap } = this.#link.times;
      const delay = retryBase + backoff(topic.refusals, retryBase, reconnectCap, this.#link.env.random);
      topic.refusals += 1;
      this.#timers.set(name, delay, () => this.#ask(name, topic));
    }
    topic.refused = true;
    const error = new CommandError(code, message, fields);
    for (const handler of [...topic.handlers]) this.#call(handler, "error", error);
    this.#maybeCaughtUp();
  }

  #ask(name, topic) {
    topic.confirmed = topic.refused = false;
    this.#timers.clear(name);
    this.#link.send(() => (this.#topics.get(name) === topic ? this.#frame(name, topic) : null));
  }

  /** Where the handlers of a topic are: the one that is furthest behind decides, a new one needs everything. */
  #frame(name, topic) {
    const frame = { type: "subscribe", topic: name };
    const handlers = [...topic.handlers];
    if (handlers.some((handler) => handler.offset === null)) return frame;
    const { epoch } = handlers[0];
    if (handlers.some((handler) => handler.epoch !== epoch)) return frame;
    return { ...frame, epoch, offset: Math.min(...handlers.map((handler) => handler.offset)) };
  }

  /** After a reconnect, once every topic is followed again and its replay has arrived: say how much that was. */
  #maybeCaughtUp() {
    if (this.#missed === null) return;
    for (const topic of this.#topics.values()) {
      if (!topic.refused && (!topic.confirmed || topic.left > 0)) return;
    }
    const missed = this.#missed;
    this.#missed = null;
    this.#link.caughtUp(missed);
  }

  #call(handler, kind, argument) {
    this.#link.guard(() => handler.on[kind]?.(argument));
  }
}

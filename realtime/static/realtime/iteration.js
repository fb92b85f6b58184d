/** Events as an async iterable. A part of client.js. */

/** Subscription errors after which the client asks again by itself. */
export const RETRYABLE = new Set(["unavailable", "internal", "too_fast"]);

/**
 * The events of one topic, to be read by one `for await`. At most `capacity` of them wait to be taken: beyond, the topic
 * is let go, and followed again from there when they have been.
 *
 * `subscribe(handlers, place)` follows the topic after a place ({epoch, offset}, null: from its start).
 */
export class EventStream {
  #subscribe;
  #capacity;
  #keep;
  #items = [];
  #takers = []; // of next() calls that wait
  #place = null;
  #stop = null;
  #end = null; // {error} once there is no more

  /** `keep(item)`: whether an item is wanted. `signal`: ends the iteration, as `break` and `return()` do. */
  constructor(subscribe, { capacity = 1000, keep = () => true, signal = null } = {}) {
    this.#subscribe = subscribe;
    this.#capacity = capacity;
    this.#keep = keep;
    signal?.addEventListener("abort", () => this.return());
    if (signal?.aborted) this.#finish(null);
    else this.#follow();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  next() {
    if (this.#items.length) {
      const value = this.#items.shift();
      if (!this.#items.length && !this.#stop && !this.#end) this.#follow();
      return Promise.resolve({ value, done: false });
    }
    if (!this.#end) return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }));
    const { error } = this.#end;
    this.#end = { error: null }; // an error is thrown once
    return error ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true });
  }

  return(value) {
    this.#items = [];
    this.#finish(null);
    return Promise.resolve({ value, done: true });
  }

  /** No more comes after what waits to be taken. */
  finish() {
    this.#finish(null);
  }

  #follow() {
    let first = this.#place === null;
    const handlers = {
      event: (event) => {
        this.#place = { epoch: event.epoch, offset: event.offset };
        this.#push(event);
      },
      snapshot: (data) => this.#push({ type: "snapshot", data }),
      subscribed: ({ epoch, offset, recovered, replayed }) => {
        this.#place = { epoch, offset: offset - replayed };
        if (!recovered && !first) this.#push({ type: "reset", epoch, offset });
        first = false;
      },
      error: (error) => {
        if (!RETRYABLE.has(error.code)) this.#finish(error.byPage ? null : error);
      },
    };
    this.#stop = this.#subscribe(handlers, this.#place);
  }

  #push(item) {
    if (this.#end || !this.#keep(item)) return;
    const taker = this.#takers.shift();
    if (taker) taker.resolve({ value: item, done: false });
    else this.#items.push(item);
    if (this.#items.length >= this.#capacity) this.#leave();
  }

  #leave() {
    this.#stop?.();
    this.#stop = null;
  }

  #finish(error) {
    if (this.#end) return;
    this.#leave();
    const taker = error ? this.#takers.shift() : null;
    this.#end = { error: taker ? null : error };
    taker?.reject(error);
    for (const waiting of this.#takers.splice(0)) waiting.resolve({ value: undefined, done: true });
  }
}

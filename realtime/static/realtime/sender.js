/** Frames on their way out, at a pace that the server accepts. A part of client.js. */

import { Timers } from "./timers.js";

export class Sender {
  #env;
  #times;
  #write;
  #timers;
  #queue = []; // functions that give the frame, or null when it is not wanted any more
  #tokens = 0;
  #tokensAt = 0;
  #open = false;

  constructor(env, times, write) {
    this.#env = env;
    this.#times = times;
    this.#write = write;
    this.#timers = new Timers(env);
  }

  start() {
    this.#open = true;
    this.#tokens = this.#times.framesBurst;
    this.#tokensAt = this.#env.now();
  }

  /** Nothing is kept for the next connection: who wants something sent over it says so then. */
  stop() {
    this.#open = false;
    this.#queue = [];
    this.#timers.clearAll();
  }

  send(make) {
    if (!this.#open) return;
    this.#queue.push(make);
    this.#pump();
  }

  #pump() {
    if (this.#timers.has("pump")) return;
    const { framesPerSecond, framesBurst } = this.#times;
    const now = this.#env.now();
    this.#tokens = Math.min(framesBurst, this.#tokens + ((now - this.#tokensAt) * framesPerSecond) / 1000);
    this.#tokensAt = now;
    while (this.#queue.length && this.#tokens >= 1) {
      const frame = this.#queue.shift()();
      if (frame === null) continue;
      this.#tokens -= 1;
      this.#write(frame);
    }
    if (this.#queue.length) this.#timers.set("pump", 1000 / framesPerSecond, () => this.#pump());
  }
}

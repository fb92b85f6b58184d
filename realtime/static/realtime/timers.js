/** Time and chance. A part of client.js. */

/** Full jitter: anywhere between nothing and the cap of this attempt. */
export function backoff(attempt, base, cap, random) {
  return Math.round(random() * Math.min(cap, base * 2 ** Math.min(attempt, 30)));
}

/** Named timers, one of each name at a time. */
export class Timers {
  #env;
  #running = new Map();

  constructor(env) {
    this.#env = env;
  }

  has(name) {
    return this.#running.has(name);
  }

  set(name, ms, work) {
    this.clear(name);
    const timer = this.#env.setTimeout(() => {
      this.#running.delete(name);
      work();
    }, ms);
    this.#running.set(name, timer);
  }

  clear(name) {
    if (!this.#running.has(name)) return;
    this.#env.clearTimeout(this.#running.get(name));
    this.#running.delete(name);
  }

  clearAll() {
    for (const name of [...this.#running.keys()]) this.clear(name);
  }
}

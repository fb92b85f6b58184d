/**
 * Where commands wait for their answer: in this page's memory, or in the browser's storage as well, so that a reload, a
 * crash or a closed tab loses none. A part of client.js.
 *
 * A stored command is one key of localStorage, `realtime-outbox:<user> <path>:<id>`: written before `command()` returns (a
 * reload right after a click can't lose it, as it could with IndexedDB's later commit), and written by one tab only. Each
 * page holds a Web Lock under its own name. Whoever sees commands of another page queues for that page's lock and gets it
 * when that page is gone, however it went: then, and only then, its commands are taken over. Where there are no Web Locks
 * (plain http) a page takes over at its start what it finds; two tabs may then send the same command, which has one id
 * and so is one command to the server.
 */

const PREFIX = "realtime-outbox:";

/** This page's memory. */
export class MemoryOutbox {
  #commands = new Map();

  put(command) {
    this.#commands.set(command.id, command);
  }

  get(id) {
    return this.#commands.get(id) ?? null;
  }

  delete(id) {
    this.#commands.delete(id);
  }

  entries() {
    return [...this.#commands.values()];
  }

  open() {}

  close() {}
}

/** The browser's storage, for one user at one address. Commands of other users are neither seen nor sent. */
export class StoredOutbox {
  #own = new MemoryOutbox(); // what this page answers for; storage is its copy
  #page;
  #prefix;
  #maxAge;
  #env;
  #adopted = () => {};
  #queued = new Set(); // pages whose end is waited for
  #closed = new AbortController();
  #listener = (event) => this.#seen(event);

  /** `maxAge`: ms, older commands are removed unsent. `environment`: storage, locks, window, wallClock, report. */
  constructor(user, path, page, maxAge, environment) {
    this.#page = page;
    this.#prefix = `${PREFIX}${encodeURIComponent(user)} ${encodeURIComponent(path)}:`;
    this.#maxAge = maxAge;
    this.#env = environment;
  }

  /** Begin: `adopted` is called whenever commands of a page that is gone were taken over. */
  open(adopted) {
    this.#adopted = adopted;
    this.#lock(this.#page, () => this.#untilClosed());
    this.#env.window.addEventListener("storage", this.#listener);
    for (const key of this.#keys(PREFIX)) {
      const stored = this.#read(key);
      const age = stored ? Math.abs(this.#env.wallClock() - stored.at) : Infinity;
      if (age > this.#maxAge) this.#env.storage.removeItem(key);
      else if (key.startsWith(this.#prefix)) this.#inherit(stored.page);
    }
  }

  /** End: other pages may take over what is left. */
  close() {
    this.#env.window.removeEventListener("storage", this.#listener);
    this.#closed.abort();
  }

  put(command) {
    this.#own.put(command);
    try {
      this.#env.storage.setItem(this.#prefix + command.id, JSON.stringify({ ...command, page: this.#page }));
    } catch (error) {
      this.#env.report(error); // full or forbidden: it is still sent, from memory, but would not survive a reload
    }
  }

  get(id) {
    return this.#own.get(id);
  }

  delete(id) {
    this.#own.delete(id);
    this.#env.storage.removeItem(this.#prefix + id);
  }

  entries() {
    return this.#own.entries();
  }

  #untilClosed() {
    const { signal } = this.#closed;
    return new Promise((resolve) => (signal.aborted ? resolve() : signal.addEventListener("abort", resolve)));
  }

  #seen({ key, newValue }) {
    if (!newValue || !key?.startsWith(this.#prefix) || !this.#env.locks) return; // without locks: it lives, it sends
    const stored = this.#read(key);
    if (stored) this.#inherit(stored.page);
  }

  /** Take over the commands of another page once it is gone. */
  #inherit(page) {
    if (page === this.#page || this.#queued.has(page)) return;
    if (!this.#env.locks) {
      this.#adopt(page);
      return;
    }
    this.#queued.add(page);
    this.#lock(page, () => {
      this.#queued.delete(page); // news of it may still arrive: then it is asked for again
      this.#adopt(page);
    });
  }

  #adopt(page) {
    const left = this.#keys(this.#prefix).map((key) => this.#read(key)).filter((stored) => stored?.page === page);
    for (const { page: _, ...command } of left.sort((a, b) => a.at - b.at)) this.put(command);
    if (left.length) this.#adopted();
  }

  #lock(page, work) {
    this.#env.locks?.request(PREFIX + page, { signal: this.#closed.signal }, work).catch((error) => {
      if (error.name !== "AbortError") this.#env.report(error);
    });
  }

  #keys(prefix) {
    const { storage } = this.#env;
    return Array.from({ length: storage.length }, (_, index) => storage.key(index)).filter((key) => key?.startsWith(prefix));
  }

  /** What is stored under a key; null when it is no command, whoever wrote it. */
  #read(key) {
    try {
      const stored = JSON.parse(this.#env.storage.getItem(key));
      return typeof stored.id === "string" && typeof stored.page === "string" && stored.at > 0 ? stored : null;
    } catch {
      return null;
    }
  }
}

/**
 * The browser's side of the realtime protocol, version 1: one socket that comes back by itself, topics that continue
 * where they were, and commands that are sent until they are answered. No dependencies. Types: client.d.ts.
 *
 *     import { connect } from "/static/realtime/client.js";
 *     const socket = connect("/ws/deliveries/");
 *     socket.onstatus = (status) => show(status);
 *     const stop = socket.subscribe("user.5", { event(e) {}, snapshot(data) {} });
 *     const result = await socket.command("deliver", { url, payload });
 */

/** The version of the protocol that this client speaks. */
export const VERSION = 1;

/** Times in ms; pace in frames per second, below what the server allows; size in bytes. */
export const DEFAULTS = Object.freeze({
  reconnectBase: 500,
  reconnectCap: 20_000,
  welcomeTimeout: 10_000, // from the attempt to connect to the welcome frame
  steadyAfter: 5_000, // live for this long: the next reconnect starts at the base again
  pingEvery: 20_000, // of silence
  pongTimeout: 10_000,
  probeTimeout: 4_000, // after the network or the page came back
  retryBase: 1_000, // of a refused subscription, or a command that came too fast
  framesPerSecond: 15,
  framesBurst: 30,
  frameBytes: 1_000_000, // servers drop the connection over larger ones, which would be sent again and again
});

/** Close codes after which trying again would not help, with what to say. */
const FINAL = new Map([
  [1008, "the server refused this page's messages"],
  [4401, "you are not signed in"],
  [4403, "you are not allowed to follow this"],
  [4429, "the server refused too many of this page's messages"],
]);
const RETRYABLE = new Set(["unavailable", "internal", "too_fast"]);
const ID = /^[A-Za-z0-9_-]{1,64}$/;

/** Why a command or a subscription was refused. `code` as in the protocol, or "closed" or "timeout". */
export class CommandError extends Error {
  constructor(code, message, fields = {}) {
    super(message);
    this.name = "CommandError";
    this.code = code;
    this.fields = fields;
  }
}

/** Commands that wait for their answer, in order. Another implementation with these methods can persist them. */
export class MemoryOutbox {
  #commands = new Map();

  put(id, frame) {
    this.#commands.set(id, frame);
  }

  delete(id) {
    this.#commands.delete(id);
  }

  get(id) {
    return this.#commands.get(id) ?? null;
  }

  entries() {
    return [...this.#commands.entries()];
  }
}

/** Open a socket to a path or URL and keep it open. See client.d.ts for the options. */
export function connect(url, options = {}) {
  return new Socket(url, options);
}

/** Full jitter: anywhere between nothing and the cap of this attempt. */
export function backoff(attempt, base, cap, random) {
  return Math.round(random() * Math.min(cap, base * 2 ** Math.min(attempt, 30)));
}

function browser() {
  return {
    WebSocket: globalThis.WebSocket,
    setTimeout: (work, ms) => globalThis.setTimeout(work, ms),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
    now: () => performance.now(),
    random: Math.random,
    window: globalThis.window ?? new EventTarget(),
    document: globalThis.document ?? new EventTarget(),
    report: (error) => console.error(error),
  };
}

function absolute(url) {
  const base = globalThis.location?.href;
  const found = base ? new URL(url, base) : new URL(url);
  found.protocol = found.protocol.replace(/^http/, "ws");
  return found.href;
}

function makeId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is not there on plain http
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

class Socket {
  /** Called with every change of `status`; set it, or read `status`. */
  onstatus = null;
  /** Called with a CommandError about a frame that was no command and no subscription. */
  onerror = null;

  #url;
  #env;
  #times;
  #outbox;
  #socket = null;
  #status = { state: "connecting", retryIn: null, caughtUp: null, pending: 0, code: null, reason: "" };
  #attempt = 0; // failed ones since the socket was last steady
  #everLive = false;
  #liveSince = 0;
  #heardAt = 0;
  #timers = new Map(); // name -> timer: one of each kind at a time
  #topics = new Map(); // name -> {handlers, confirmed, refused, left (of the replay), refusals}
  #waiting = new Map(); // command id -> {promise, resolve, reject}
  #queue = []; // frames to send, each a function that gives the frame or null
  #tokens;
  #tokensAt = 0;
  #caughtUp = 0;
  #listeners = [];

  constructor(url, options) {
    const { outbox = new MemoryOutbox(), environment = {}, ...times } = options;
    this.#url = absolute(url);
    this.#env = { ...browser(), ...environment };
    this.#times = { ...DEFAULTS, ...times };
    this.#outbox = outbox;
    this.#tokens = this.#times.framesBurst;
    this.#status.pending = outbox.entries().length;
    this.#listen(this.#env.window, "online", () => this.#hurry());
    this.#listen(this.#env.window, "offline", () => this.#probe());
    this.#listen(this.#env.document, "visibilitychange", () => {
      if (this.#env.document.visibilityState === "visible") this.#hurry();
    });
    this.#open();
  }

  /** What is going on: see Status in client.d.ts. */
  get status() {
    return { ...this.#status };
  }

  /**
   * Follow a topic. Handlers: event(event), snapshot(data), subscribed(info), error(commandError); each optional.
   * Every handler sees each event once and in order; `subscribed` with recovered false means: start over.
   * Returns the function that stops it.
   */
  subscribe(name, handlers) {
    let topic = this.#topics.get(name);
    if (!topic) {
      topic = { handlers: new Set(), confirmed: false, refused: false, left: 0, refusals: 0 };
      this.#topics.set(name, topic);
    }
    const handler = { on: handlers, epoch: null, offset: null, fresh: false };
    topic.handlers.add(handler);
    this.#subscribeSoon(name, topic);
    return () => {
      if (!topic.handlers.delete(handler) || topic.handlers.size || this.#topics.get(name) !== topic) return;
      this.#topics.delete(name);
      this.#clear(`retry ${name}`);
      this.#enqueue(() => (this.#topics.has(name) ? null : { type: "unsubscribe", topic: name }));
    };
  }

  /**
   * Send a command until it is answered, over as many connections as that takes, always with the same id.
   * Resolves with the result; rejects with a CommandError. With `timeout` (ms) it rejects with code "timeout" when no
   * answer has come by then; the command is still sent, and asking again with the same id waits for its answer.
   */
  command(name, args = {}, { id = makeId(), timeout = null } = {}) {
    if (!ID.test(id)) return Promise.reject(new CommandError("bad_input", `A command id is 1-64 of A-Za-z0-9_-: ${id}`));
    if (this.#status.state === "closed") return Promise.reject(this.#closedError());
    const frame = { type: "command", id, name, args };
    const bytes = new TextEncoder().encode(JSON.stringify(frame)).length;
    if (bytes > this.#times.frameBytes) return Promise.reject(new CommandError("bad_input", `${bytes} bytes are too many`));
    let waiting = this.#waiting.get(id);
    if (!waiting) {
      waiting = this.#wait(id);
      if (!this.#outbox.get(id)) {
        this.#outbox.put(id, frame);
        this.#sendCommand(id);
      }
      this.#report({});
    }
    return timeout === null ? waiting.promise : this.#within(timeout, waiting.promise);
  }

  /** Close for good. Commands without an answer reject with code "closed". */
  close() {
    this.#stop(1000, "closed by this page");
  }

  // The connection.

  #open() {
    this.#clear("reconnect");
    this.#clear("countdown");
    this.#report({ state: this.#everLive ? "reconnecting" : "connecting", retryIn: null });
    let socket;
    try {
      socket = new this.#env.WebSocket(this.#url);
    } catch (error) {
      this.#stop(null, String(error));
      return;
    }
    this.#socket = socket;
    socket.onmessage = (message) => {
      if (socket === this.#socket) this.#receive(message.data);
    };
    socket.onclose = (event) => {
      if (socket === this.#socket) this.#lost(event.code, event.reason);
    };
    this.#after("welcome", this.#times.welcomeTimeout, () => this.#drop("no welcome from the server"));
  }

  /** Give up this socket without waiting for the other side, which may be gone. */
  #drop(reason) {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#lost(1006, reason);
  }

  #lost(code, reason) {
    this.#disconnect();
    if (FINAL.has(code)) {
      this.#stop(code, reason || FINAL.get(code));
      return;
    }
    if (this.#liveSince && this.#env.now() - this.#liveSince >= this.#times.steadyAfter) this.#attempt = 0;
    this.#liveSince = 0;
    const delay = backoff(this.#attempt, this.#times.reconnectBase, this.#times.reconnectCap, this.#env.random);
    this.#attempt += 1;
    this.#after("reconnect", delay, () => this.#open());
    this.#countDown(this.#env.now() + delay, { code, reason });
  }

  #countDown(until, change = {}) {
    const left = Math.max(0, until - this.#env.now());
    this.#report({ state: "reconnecting", retryIn: left, caughtUp: null, ...change });
    if (left > 0) this.#after("countdown", Math.min(1000, left), () => this.#countDown(until));
  }

  /** The network or the page is back: connect now, or find out now whether the socket is still alive. */
  #hurry() {
    if (this.#timers.has("reconnect")) this.#open();
    else this.#probe();
  }

  #probe() {
    if (this.#status.state === "live") this.#ping(this.#times.probeTimeout);
  }

  #beat() {
    const silent = this.#env.now() - this.#heardAt;
    if (silent >= this.#times.pingEvery) this.#ping(this.#times.pongTimeout);
    else this.#after("beat", this.#times.pingEvery - silent, () => this.#beat());
  }

  #ping(timeout) {
    this.#clear("beat");
    this.#write({ type: "ping" });
    this.#after("pong", timeout, () => this.#drop("the server does not answer"));
  }

  #disconnect() {
    if (this.#socket) this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket = null;
    this.#queue = [];
    for (const name of [...this.#timers.keys()]) if (!name.startsWith("timeout ")) this.#clear(name);
    for (const topic of this.#topics.values()) topic.confirmed = false;
  }

  #stop(code, reason) {
    if (this.#status.state === "closed") return;
    const socket = this.#socket;
    this.#disconnect();
    socket?.close();
    for (const [target, kind, listener] of this.#listeners) target.removeEventListener(kind, listener);
    this.#report({ state: "closed", retryIn: null, caughtUp: null, code, reason });
    for (const waiting of this.#waiting.values()) waiting.reject(this.#closedError());
    this.#waiting.clear();
  }

  #closedError() {
    return new CommandError("closed", `The connection is closed: ${this.#status.reason}.`);
  }

  // Frames from the server.

  #receive(data) {
    this.#heardAt = this.#env.now();
    if (this.#timers.has("pong")) {
      this.#clear("pong"); // whatever it is, the server is there
      this.#beat();
    }
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      this.#drop("the server sent something that is not JSON");
      return;
    }
    switch (frame.type) {
      case "welcome":
        return this.#welcome(frame);
      case "event":
        return this.#event(frame);
      case "subscribed":
        return this.#subscribed(frame);
      case "snapshot":
        return this.#snapshot(frame);
      case "ack":
        return this.#settle(frame.id, (waiting) => waiting.resolve(frame.result));
      case "error":
        return this.#error(frame);
      case "check":
        return this.#write({ type: "checked", n: frame.n });
    } // a pong was heard already; other types are for newer clients
  }

  #welcome(frame) {
    this.#clear("welcome");
    if (frame.v !== VERSION) {
      this.#stop(null, `the server speaks version ${frame.v} and this page version ${VERSION}: reload the page`);
      return;
    }
    this.#liveSince = this.#env.now();
    this.#tokens = this.#times.framesBurst;
    this.#tokensAt = this.#liveSince;
    this.#caughtUp = this.#everLive ? 0 : null;
    this.#everLive = true;
    this.#report({ state: "live", retryIn: null, caughtUp: null, code: null, reason: "" });
    for (const [name, topic] of this.#topics) this.#subscribeSoon(name, topic);
    for (const [id] of this.#outbox.entries()) this.#sendCommand(id);
    this.#beat();
    this.#maybeCaughtUp();
  }

  #subscribeSoon(name, topic) {
    topic.confirmed = topic.refused = false;
    this.#enqueue(() => (this.#topics.get(name) === topic ? this.#subscribeFrame(name, topic) : null));
  }

  /** Where the handlers of a topic are: the one that is furthest behind decides, a new one needs everything. */
  #subscribeFrame(name, topic) {
    const frame = { type: "subscribe", topic: name };
    const handlers = [...topic.handlers];
    if (handlers.some((handler) => handler.offset === null)) return frame;
    const { epoch } = handlers[0];
    if (handlers.some((handler) => handler.epoch !== epoch)) return frame;
    return { ...frame, epoch, offset: Math.min(...handlers.map((handler) => handler.offset)) };
  }

  #subscribed({ topic: name, epoch, offset, replayed }) {
    const topic = this.#topics.get(name);
    if (!topic) return;
    const start = offset - replayed;
    topic.confirmed = true;
    topic.refusals = 0;
    topic.left = replayed;
    if (this.#caughtUp !== null) this.#caughtUp += replayed;
    for (const handler of topic.handlers) {
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

  #snapshot({ topic: name, data }) {
    for (const handler of this.#topics.get(name)?.handlers ?? []) {
      if (handler.fresh) this.#call(handler, "snapshot", data);
    }
  }

  #event(event) {
    const topic = this.#topics.get(event.topic);
    if (!topic?.confirmed) return; // of a subscription that is being made again
    for (const handler of topic.handlers) {
      if (handler.offset === null) continue; // it came after this subscription: its own is on the way
      const follows = handler.epoch === event.epoch || (handler.epoch === 0 && handler.offset === 0);
      if (!follows || event.offset > handler.offset + 1) {
        this.#subscribeSoon(event.topic, topic); // a gap: ask for what is between
        return;
      }
      if (event.offset <= handler.offset) continue; // seen
      handler.epoch = event.epoch;
      handler.offset = event.offset;
      this.#call(handler, "event", event);
    }
    if (topic.left > 0) {
      topic.left -= 1;
      this.#maybeCaughtUp();
    }
  }

  /** After a reconnect, once every topic is followed again and its replay has arrived: say how much that was. */
  #maybeCaughtUp() {
    if (this.#caughtUp === null || this.#status.caughtUp !== null) return;
    for (const topic of this.#topics.values()) {
      if (!topic.refused && (!topic.confirmed || topic.left > 0)) return;
    }
    this.#report({ caughtUp: this.#caughtUp });
    this.#caughtUp = null;
  }

  #error({ id, topic: name, code, message, fields }) {
    const error = new CommandError(code, message, fields);
    const topic = this.#topics.get(name);
    if (id !== undefined && code === "too_fast") {
      this.#after(`resend ${id}`, this.#times.retryBase * (1 + this.#env.random()), () => this.#sendCommand(id));
    } else if (id !== undefined) {
      this.#settle(id, (waiting) => waiting.reject(error));
    } else if (topic) {
      if (RETRYABLE.has(code)) {
        const { retryBase, reconnectCap } = this.#times;
        const delay = retryBase + backoff(topic.refusals, retryBase, reconnectCap, this.#env.random);
        topic.refusals += 1;
        this.#after(`retry ${name}`, delay, () => this.#subscribeSoon(name, topic));
      }
      topic.refused = true;
      for (const handler of topic.handlers) this.#call(handler, "error", error);
      this.#maybeCaughtUp();
    } else if (name === undefined) {
      this.#guard(() => this.onerror?.(error));
    }
  }

  // Commands.

  #wait(id) {
    const waiting = {};
    waiting.promise = new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject }));
    waiting.promise.catch(() => {}); // who asked hears of it; nobody having asked (yet) is no error
    this.#waiting.set(id, waiting);
    return waiting;
  }

  #settle(id, tell) {
    this.#outbox.delete(id);
    this.#clear(`resend ${id}`);
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (waiting) tell(waiting);
    this.#report({});
  }

  #sendCommand(id) {
    this.#enqueue(() => this.#outbox.get(id));
  }

  #within(timeout, promise) {
    return new Promise((resolve, reject) => {
      const key = `timeout ${makeId()}`;
      const sentence = `No answer within ${timeout} ms; the command stays in the outbox and is sent until it is answered.`;
      this.#after(key, timeout, () => reject(new CommandError("timeout", sentence)));
      promise.then(resolve, reject).finally(() => this.#clear(key));
    });
  }

  // Sending, at a pace that the server accepts. Nothing is queued while there is no socket: `#welcome` starts over.

  #enqueue(make) {
    if (this.#status.state !== "live") return;
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
    if (this.#queue.length) this.#after("pump", 1000 / framesPerSecond, () => this.#pump());
  }

  #write(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  // Small things.

  #report(change) {
    const before = JSON.stringify(this.#status);
    Object.assign(this.#status, change, { pending: this.#outbox.entries().length });
    if (JSON.stringify(this.#status) !== before) this.#guard(() => this.onstatus?.(this.status));
  }

  #call(handler, kind, argument) {
    this.#guard(() => handler.on[kind]?.(argument));
  }

  #guard(work) {
    try {
      work();
    } catch (error) {
      this.#env.report(error); // the page's own mistake must not end the socket
    }
  }

  #after(name, ms, work) {
    this.#clear(name);
    const timer = this.#env.setTimeout(() => {
      this.#timers.delete(name);
      work();
    }, ms);
    this.#timers.set(name, timer);
  }

  #clear(name) {
    if (!this.#timers.has(name)) return;
    this.#env.clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #listen(target, kind, listener) {
    target.addEventListener(kind, listener);
    this.#listeners.push([target, kind, listener]);
  }
}

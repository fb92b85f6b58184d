/**
 * The browser's side of the realtime protocol, version 1: one socket that comes back by itself, topics that continue
 * where they were, and commands that are sent until they are answered. No dependencies. Types: client.d.ts.
 *
 *     const socket = connect("/ws/deliveries/", { user: "5" });
 *     socket.onstatus = (status) => show(status);
 *     const stop = socket.subscribe("user.5", { event(e) {}, snapshot(data) {} });
 *     for await (const event of socket.events("user.5")) show(event);
 *     const work = socket.submit("deliver", { url, payload });
 *     await work.done;
 */

import { Commands, makeId } from "./commands.js";
import { CommandError } from "./errors.js";
import { EventStream } from "./iteration.js";
import { JobError, JobView } from "./job.js";
import { MemoryOutbox, StoredOutbox } from "./outbox.js";
import { Sender } from "./sender.js";
import { Submission } from "./submission.js";
import { backoff, Timers } from "./timers.js";
import { Topics } from "./topics.js";

export { backoff, CommandError, JobError, JobView };

/** The version of the protocol that this client speaks. */
export const VERSION = 1;

/** Times in ms; pace in frames per second, below what the server allows; sizes in bytes. */
export const DEFAULTS = Object.freeze({
  reconnectBase: 500,
  reconnectCap: 20_000,
  welcomeTimeout: 10_000, // from the attempt to connect to the welcome frame
  steadyAfter: 5_000, // live for this long: the next reconnect starts at the base again
  pingEvery: 20_000, // of silence
  pongTimeout: 10_000,
  probeTimeout: 4_000, // after the network or the page came back
  retryBase: 1_000, // of a refused subscription, or a command that came too fast
  resendFor: 240_000, // a command that was sent and not answered: less than the server remembers it (DEDUP_SECONDS)
  keepFor: 86_400_000, // a command that was never sent
  framesPerSecond: 15,
  framesBurst: 30,
  commandsUnderWay: 10, // sent and not answered
  frameBytes: 1_000_000, // servers drop the connection over larger ones, which would be sent again and again
  outboxCommands: 500,
  outboxBytes: 2_000_000,
});

/** Close codes after which trying again would not help, with what to say. */
const FINAL = new Map([
  [1008, "the server refused this page's messages"],
  [4400, "the server does not speak this page's version: reload the page"],
  [4401, "you are not signed in"],
  [4403, "you are not allowed to follow this"],
  [4429, "the server refused too many of this page's messages"],
]);
/** Too many sockets of this user: this one gives way until its page is used again, or two pages would take turns. */
const PARKED = 4409;
const OURS = new Set(["hello", "subscribe", "unsubscribe", "command", "ping", "checked"]);

/** Open a socket to a path or URL and keep it open. See client.d.ts for the options. */
export function connect(url, options = {}) {
  return new Socket(url, options);
}

function browser() {
  return {
    WebSocket: globalThis.WebSocket,
    setTimeout: (work, ms) => globalThis.setTimeout(work, ms),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
    now: () => performance.now(),
    wallClock: () => Date.now(),
    random: Math.random,
    window: globalThis.window ?? new EventTarget(),
    document: globalThis.document ?? new EventTarget(),
    storage: allowed(() => globalThis.window?.localStorage),
    locks: globalThis.navigator?.locks,
    report: (error) => console.error(error),
  };
}

/** What the browser gives, or undefined where it refuses (storage, with cookies turned off). */
function allowed(give) {
  try {
    return give();
  } catch {
    return undefined;
  }
}

function absolute(url) {
  const base = globalThis.location?.href;
  const found = base ? new URL(url, base) : new URL(url);
  found.protocol = found.protocol.replace(/^http/, "ws");
  return found;
}

class Socket extends EventTarget {
  /** Called with every change of `status`, of which there is a "status" event as well. */
  onstatus = null;
  /** Called with a CommandError about a frame that was no command and no subscription. */
  onerror = null;
  /** Called with the answer of a command that this page did not ask for: one that a page before it left behind. */
  onanswer = null;
  /** Called with frames of types that are not of this protocol: a project's own. */
  onmessage = null;

  #url;
  #user;
  #env;
  #times;
  #timers;
  #sender;
  #topics;
  #commands;
  #socket = null;
  #status = { state: "connecting", retryIn: null, caughtUp: null, pending: 0, code: null, reason: "" };
  #attempt = 0; // failed ones since the socket was last steady
  #everLive = false;
  #liveSince = 0;
  #heardAt = 0;
  #farewell = ""; // the sentence that the server sent before its close
  #clockOffset = 0; // the server's clock minus this machine's, ms
  #listening = new AbortController();

  constructor(url, { user = null, environment = {}, ...times } = {}) {
    super();
    const found = absolute(url);
    this.#url = found.href;
    this.#user = user === null || user === "" ? null : String(user);
    this.#env = { ...browser(), ...environment };
    this.#times = { ...DEFAULTS, ...times };
    this.#timers = new Timers(this.#env);
    this.#sender = new Sender(this.#env, this.#times, (frame) => this.#write(frame));
    const link = {
      env: this.#env,
      times: this.#times,
      send: (make) => this.#sender.send(make),
      guard: (work) => this.#guard(work),
      report: () => this.#report({}),
      caughtUp: (count) => this.#report({ caughtUp: count }),
      answer: (answer) => this.#guard(() => this.onanswer?.(answer)),
    };
    this.#topics = new Topics(link);
    this.#commands = new Commands(link, this.#makeOutbox(found.pathname));
    this.#commands.open();
    this.#listen(this.#env.window, "online", () => this.#hurry());
    this.#listen(this.#env.window, "offline", () => this.#probe());
    this.#listen(this.#env.window, "pageshow", (event) => event.persisted && this.#hurry());
    this.#listen(this.#env.window, "focus", () => this.#unpark());
    this.#listen(this.#env.document, "resume", () => this.#hurry());
    this.#listen(this.#env.document, "visibilitychange", () => {
      if (this.#env.document.visibilityState === "visible") this.#hurry();
    });
    this.#open();
  }

  /** What is going on: see Status in client.d.ts. */
  get status() {
    return { ...this.#status };
  }

  /** The commands without an answer yet, those of earlier pages included: [{id, name, args}]. */
  get pending() {
    return this.#commands.list();
  }

  /** The server's time, ms since 1970, as far as it is known: countdowns to a `due` are right on a wrong clock too. */
  get serverTime() {
    return this.#env.wallClock() + this.#clockOffset;
  }

  /**
   * Follow a topic. Handlers: event(event), snapshot(data), subscribed(info), error(commandError); each optional.
   * Every handler sees each event once and in order; `subscribed` with recovered false means: start over.
   * Returns the function that stops it.
   */
  subscribe(name, handlers, after = null) {
    return this.#topics.subscribe(name, handlers, after);
  }

  /** The same as an async iterable of events, snapshots and resets: see client.d.ts. */
  events(name, { after = null, ...options } = {}) {
    return new EventStream((handlers, place) => this.subscribe(name, handlers, place ?? after), options);
  }

  /**
   * Send a command until it is answered, over as many connections as that takes, always with the same id.
   * Resolves with the result; rejects with a CommandError. With `timeout` (ms) it rejects with code "timeout" when no
   * answer has come by then; the command is still sent, and asking again with the same id waits for its answer.
   */
  command(name, args = {}, options = {}) {
    if (this.#status.state === "closed") return Promise.reject(this.#closedError());
    this.#unpark();
    return this.#commands.command(name, args, options);
  }

  /**
   * Send a command whose result says which job it made, {topic, job}, and follow that job to its end:
   * {id, ack, events, done}. See client.d.ts.
   */
  submit(name, args = {}, { id = null, timeout = null } = {}) {
    const places = id === null ? this.#topics.places() : new Map(); // an id of the page's may have been used before
    const made = id ?? makeId();
    return new Submission(this, made, this.command(name, args, { id: made, timeout }), places);
  }

  /** Send a frame of a project's own type, if there is a connection; it is neither kept nor sent again. */
  send(frame) {
    if (OURS.has(frame.type)) throw new TypeError(`"${frame.type}" frames are made by this client`);
    if (this.#status.state !== "live") return false;
    this.#sender.send(() => frame);
    return true;
  }

  /** Close for good. Commands without an answer reject with code "closed"; stored ones are sent by the next page. */
  close() {
    this.#stop(1000, "closed by this page");
  }

  // The connection.

  #open() {
    this.#timers.clearAll();
    this.#report({ state: this.#everLive ? "reconnecting" : "connecting", retryIn: null });
    this.#farewell = "";
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
    this.#timers.set("welcome", this.#times.welcomeTimeout, () => this.#drop("no welcome from the server"));
  }

  /** Give up this socket without waiting for the other side, which may be gone. */
  #drop(reason) {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#lost(1006, reason);
  }

  #lost(code, reason) {
    const said = reason || this.#farewell;
    this.#disconnect();
    if (FINAL.has(code)) {
      this.#stop(code, said || FINAL.get(code));
      return;
    }
    if (this.#liveSince && this.#env.now() - this.#liveSince >= this.#times.steadyAfter) this.#attempt = 0;
    this.#liveSince = 0;
    if (code === PARKED) {
      const why = said || "this page is open in too many places; it goes on here when it is used";
      this.#report({ state: "parked", retryIn: null, caughtUp: null, code, reason: why });
      return;
    }
    const delay = backoff(this.#attempt, this.#times.reconnectBase, this.#times.reconnectCap, this.#env.random);
    this.#attempt += 1;
    this.#timers.set("reconnect", delay, () => this.#open());
    this.#countDown(this.#env.now() + delay, { code, reason: said });
  }

  #countDown(until, change = {}) {
    const left = Math.max(0, until - this.#env.now());
    this.#report({ state: "reconnecting", retryIn: left, caughtUp: null, ...change });
    if (left > 0) this.#timers.set("countdown", Math.min(1000, left), () => this.#countDown(until));
  }

  /** The network or the page is back: connect now, or find out now whether the socket is still alive. */
  #hurry() {
    this.#unpark();
    if (this.#timers.has("reconnect")) this.#open();
    else this.#probe();
  }

  #unpark() {
    if (this.#status.state === "parked") this.#open();
  }

  #probe() {
    if (this.#status.state === "live") this.#ping(this.#times.probeTimeout);
  }

  #beat() {
    const silent = this.#env.now() - this.#heardAt;
    if (silent >= this.#times.pingEvery) this.#ping(this.#times.pongTimeout);
    else this.#timers.set("beat", this.#times.pingEvery - silent, () => this.#beat());
  }

  #ping(timeout) {
    this.#timers.clear("beat");
    this.#write({ type: "ping" });
    this.#timers.set("pong", timeout, () => this.#drop("the server does not answer"));
  }

  #disconnect() {
    if (this.#socket) this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket = null;
    this.#timers.clearAll();
    this.#sender.stop();
    this.#topics.disconnected();
    this.#commands.disconnected();
  }

  #stop(code, reason) {
    if (this.#status.state === "closed") return;
    const socket = this.#socket;
    this.#disconnect();
    socket?.close();
    this.#listening.abort();
    this.#report({ state: "closed", retryIn: null, caughtUp: null, code, reason });
    this.#topics.closed(this.#closedError());
    this.#commands.closed(this.#closedError());
  }

  #closedError() {
    const error = new CommandError("closed", `The connection is closed: ${this.#status.reason}.`);
    return Object.assign(error, { byPage: this.#status.code === 1000 });
  }

  // Frames from the server.

  #receive(data) {
    this.#heardAt = this.#env.now();
    if (this.#timers.has("pong")) {
      this.#timers.clear("pong"); // whatever it is, the server is there
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
        return this.#topics.event(frame);
      case "subscribed":
        return this.#topics.subscribed(frame);
      case "snapshot":
        return this.#topics.snapshot(frame);
      case "ack":
        return this.#commands.acknowledged(frame);
      case "error":
        return this.#error(frame);
      case "check":
        return this.#write({ type: "checked", n: frame.n });
      case "pong":
        return; // heard already
      default:
        this.#guard(() => this.onmessage?.(frame));
    }
  }

  #welcome({ v, user, now, dedup }) {
    this.#timers.clear("welcome");
    if (v !== VERSION) {
      this.#stop(null, `the server speaks version ${v} and this page version ${VERSION}: reload the page`);
      return;
    }
    if (user !== undefined && this.#user !== null && user !== this.#user) {
      this.#stop(null, "somebody else has signed in here: reload the page");
      return;
    }
    this.#user ??= user ?? null;
    if (now) this.#clockOffset = now - this.#env.wallClock();
    const again = this.#everLive;
    this.#liveSince = this.#env.now();
    this.#everLive = true;
    this.#sender.start();
    this.#report({ state: "live", retryIn: null, caughtUp: null, code: null, reason: "" });
    this.#topics.connected(again);
    this.#commands.connected(dedup);
    this.#beat();
  }

  #error(frame) {
    if (frame.code === "closing") this.#farewell = frame.message;
    else if (frame.id !== undefined) this.#commands.refused(frame);
    else if (frame.topic !== undefined) this.#topics.refused(frame);
    else this.#guard(() => this.onerror?.(new CommandError(frame.code, frame.message, frame.fields)));
  }

  // Small things.

  #makeOutbox(path) {
    if (this.#user === null || !this.#env.storage) return new MemoryOutbox();
    return new StoredOutbox(this.#user, path, makeId(), this.#times.keepFor, this.#env);
  }

  #write(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  #report(change) {
    const before = JSON.stringify(this.#status);
    Object.assign(this.#status, change, { pending: this.#commands.pending });
    if (JSON.stringify(this.#status) === before) return;
    this.#guard(() => this.onstatus?.(this.status));
    this.dispatchEvent(new Event("status"));
  }

  #guard(work) {
    try {
      work();
    } catch (error) {
      this.#env.report(error); // the page's own mistake must not end the socket
    }
  }

  #listen(target, kind, listener) {
    target.addEventListener(kind, listener, { signal: this.#listening.signal });
  }
}

/** Commands from their call to their answer, over as many connections as that takes. A part of client.js. */

import { CommandError } from "./errors.js";
import { Timers } from "./timers.js";

const ID = /^[A-Za-z0-9_-]{1,64}$/;

export function makeId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is not there on plain http
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Commands {
  #link;
  #outbox;
  #resends;
  #deadlines;
  #waiting = new Map(); // id -> {promise, resolve, reject} of this page's own calls
  #resendFor;
  #connected = false;
  #underWay = new Set(); // ids sent over this connection and not answered
  #held = new Set(); // ids for which there is no room among those, in order

  /** `link`: {env, times, send(make), report(), answer(told)}; `answer` hears what no call of this page waits for. */
  constructor(link, outbox) {
    this.#link = link;
    this.#outbox = outbox;
    this.#resends = new Timers(link.env);
    this.#deadlines = new Timers(link.env);
    this.#resendFor = link.times.resendFor;
  }

  /** Begin with what pages before this one have left. */
  open() {
    this.#outbox.open(() => this.#adopted());
  }

  get pending() {
    return this.#outbox.entries().length;
  }

  /** What waits for its answer, in order. */
  list() {
    return this.#outbox.entries().map(({ id, name, args }) => ({ id, name, args }));
  }

  command(name, args, { id = makeId(), timeout = null } = {}) {
    const answer = this.#waiting.get(id)?.promise ?? this.#begin(id, name, args);
    return timeout === null ? answer : this.#within(timeout, answer);
  }

  connected(remembersSeconds) {
    if (remembersSeconds) this.#resendFor = Math.min(this.#link.times.resendFor, remembersSeconds * 800);
    this.#connected = true;
    this.#expire();
    for (const { id } of this.#outbox.entries()) this.#send(id);
  }

  disconnected() {
    this.#connected = false;
    this.#resends.clearAll();
    this.#underWay.clear();
    this.#held.clear();
  }

  /** The socket is closed for good; what is stored is for the next page. */
  closed(error) {
    this.#deadlines.clearAll();
    this.#outbox.close();
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }

  acknowledged({ id, result }) {
    this.#settle(id, { result });
  }

  refused({ id, code, message, fields }) {
    if (code !== "too_fast") {
      this.#settle(id, { error: new CommandError(code, message, fields) });
      return;
    }
    const { times, env } = this.#link;
    this.#resends.set(id, times.retryBase * (1 + env.random()), () => this.#transmit(id));
  }

  #begin(id, name, args) {
    if (!ID.test(id)) return refusal("bad_input", `A command id is 1-64 of A-Za-z0-9_-: ${id}`);
    if (!this.#outbox.get(id)) {
      const { frameBytes, outboxBytes, outboxCommands } = this.#link.times;
      const bytes = new TextEncoder().encode(JSON.stringify({ type: "command", id, name, args })).length;
      if (bytes > frameBytes) return refusal("bad_input", `A command takes at most ${frameBytes} bytes, this one has ${bytes}.`);
      const kept = this.#outbox.entries().reduce((sum, command) => sum + command.bytes, 0);
      if (this.pending >= outboxCommands || kept + bytes > outboxBytes) {
        return refusal("outbox_full", `${this.pending} commands wait for their answers already; this one was not taken.`);
      }
      this.#outbox.put({ id, name, args, bytes, at: this.#link.env.wallClock(), sentAt: null });
      this.#send(id);
      this.#expire();
    }
    const waiting = {};
    waiting.promise = new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject }));
    waiting.promise.catch(() => {}); // who asked hears of it; nobody having asked (yet) is no error
    this.#waiting.set(id, waiting);
    this.#link.report();
    return waiting.promise;
  }

  #adopted() {
    this.#expire();
    for (const { id } of this.#outbox.entries()) if (!this.#waiting.has(id)) this.#send(id);
    this.#link.report();
  }

  /**
   * Few at a time: what a network that stood still lets through at once, or what a slow command keeps waiting, must fit
   * into what the server takes, or it would close the socket for good as abused.
   */
  #send(id) {
    if (!this.#connected || this.#underWay.has(id)) return; // when connected again, all of them are sent
    if (this.#underWay.size < this.#link.times.commandsUnderWay) this.#transmit(id);
    else this.#held.add(id);
  }

  #sendNext() {
    for (const id of this.#held) {
      if (this.#underWay.size >= this.#link.times.commandsUnderWay) return;
      this.#held.delete(id);
      this.#transmit(id);
    }
  }

  #transmit(id) {
    this.#underWay.add(id);
    this.#link.send(() => {
      const command = this.#outbox.get(id);
      if (command === null) return null;
      if (command.sentAt === null) {
        this.#outbox.put({ ...command, sentAt: this.#link.env.wallClock() });
        this.#expire();
      }
      return { type: "command", id, name: command.name, args: command.args };
    });
  }

  #settle(id, answer) {
    const command = this.#outbox.get(id);
    this.#outbox.delete(id);
    this.#resends.clear(id);
    this.#underWay.delete(id);
    this.#held.delete(id);
    this.#sendNext();
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (waiting && answer.error) waiting.reject(answer.error);
    else if (waiting) waiting.resolve(answer.result);
    else if (command) this.#link.answer({ id, name: command.name, args: command.args, ...answer });
    this.#link.report();
  }

  /** Give up what is too old, saying so, and look again when the next one is. */
  #expire() {
    const now = this.#link.env.wallClock();
    const { keepFor } = this.#link.times;
    let next = Infinity;
    for (const { id, at, sentAt } of this.#outbox.entries()) {
      const unsentLeft = keepFor - Math.abs(now - at); // a clock that was put back does not prolong it
      const doubtLeft = sentAt === null ? Infinity : this.#resendFor - Math.abs(now - sentAt);
      if (doubtLeft <= 0) this.#settle(id, { error: inDoubt(this.#resendFor) });
      else if (unsentLeft <= 0) this.#settle(id, { error: expired(keepFor) });
      else next = Math.min(next, unsentLeft, doubtLeft);
    }
    if (next < Infinity) this.#deadlines.set("expire", Math.min(next, 2 ** 31 - 1), () => this.#expire());
    else this.#deadlines.clear("expire");
  }

  #within(timeout, promise) {
    return new Promise((resolve, reject) => {
      const key = `timeout ${makeId()}`;
      const sentence = `No answer within ${timeout} ms; the command stays in the outbox and is sent until it is answered.`;
      this.#deadlines.set(key, timeout, () => reject(new CommandError("timeout", sentence)));
      promise.then(resolve, reject).finally(() => this.#deadlines.clear(key));
    });
  }
}

function refusal(code, message) {
  const promise = Promise.reject(new CommandError(code, message));
  promise.catch(() => {});
  return promise;
}

function inDoubt(ms) {
  const sentence = `It was sent and not answered within ${Math.round(ms / 1000)} s, and the server may soon forget its id`;
  return new CommandError("in_doubt", `${sentence}: it is not known whether it was done. Look before doing it again.`);
}

function expired(ms) {
  return new CommandError("expired", `It could not be sent for ${Math.round(ms / 60_000)} minutes and was given up; nothing was done.`);
}

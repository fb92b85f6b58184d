/**
 * <job-progress url="/ws/reports/" topic="user.5" job="report-7"></job-progress>
 *
 * Shows how far a job is: a bar, what it says, which try it is, when the next one starts, why it failed. Attributes: `url`
 * of a JobConsumer, `topic`, `job` (without it: the topic's newest job), `label` (what a screen reader calls the bar).
 * Its `state` attribute is the job's, to style by; so are the parts text, percent, bar, fill, note, and the variables
 * --job-progress-accent, -good, -warn, -bad, -track, -height, -radius. Events: "job-change" and "job-end", with the JobView
 * as `detail`. Give it the page's own socket as its `socket` property to save a second one. Works under a strict
 * Content-Security-Policy: no inline script, no inline style.
 */

import { connect, JobView } from "./client.js";

const STYLE = `
:host {
  --accent: var(--job-progress-accent, light-dark(#2a52c9, #8fabff));
  --good: var(--job-progress-good, light-dark(#18744a, #6fcf9a));
  --warn: var(--job-progress-warn, light-dark(#8a5300, #e6b55c));
  --bad: var(--job-progress-bad, light-dark(#b3261e, #ff9a90));
  --track: var(--job-progress-track, color-mix(in srgb, currentColor 14%, transparent));
  --fill: var(--accent);
  display: block;
  font-variant-numeric: tabular-nums;
}
:host([hidden]) { display: none; }
:host([state="succeeded"]) { --fill: var(--good); }
:host([state="waiting"]) { --fill: var(--warn); }
:host(:is([state="dead"], [state="expired"])) { --fill: var(--bad); }
:host([state="cancelled"]) { --fill: color-mix(in srgb, currentColor 45%, transparent); }
.head { display: flex; justify-content: space-between; gap: 1em; }
.text { min-width: 0; overflow-wrap: anywhere; }
.bar {
  overflow: hidden; height: var(--job-progress-height, 0.5em); margin-block: 0.35em;
  border-radius: var(--job-progress-radius, 1em); background: var(--track);
}
.fill { height: 100%; inline-size: 0; border-radius: inherit; background: var(--fill); transition: inline-size 0.2s linear; }
.note { margin: 0; font-size: 0.867em; overflow-wrap: anywhere; color: color-mix(in srgb, currentColor 75%, transparent); }
.note:empty, .percent:empty { display: none; }
:host([state="waiting"]) .note { color: var(--warn); }
:host(:is([state="dead"], [state="expired"])) .note { color: var(--bad); }
:host([state="running"]) .bar:not([aria-valuenow]) .fill { inline-size: 30%; animation: run 1.4s ease-in-out infinite alternate; }
:host(:is([state="dead"], [state="expired"])) .bar:not([aria-valuenow]) .fill { inline-size: 100%; }
.announcer { position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); }
@keyframes run { to { margin-inline-start: 70%; } }
@media (prefers-reduced-motion: reduce) {
  .fill { transition: none; }
  :host([state="running"]) .bar:not([aria-valuenow]) .fill { inline-size: 100%; opacity: 0.45; animation: none; }
}
@media (forced-colors: active) {
  .bar { border: 1px solid CanvasText; }
  .fill { background: Highlight; forced-color-adjust: none; }
}`;

/** So long a state lasts before it is read aloud: a replay runs through many at once. */
const ANNOUNCE_MS = 400;

/** Sockets that elements opened: one for each URL, closed with the last of its elements. */
const sockets = new Map();

function borrow(element) {
  const url = new URL(element.getAttribute("url"), location.href).href;
  let shared = sockets.get(url);
  if (!shared) {
    shared = { socket: connect(url), elements: new Set() };
    sockets.set(url, shared);
  }
  shared.elements.add(element);
  const giveBack = () => {
    shared.elements.delete(element);
    if (shared.elements.size || sockets.get(url) !== shared) return;
    sockets.delete(url);
    shared.socket.close();
  };
  return [shared.socket, giveBack];
}

/** "8 s", "4 min 10 s", "2 h 5 min", "3 d 4 h". */
function duration(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit));
  if (minutes === 0) return `${seconds} s`;
  if (hours === 0) return `${minutes} min ${seconds % 60} s`;
  return days === 0 ? `${hours} h ${minutes % 60} min` : `${days} d ${hours % 24} h`;
}

export class JobProgress extends HTMLElement {
  static observedAttributes = ["url", "topic", "job", "label"];

  /** What it says; replace them to speak another language. */
  static words = {
    label: "Progress",
    unknown: "Waiting for news",
    scheduled: "Scheduled",
    ready: "Waiting for a worker",
    running: "Running",
    waiting: "Failed, and will be tried again",
    succeeded: "Done",
    dead: "Failed",
    cancelled: "Cancelled",
    expired: "Expired",
    startsIn: (time) => `starts in ${time}`,
    due: "due, waiting for a worker",
    nextTry: (number, of) => (of === null ? `try ${number}` : `try ${number} of ${of}`),
    tries: (number) => (number === 1 ? "after 1 try" : `after ${number} tries`),
    rescued: "taken over from a worker that vanished",
    away: "not connected at the moment",
    closed: (reason) => `not connected: ${reason}`,
  };

  #socket = null;
  #parts = {};
  #view = new JobView();
  #job = null;
  #seen = new Set(); // jobs of the topic that came before the newest
  #following = null; // {socket, stop}
  #announced = "";
  #timers = {};

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    const head = document.createElement("div");
    head.className = "head";
    head.append(this.#make("text"), this.#make("percent", { "aria-hidden": "true" }));
    const bar = this.#make("bar", { role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, "div");
    bar.append(this.#make("fill", {}, "div"));
    root.append(head, bar, this.#make("note", {}, "p"), this.#make("announcer", { role: "status" }));
  }

  #make(name, attributes = {}, tag = "span") {
    const element = document.createElement(tag);
    for (const [attribute, value] of Object.entries({ class: name, part: name, ...attributes })) {
      element.setAttribute(attribute, value);
    }
    return (this.#parts[name] = element);
  }

  /** The page's own socket, in place of one to `url`. */
  get socket() {
    return this.#socket;
  }

  set socket(socket) {
    this.#socket = socket;
    if (this.isConnected) this.#follow();
  }

  /** Where the job stands. */
  get view() {
    return this.#view;
  }

  connectedCallback() {
    this.#follow();
  }

  disconnectedCallback() {
    this.#leave();
  }

  attributeChangedCallback(name, before, after) {
    if (before === after || !this.isConnected) return;
    if (name === "label") this.refresh();
    else this.#follow();
  }

  #follow() {
    this.#leave();
    this.#startOver();
    const topic = this.getAttribute("topic");
    if (!topic || !(this.#socket || this.getAttribute("url"))) return;
    const [socket, giveBack] = this.#socket ? [this.#socket, () => {}] : borrow(this);
    const stop = socket.subscribe(topic, {
      event: (event) => this.#apply(event),
      subscribed: ({ recovered }) => {
        if (!recovered) this.#startOver();
      },
    });
    const changed = () => this.refresh();
    socket.addEventListener("status", changed);
    const end = () => {
      socket.removeEventListener("status", changed);
      stop();
      giveBack();
    };
    this.#following = { socket, end };
    this.refresh();
  }

  #leave() {
    this.#following?.end();
    this.#following = null;
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
  }

  #startOver() {
    this.#view = new JobView();
    this.#job = this.getAttribute("job");
    this.#seen.clear();
    this.refresh();
  }

  #apply(event) {
    if (event.job !== this.#job) {
      if (this.hasAttribute("job") || this.#seen.has(event.job)) return;
      this.#seen.add(this.#job);
      this.#job = event.job;
      this.#view = new JobView();
    }
    const { ended } = this.#view;
    this.#view.apply(event);
    this.refresh();
    const detail = this.#view;
    this.dispatchEvent(new CustomEvent("job-change", { detail, bubbles: true }));
    if (detail.ended && !ended) this.dispatchEvent(new CustomEvent("job-end", { detail, bubbles: true }));
  }

  /** Show what is known. */
  refresh() {
    const { words } = JobProgress;
    const view = this.#view;
    const { text, percent, bar, fill, note } = this.#parts;
    const state = view.waitsForRetry ? "waiting" : view.state;
    this.setAttribute("state", state);
    const said = (view.state === "running" && view.text) || words[state];
    const done = view.fraction === null ? null : Math.floor(view.fraction * 100);
    text.textContent = said;
    percent.textContent = done === null ? "" : `${done} %`;
    fill.style.inlineSize = done === null ? "" : `${view.fraction * 100}%`;
    note.textContent = this.#notes().join(" · ");
    bar.setAttribute("aria-label", this.getAttribute("label") || words.label);
    if (done === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(done));
    bar.setAttribute("aria-valuetext", done === null ? said : `${done} %, ${said}`);
    this.#announce([words[state], ...this.#lasting()].join(", "));
  }

  #notes() {
    const { words } = JobProgress;
    const notes = this.#lasting();
    const { due, ended } = this.#view;
    clearTimeout(this.#timers.tick);
    if (due !== null && this.#following) {
      const left = due - this.#following.socket.serverTime;
      notes.splice(1, 0, left > 0 ? words.startsIn(duration(left)) : words.due);
      this.#timers.tick = setTimeout(() => this.refresh(), left > 0 ? left % 1000 || 1000 : 1000);
    }
    const { state, reason } = this.#following?.socket.status ?? { state: "live" };
    if (!ended && state === "closed") notes.push(words.closed(reason));
    else if (!ended && (state === "reconnecting" || state === "parked")) notes.push(words.away);
    return notes;
  }

  /** What there is to say beside the state, without what changes by the second. */
  #lasting() {
    const { words } = JobProgress;
    const { failures, rescues, tryNumber, maxRetries, reason, error, state, ended } = this.#view;
    const notes = [];
    if (ended && (failures > 0 || state === "dead")) notes.push(words.tries(tryNumber));
    else if (failures > 0) notes.push(words.nextTry(tryNumber, maxRetries === null ? null : maxRetries + 1));
    if (rescues > 0 && (state === "ready" || state === "running")) notes.push(words.rescued);
    if (reason) notes.push(reason);
    if (error && error !== reason) notes.push(error);
    return notes;
  }

  #announce(words) {
    clearTimeout(this.#timers.announce);
    if (words === this.#announced) return;
    this.#timers.announce = setTimeout(() => {
      this.#announced = words;
      this.#parts.announcer.textContent = words;
    }, ANNOUNCE_MS);
  }
}

customElements.define("job-progress", JobProgress);

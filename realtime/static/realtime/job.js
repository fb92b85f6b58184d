/** What the events of one job say of it. A part of client.js. */

const ENDS = new Set(["succeeded", "dead", "cancelled", "expired"]);

/** Whether an event is the last one of its job (unless somebody redrives it). */
export const isEnd = (event) => ENDS.has(event.name);

/** A job that ended without success. `code`: dead, cancelled or expired; `event`: the last one. */
export class JobError extends Error {
  constructor(event) {
    const { reason = "", error = "" } = event.data;
    super([`The job is ${event.name}`, reason, error].filter(Boolean).join(": "));
    this.name = "JobError";
    this.code = event.name;
    this.reason = reason;
    this.error = error;
    this.event = event;
  }
}

/** Where a job stands, kept up to date by `apply(event)`. See JobView in client.d.ts. */
export class JobView {
  state = "unknown";
  attempt = 0;
  failures = 0;
  rescues = 0;
  maxRetries = null;
  due = null;
  fraction = null;
  text = "";
  reason = "";
  error = "";

  get ended() {
    return ENDS.has(this.state);
  }

  /** Which try runs, is next or was the last, as people count: the first, and one more for each that failed. */
  get tryNumber() {
    return this.failures + 1;
  }

  get waitsForRetry() {
    return this.state === "scheduled" && this.failures > 0;
  }

  /** Take in the job's next event. Returns true when it begins a later attempt: forget what the former ones said. */
  apply({ name, data }) {
    const over = (data.attempt ?? 0) > this.attempt && this.attempt > 0;
    if (data.attempt > this.attempt) this.#begin(data.attempt);
    switch (name) {
      case "progress":
        this.fraction = data.fraction;
        this.text = data.text ?? "";
        break;
      case "emit":
        break;
      case "retrying":
        this.failures = data.failures;
        this.maxRetries = data.max_retries ?? null;
        this.error = data.error ?? "";
        this.#wait("scheduled", data.due);
        break;
      case "snoozed":
      case "scheduled":
        this.#wait("scheduled", data.due);
        break;
      case "rescued":
        this.rescues = data.rescues;
        this.#wait("ready", null);
        break;
      case "released":
      case "ready":
        this.#wait("ready", null);
        break;
      case "running":
        this.#wait("running", null);
        break;
      default:
        if (ENDS.has(name)) this.#finish(name, data);
    } // others are for newer pages
    return over;
  }

  #begin(attempt) {
    this.attempt = attempt;
    this.fraction = null;
    this.text = "";
  }

  #wait(state, due) {
    this.state = state;
    this.due = due ?? null;
    this.reason = "";
  }

  #finish(state, { reason = "", error = this.error }) {
    this.state = state;
    this.due = null;
    this.reason = reason;
    this.error = state === "succeeded" ? "" : error;
    if (state === "succeeded") this.fraction = 1;
  }
}

// One delivery's story from top to bottom: accepted, each attempt and why it ended so, what comes next.
import { killWorker } from "./api.js";
import { fromTemplate, say, setData, setText } from "./dom.js";
import { oneAtATime } from "./once.js";
import { duration, exact, hideTime, showTime } from "./time.js";
import { capital, rescue, stand, waits, waitsForRetry, why, workerName } from "./words.js";

export class Timeline {
  #list;
  #entries = new Map(); // key -> {element, parts}
  #mayKill = false;
  #killed = new Set(); // workers killed from here
  #shown = null;

  constructor(list) {
    this.#list = list;
  }

  /** Whether running attempts offer to kill their worker. */
  allowKill(allowed) {
    if (allowed === this.#mayKill) return;
    this.#mayKill = allowed;
    if (this.#shown) this.show(this.#shown);
  }

  show(delivery) {
    if (this.#shown?.id !== delivery.id) {
      this.#entries.clear();
      this.#list.replaceChildren();
    }
    this.#shown = delivery;
    const keys = [];
    const add = (key, template, fill) => {
      keys.push(key);
      if (!this.#entries.has(key)) {
        const [element, parts] = fromTemplate(template);
        this.#entries.set(key, { element, parts });
      }
      fill(this.#entries.get(key));
    };

    add("accepted", "moment-template", (entry) => fillAccepted(entry, delivery));
    const attempts = stand(delivery);
    let generation = 1;
    const redelivered = (until) => {
      while (generation < until) add(`again-${++generation}`, "moment-template", fillAgain);
    };
    attempts.forEach((attempt, index) => {
      redelivered(attempt.generation);
      add(`${attempt.generation}.${attempt.number}`, "attempt-template", (entry) => this.#fillAttempt(entry, delivery, attempts, index));
    });
    redelivered(delivery.generation);
    if (delivery.state !== "pending" || delivery.job?.state !== "running") {
      add("end", "moment-template", (entry) => fillEnd(entry, delivery));
    }
    this.#arrange(keys);
  }

  #arrange(keys) {
    let place = this.#list.firstElementChild;
    for (const key of keys) {
      const { element } = this.#entries.get(key);
      if (element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(element, place);
    }
    for (const [key, { element }] of this.#entries) {
      if (!keys.includes(key)) {
        element.remove();
        this.#entries.delete(key);
      }
    }
  }

  #fillAttempt(entry, delivery, attempts, index) {
    const { element, parts } = entry;
    const attempt = attempts[index];
    const running = attempt.outcome === "running";
    setData(element, "outcome", attempt.outcome);
    setText(parts.title, `Attempt ${attempt.number}`);
    showTime(parts.at, attempt.started_at, "clock");
    setText(parts.took, attempt.duration_ms === null ? "" : duration(attempt.duration_ms));
    setText(parts.worker, attempt.worker ? `worker ${workerName(attempt.worker)}` : "");
    parts.worker.title = attempt.worker;
    setText(parts.why, why(delivery, attempts, index));
    const killed = running && this.#killed.has(attempt.worker);
    say(parts.rescue, killed ? "Worker killed. When its lease has run out, another worker takes over." : rescue(delivery, attempts, index));
    setText(parts.request, requestText(delivery, attempt));
    setText(parts.response, responseText(attempt));
    if (running) showTime(parts.elapsed, attempt.started_at, "elapsed");
    else hideTime(parts.elapsed);
    if (!entry.kill) entry.kill = this.#makeKill(entry, attempt.worker);
    parts.kill.hidden = !(running && this.#mayKill && attempt.worker && !killed);
  }

  #makeKill({ parts }, worker) {
    const kill = oneAtATime([parts.kill], async () => {
      try {
        await killWorker(worker);
        this.#killed.add(worker);
        say(parts.error, "");
        this.show(this.#shown);
      } catch (error) {
        say(parts.error, `The worker was not killed: ${error.message}`);
      }
    });
    parts.kill.addEventListener("click", kill);
    return kill;
  }
}

function fillAccepted({ element, parts }, delivery) {
  setData(element, "outcome", "done");
  setText(parts.title, "Accepted");
  showTime(parts.at, delivery.created_at, "clock");
  setText(parts.why, delivery.send_at ? `To be sent at ${exact(delivery.send_at)}.` : "");
}

function fillAgain({ element, parts }) {
  setData(element, "outcome", "done");
  setText(parts.title, "Redelivered");
  hideTime(parts.at);
  setText(parts.why, "Sent again by you: the retries start over.");
}

function fillEnd({ element, parts }, delivery) {
  setData(element, "outcome", delivery.state === "pending" ? "next" : delivery.state);
  hideTime(parts.at);
  hideTime(parts.next);
  if (waits(delivery)) {
    setText(parts.title, waitsForRetry(delivery) ? "Next attempt" : "First attempt");
    showTime(parts.at, delivery.job.due_at, "clock");
    setText(parts.why, "");
    showTime(parts.next, delivery.job.due_at, "left");
  } else if (delivery.state === "pending") {
    setText(parts.title, delivery.job ? "Queued" : "Kept");
    setText(parts.why, delivery.job ? "Waiting for a worker." : "In the database; it goes to the queue as soon as the store has it.");
  } else {
    setText(parts.title, capital(delivery.state));
    if (delivery.finished_at) showTime(parts.at, delivery.finished_at, "clock");
    const length = delivery.finished_at ? Date.parse(delivery.finished_at) - Date.parse(delivery.created_at) : 0;
    setText(parts.why, delivery.reason ? capital(delivery.reason) : `${duration(length)} after it was accepted.`);
  }
}

const headerLines = (headers) => Object.entries(headers ?? {}).map(([name, value]) => `${name}: ${value}`);

function requestText(delivery, attempt) {
  return [`POST ${delivery.url}`, ...headerLines(attempt.request_headers), "", delivery.payload].join("\n");
}

function responseText(attempt) {
  if (attempt.status_code === null) return attempt.outcome === "running" ? "None yet." : `None: ${attempt.error || "the attempt ended before one came"}`;
  return [`HTTP ${attempt.status_code}`, ...headerLines(attempt.response_headers), "", attempt.response_excerpt].join("\n").trimEnd();
}

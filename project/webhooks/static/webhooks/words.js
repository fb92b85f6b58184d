// What a delivery and its attempts say, in words. Pure functions of the JSON; no DOM here.
import { clock } from "./time.js";

/** Where a delivery stands, from its row and its job: the word on its badge, and a name for its colour. */
export function phase(delivery) {
  if (delivery.state !== "pending") return { name: delivery.state, word: capital(delivery.state) };
  const job = delivery.job;
  if (job?.state === "running") return job.cancel_requested ? { name: "running", word: "Stopping" } : { name: "running", word: "Running" };
  if (job?.state === "ready") return { name: "queued", word: "Queued" };
  if (job?.state === "scheduled") return waitsForRetry(delivery) ? { name: "retrying", word: "Retrying" } : { name: "scheduled", word: "Scheduled" };
  return { name: "kept", word: "Kept" };
}

/** True while the delivery waits for a time to come (its own, or its next retry's). */
export const waits = (delivery) => delivery.state === "pending" && delivery.job?.state === "scheduled" && delivery.job.due_at !== null;

export const waitsForRetry = (delivery) => waits(delivery) && delivery.job.retries > 0;

/** "retry 2 of 8"; "" before the first retry. */
export function retryCount(delivery) {
  const { job } = delivery;
  return job?.retries ? retryOf(job.retries, job.max_retries) : "";
}

const retryOf = (retry, max) => max === null || max === undefined ? `retry ${retry}` : `retry ${retry} of ${max}`;

/** One sentence on where the delivery stands; what counts down is said beside it. */
export function headline(delivery) {
  const attempts = delivery.attempt === 1 ? "1 attempt" : `${delivery.attempt} attempts`;
  switch (delivery.state) {
    case "delivered": return `Delivered after ${attempts}.`;
    case "failed": return delivery.reason ? `Failed after ${attempts}: ${sentence(delivery.reason)}` : `Failed after ${attempts}.`;
    case "cancelled": return delivery.reason ? `Cancelled: ${sentence(delivery.reason)}` : "Cancelled.";
  }
  switch (phase(delivery).name) {
    case "running": return delivery.job.cancel_requested ? "Asked to stop; the attempt under way is ending." : `Attempt ${delivery.attempt} is running.`;
    case "queued": return "In the queue, waiting for a worker.";
    case "retrying": return capital(`${retryCount(delivery)}:`);
    case "scheduled": return "Accepted:";
    default: return "Kept in the database; it goes to the queue as soon as the store has it.";
  }
}

/** The short form of the same for a row of the list. */
export function rowWords(delivery) {
  const attempts = delivery.attempt === 1 ? "1 attempt" : `${delivery.attempt} attempts`;
  switch (delivery.state) {
    case "delivered": return attempts;
    case "failed": return delivery.reason ? `${attempts}: ${delivery.reason}` : attempts;
    case "cancelled": return delivery.reason || "cancelled";
  }
  switch (phase(delivery).name) {
    case "running": return `attempt ${delivery.attempt}`;
    case "queued": return "waiting for a worker";
    case "retrying": return `${retryCount(delivery)}, `;
    case "scheduled": return "";
    default: return "waiting for the store";
  }
}

/** "503 Service Unavailable, Retry-After 30 s", or what went wrong before there was an answer. */
export const cause = (attempt) => attempt.error || (attempt.status_code === null ? "no answer" : `answered ${attempt.status_code}`);

/** The attempts with how each one really stands: a running one that the queue has given to nobody, or to a later one, is lost. */
export function stand(delivery) {
  const { attempts, job } = delivery;
  return attempts.map((attempt, index) => {
    if (attempt.outcome !== "running") return attempt;
    const overtaken = index < attempts.length - 1;
    const givenBack = delivery.state === "pending" && (job?.state === "ready" || job?.state === "scheduled");
    return overtaken || givenBack ? { ...attempt, outcome: "lost" } : attempt;
  });
}

/** Why attempt number `index` ended as it did and what follows from it, as one line. */
export function why(delivery, attempts, index) {
  const attempt = attempts[index];
  switch (attempt.outcome) {
    case "running": return "Sent; waiting for the answer.";
    case "delivered": return `Answered ${attempt.status_code}: delivered.`;
    case "lost": return `Lost: ${attempt.error || "its worker vanished"}.`;
    case "cancelled": return attempt.error ? `Stopped: ${sentence(attempt.error)}` : "Stopped: cancelled.";
    case "blocked":
    case "gave_up": return `${sentence(cause(attempt))} Not tried again.`;
    case "failed": return `${capital(cause(attempt))}: ${afterFailure(delivery, attempts, index)}`;
    default: return sentence(attempt.error || attempt.outcome);
  }
}

function afterFailure(delivery, attempts, index) {
  const attempt = attempts[index];
  const retry = attempts.slice(0, index + 1).filter((one) => one.generation === attempt.generation && one.outcome === "failed").length;
  const count = retryOf(retry, delivery.job?.max_retries ?? delivery.max_retries);
  const next = attempts[index + 1];
  if (next?.generation === attempt.generation) return `next attempt ${clock(next.started_at)}, ${count}.`;
  if (next) return "no retry followed.";
  if (waits(delivery)) return `next attempt ${clock(delivery.job.due_at)}, ${count}.`;
  if (delivery.state === "pending") return `${count} is in the queue.`;
  return delivery.state === "failed" ? "no retry left." : "no retry followed.";
}

/** What became of a lost attempt: who rescued it, or that it waits for somebody. */
export function rescue(delivery, attempts, index) {
  if (attempts[index].outcome !== "lost") return "";
  const next = attempts[index + 1];
  if (next?.generation === attempts[index].generation) {
    return `Rescued by worker ${workerName(next.worker)}, ${clock(next.started_at)}.`;
  }
  return delivery.state === "pending" ? "Waiting for another worker to rescue it." : "";
}

/** "host:4711": the part of a worker's id that a person can look up in a process list. */
export const workerName = (worker) => worker.split(":").slice(0, 2).join(":") || "unknown";

/** A URL cut into where (the scheme only when it is not https) and what: ["example.com", "/hooks?a=1"]. */
export function splitUrl(url) {
  const [, where, what] = /^(?:https:\/\/)?((?:[a-z]+:\/\/)?[^/?#]*)(.*)$/is.exec(url);
  return [where, what];
}

export const shortUrl = (url) => splitUrl(url).join("");

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A text as a sentence: capital first, full stop last. */
const sentence = (text) => capital(/[.!?]$/.test(text) ? text : `${text}.`);

const CAUGHT_UP_MS = 10_000; // how long "caught up" stays before it is plainly "live"

/** The state of a socket in words, `passed` ms after it was told. */
export function socketWords({ state, retryIn, caughtUp, code, reason }, passed) {
  switch (state) {
    case "live":
      if (caughtUp === null || caughtUp === undefined || passed > CAUGHT_UP_MS) return "live";
      if (caughtUp === 0) return "live, up to date";
      return `live, caught up with ${caughtUp} ${caughtUp === 1 ? "event" : "events"}`;
    case "reconnecting": {
      const left = retryIn ? Math.ceil((retryIn - passed) / 1000) : 0;
      return left > 0 ? `reconnecting in ${left} s` : "reconnecting now";
    }
    case "closed":
      if (code === 4401) return "signed out";
      return `closed${reason ? `: ${reason}` : ""}; reload the page to go on`;
    case "parked":
      return "paused: open in too many places";
    default:
      return "connecting";
  }
}

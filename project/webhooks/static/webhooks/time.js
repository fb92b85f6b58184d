// Times: relative in the text, exact in the title, both in the reader's zone.
// Countdowns follow the server's clock; the difference to this machine's is measured with every status.
import { setText } from "./dom.js";

let offset = 0; // server minus this machine, in ms

/** Takes the server's time (ms since the epoch), given when the request was sent and when its answer came. */
export function syncClock(serverNow, sent, received) {
  offset = serverNow - (sent + received) / 2;
}

/** The server's time, in ms since the epoch. */
export const now = () => Date.now() + offset;

const exactFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const clockFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** "Saturday, 21 November 2026 at 14:02:31 CET" */
export const exact = (iso) => exactFormat.format(new Date(iso));

/** "14:02:31", with the day in front when it is not today. */
export function clock(iso) {
  const date = new Date(iso);
  const day = dayFormat.format(date);
  const time = clockFormat.format(date);
  return day === dayFormat.format(new Date(now())) ? time : `${day}, ${time}`;
}

/** A length in words: "38 ms", "1.2 s", "4 min 10 s", "2 h 5 min", "3 days". */
export function duration(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return wholeSeconds(Math.round(ms / 1000));
}

function wholeSeconds(seconds) {
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return days === 1 ? "1 day" : `${days} days`;
}

// What a <time data-live="..."> shows, as a function of the time left until it (negative: passed), in ms.
const LIVE = {
  relative: (left) => {
    if (Math.abs(left) < 1000) return "just now";
    return left < 0 ? `${wholeSeconds(Math.floor(-left / 1000))} ago` : `in ${wholeSeconds(Math.ceil(left / 1000))}`;
  },
  next: (left) => left > 0 ? `next attempt in ${wholeSeconds(Math.ceil(left / 1000))}` : "due, waiting for a worker",
  first: (left) => left > 0 ? `starts in ${wholeSeconds(Math.ceil(left / 1000))}` : "due, waiting for a worker",
  left: (left) => left > 0 ? `in ${wholeSeconds(Math.ceil(left / 1000))}` : "due, waiting for a worker",
  elapsed: (left) => `for ${wholeSeconds(Math.max(0, Math.floor(-left / 1000)))}`,
  clock: null,
};

/** Takes a time out of the page, its words too: hidden text is still text to a search or a screen reader. */
export function hideTime(element) {
  element.hidden = true;
  delete element.dataset.live;
  setText(element, "");
}

/** Makes a <time> show `iso` in one of the ways above and keeps it right as time passes. */
export function showTime(element, iso, way = "relative") {
  if (element.dateTime !== iso || element.dataset.live !== way) {
    element.dateTime = iso;
    element.dataset.live = way;
    element.title = exact(iso);
    element.hidden = false;
  }
  refresh(element);
}

function refresh(element) {
  const words = LIVE[element.dataset.live];
  setText(element, words ? words(Date.parse(element.dateTime) - now()) : clock(element.dateTime));
}

export function startTicking() {
  setInterval(() => {
    for (const element of document.querySelectorAll("time[data-live]")) refresh(element);
  }, 250);
}

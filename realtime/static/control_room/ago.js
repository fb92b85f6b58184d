/** <time class="ago">: "12 s ago", "in 3 min", with the exact time as its title. */

const UNITS = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
  [1, "s"],
];

/** Of a number of seconds: the largest unit that fits. */
export function span(seconds) {
  const whole = Math.round(Math.abs(seconds));
  const [size, name] = UNITS.find(([size]) => whole >= size) ?? UNITS.at(-1);
  return `${Math.floor(whole / size)} ${name}`;
}

/** Words for a time, as seen at `now` (both ms). */
export function relative(time, now) {
  const seconds = (time - now) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  return seconds < 0 ? `${span(seconds)} ago` : `in ${span(seconds)}`;
}

/** Write all times below `root` anew. */
export function refreshTimes(root = document) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time.ago")) {
    const time = Date.parse(element.dateTime);
    if (Number.isNaN(time)) continue;
    const words = relative(time, now);
    if (element.textContent !== words) element.textContent = words;
    element.title = new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  }
}

export function dressTimes() {
  refreshTimes();
  setInterval(() => document.hidden || refreshTimes(), 1000);
}

/** The charts: drawn by uPlot, fed by the series of the store, in the page's own colours, drawn again when those change. */

const COLOURS = ["--line-1", "--line-2", "--line-3"];
const REFRESH = { "1h": 10_000, "24h": 60_000, "30d": 300_000 }; // ms

const CHARTS = {
  rate: { lines: [["in", 0], ["out", 1]], words: rateWords, unit: "jobs a second" },
  failures: { lines: [["failed", 2], ["dead", 0]], words: rateWords, unit: "a minute" },
  latency: { lines: [["wait_p95", 0], ["run_p95", 1]], words: spanWords, unit: "" },
};

const NAMES = { in: "in", out: "out", failed: "failed attempts", dead: "dead", wait_p95: "wait", run_p95: "run" };

class Charts {
  #box;
  #range = "1h";
  #timer = null;
  #series = null;
  #plots = new Map();

  constructor(box) {
    this.#box = box;
    const tabs = box.querySelector(".tabs");
    tabs.hidden = false;
    tabs.addEventListener("click", ({ target }) => {
      const range = target.dataset.range;
      if (!range || range === this.#range) return;
      for (const tab of tabs.children) tab.setAttribute("aria-pressed", tab === target);
      this.#range = range;
      this.#read();
    });
    document.addEventListener("themechange", () => this.#draw());
    document.addEventListener("visibilitychange", () => document.hidden || this.#read());
    new ResizeObserver(() => this.#fit()).observe(box);
    this.#read();
  }

  async #read() {
    clearTimeout(this.#timer);
    const range = this.#range;
    const asked = new URLSearchParams({ range, channel: this.#box.dataset.channel });
    try {
      const response = await fetch(`${this.#box.dataset.series}?${asked}`);
      if (response.ok && range === this.#range) {
        this.#series = await response.json();
        this.#draw();
      }
    } catch {
      // The first line of the page says that the server does not answer; the next look may find it.
    }
    if (this.#box.isConnected && !document.hidden) this.#timer = setTimeout(() => this.#read(), REFRESH[range]);
  }

  #draw() {
    if (!this.#series || !globalThis.uPlot) return;
    for (const figure of this.#box.querySelectorAll("[data-chart]")) this.#drawOne(figure, CHARTS[figure.dataset.chart]);
  }

  #drawOne(figure, chart) {
    const plot = figure.querySelector(".plot");
    const data = [this.#series.at, ...chart.lines.map(([name]) => this.#series[name])];
    this.#plots.get(plot)?.destroy();
    plot.replaceChildren();
    const made = new uPlot(this.#options(figure, plot, chart), data, plot);
    this.#plots.set(plot, made);
    plot.setAttribute("aria-label", summary(chart, data));
  }

  #options(figure, plot, chart) {
    const style = getComputedStyle(plot);
    const colour = (name) => resolved(plot, name);
    const axis = {
      stroke: colour("--muted"),
      font: `11px ${style.fontFamily}`,
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { stroke: colour("--line"), width: 1, size: 4 },
    };
    return {
      width: plot.clientWidth,
      height: plot.clientHeight,
      padding: [8, 18, 0, 0], // half a time's width, when its line is at the edge
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      legend: { show: true, live: true },
      scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] } },
      axes: [
        { ...axis, size: 24, space: 70, values: (_, times) => timeWords(times, this.#range) },
        { ...axis, size: 52, values: (_, values) => values.map((value) => chart.words(value)) },
      ],
      series: [
        {},
        ...chart.lines.map(([name, number], index) => ({
          label: NAMES[name],
          stroke: colour(COLOURS[number]),
          width: 1.5,
          dash: name === "out" ? [6, 4] : undefined, // where as many go out as come in, both are seen
          fill: index === 0 ? faded(colour(COLOURS[number])) : undefined,
          spanGaps: false,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [(made) => legend(figure, chart, made)] },
    };
  }

  #fit() {
    for (const [plot, made] of this.#plots) made.setSize({ width: plot.clientWidth, height: plot.clientHeight });
  }
}

/** A colour variable as the canvas takes it: light-dark() resolved. */
function resolved(element, name) {
  const probe = document.createElement("span");
  probe.className = "probe";
  probe.dataset.colour = name.slice(2);
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function faded(colour) {
  return colour.replace(/^rgb\(([^)]+)\)$/, "rgba($1, 0.09)");
}

/** The values under the pointer, beside the names of the lines. */
function legend(figure, chart, made) {
  const index = made.cursor.idx;
  const boxes = figure.querySelectorAll(".legend b");
  chart.lines.forEach((_, line) => {
    const value = index === null || index === undefined ? null : made.data[line + 1][index];
    boxes[line].textContent = value === null || value === undefined ? "" : chart.words(value);
  });
}

function summary(chart, [times, ...lines]) {
  if (!times.length) return "Nothing yet.";
  const said = chart.lines.map(([name], index) => {
    const values = lines[index].filter((value) => value !== null);
    if (!values.length) return `${NAMES[name]}: none`;
    return `${NAMES[name]}: ${chart.words(values.at(-1))} now, ${chart.words(Math.max(...values))} at most`;
  });
  return `${said.join("; ")} ${chart.unit}`.trim();
}

function timeWords(times, range) {
  const options = range === "30d" ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  const format = new Intl.DateTimeFormat(undefined, options);
  return times.map((time) => format.format(time * 1000));
}

function rateWords(value) {
  if (value === 0) return "0";
  if (value >= 10_000) return `${Math.round(value / 1000)}k`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)}k`;
  return value >= 10 ? String(Math.round(value)) : String(Number(value.toPrecision(2)));
}

function spanWords(value) {
  if (value === 0) return "0";
  if (value < 1) return `${Number((value * 1000).toPrecision(2))} ms`;
  if (value < 60) return `${Number(value.toPrecision(2))} s`;
  return value < 3600 ? `${Math.round(value / 60)} min` : `${Number((value / 3600).toPrecision(2))} h`;
}

// uPlot is a plain script: it has run by the time the document is complete.
for (const box of document.querySelectorAll("#charts")) new Charts(box);

/** The browser as client.js sees it, under the test's control: sockets, clock, chance, and the page's events. */

export class Clock {
  now = 0;
  #timers = new Map();
  #last = 0;

  setTimeout = (work, ms) => {
    this.#timers.set(++this.#last, { at: this.now + ms, work });
    return this.#last;
  };

  clearTimeout = (timer) => this.#timers.delete(timer);

  get waiting() {
    return this.#timers.size;
  }

  /** Let time pass, running each timer at its time. */
  pass(ms) {
    const until = this.now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= until).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.now = Math.max(this.now, due[1].at);
      due[1].work();
    }
    this.now = until;
  }
}

export class Server {
  sockets = [];

  constructor() {
    const server = this;
    this.WebSocket = class {
      readyState = 0;
      sent = [];
      closed = false;
      onmessage = null;
      onclose = null;

      constructor(url) {
        this.url = url;
        server.sockets.push(this);
      }

      send(text) {
        this.sent.push(JSON.parse(text));
      }

      close() {
        this.readyState = 3;
        this.closed = true;
      }
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Accept the newest socket. */
  welcome(v = 1) {
    this.socket.readyState = 1;
    this.say({ type: "welcome", v });
  }

  say(frame) {
    this.socket.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  event(topic, epoch, offset, name = "ready", data = {}, job = "j") {
    this.say({ type: "event", topic, epoch, offset, at: 0, job, name, data });
  }

  subscribed(topic, epoch, offset, { recovered = true, replayed = 0 } = {}) {
    this.say({ type: "subscribed", topic, epoch, offset, recovered, replayed });
  }

  hangUp(code, reason = "") {
    this.socket.readyState = 3;
    this.socket.onclose?.({ code, reason });
  }

  /** What the newest socket was sent since the last look. */
  heard() {
    return this.socket.sent.splice(0);
  }
}

/** What the tabs of one browser share: storage that tells the others, and locks. */
export class Shared {
  #held = new Map(); // name -> [{grant, granted}], the first one has it
  values = new Map();
  tabs = [];

  /** The storage as one tab has it: its writes are events in the others. */
  storageOf(window) {
    const { values, tabs } = this;
    tabs.push(window);
    const tell = (key, newValue) => {
      for (const tab of tabs) if (tab !== window) tab.dispatchEvent(Object.assign(new Event("storage"), { key, newValue }));
    };
    return {
      get length() {
        return values.size;
      },
      key: (index) => [...values.keys()][index] ?? null,
      getItem: (key) => values.get(key) ?? null,
      setItem: (key, value) => {
        values.set(key, value);
        tell(key, value);
      },
      removeItem: (key) => {
        if (values.delete(key)) tell(key, null);
      },
    };
  }

  /** navigator.locks as one tab has it; `die()` is the end of the tab. */
  locksOf() {
    const mine = new Set();
    return {
      request: (name, { signal }, work) => {
        let granted;
        const turn = new Promise((resolve) => (granted = resolve));
        const place = { granted };
        const queue = this.#held.get(name) ?? this.#held.set(name, []).get(name);
        queue.push(place);
        const leave = () => {
          mine.delete(leave);
          const first = queue[0] === place;
          if (queue.includes(place)) queue.splice(queue.indexOf(place), 1);
          if (first) queue[0]?.granted();
        };
        mine.add(leave);
        if (queue[0] === place) granted();
        const aborted = new Promise((_, reject) =>
          signal.addEventListener("abort", () => reject(Object.assign(new Error("aborted"), { name: "AbortError" }))),
        );
        return Promise.race([turn, aborted]).then(() => work()).finally(leave);
      },
      die: () => [...mine].forEach((leave) => leave()),
    };
  }
}

/** A client of a fake server: {client, server, clock, statuses, chance, window, document, reports, die}. */
export function setUp(connect, { shared = null, withLocks = true, clock = new Clock(), ...options } = {}) {
  const server = new Server();
  const window = new EventTarget();
  const document = new EventTarget();
  document.visibilityState = "visible";
  const chance = { value: 0.5 };
  const reports = [];
  const locks = withLocks ? shared?.locksOf() : undefined;
  const client = connect("ws://server/ws/", {
    ...options,
    environment: {
      WebSocket: server.WebSocket,
      setTimeout: clock.setTimeout,
      clearTimeout: clock.clearTimeout,
      now: () => clock.now,
      wallClock: () => 1_800_000_000_000 + clock.now,
      random: () => chance.value,
      window,
      document,
      storage: shared?.storageOf(window),
      locks,
      report: (error) => reports.push(error),
    },
  });
  const statuses = [];
  client.onstatus = (status) => statuses.push(status);
  /** The page is gone, without a word. */
  const die = () => {
    shared?.tabs.splice(shared.tabs.indexOf(window), 1);
    server.socket.onmessage = server.socket.onclose = null;
    locks?.die();
  };
  return { client, server, clock, statuses, chance, window, document, reports, die };
}

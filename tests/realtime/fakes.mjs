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

  event(topic, epoch, offset, name = "ready") {
    this.say({ type: "event", topic, epoch, offset, at: 0, job: "j", name, data: {} });
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

/** A client of a fake server: {client, server, clock, statuses, chance, window, document, reports}. */
export function setUp(connect, options = {}) {
  const clock = new Clock();
  const server = new Server();
  const window = new EventTarget();
  const document = new EventTarget();
  document.visibilityState = "visible";
  const chance = { value: 0.5 };
  const reports = [];
  const client = connect("ws://server/ws/", {
    ...options,
    environment: {
      WebSocket: server.WebSocket,
      setTimeout: clock.setTimeout,
      clearTimeout: clock.clearTimeout,
      now: () => clock.now,
      random: () => chance.value,
      window,
      document,
      report: (error) => reports.push(error),
    },
  });
  const statuses = [];
  client.onstatus = (status) => statuses.push(status);
  return { client, server, clock, statuses, chance, window, document, reports };
}

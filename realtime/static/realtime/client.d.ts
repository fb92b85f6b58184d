/** Types of client.js, the browser's side of the realtime protocol, version 1. */

export const VERSION: 1;

export interface Times {
  /** Bounds of the reconnect delay (full jitter), ms. */
  reconnectBase: number;
  reconnectCap: number;
  /** From the attempt to connect to the server's welcome, ms. */
  welcomeTimeout: number;
  /** Live for this long, ms: the next reconnect starts at the base again. */
  steadyAfter: number;
  /** Silence after which the server is pinged, and how long it has to answer, ms. */
  pingEvery: number;
  pongTimeout: number;
  /** How long it has to answer after the network or the page came back, ms. */
  probeTimeout: number;
  /** Before a refused subscription, or a command that came too fast, is sent again, ms. */
  retryBase: number;
  framesPerSecond: number;
  framesBurst: number;
  /** Larger commands are refused here. */
  frameBytes: number;
}

export const DEFAULTS: Readonly<Times>;

export interface CommandFrame {
  type: "command";
  id: string;
  name: string;
  args: object;
}

/** Keeps commands until they are answered; `entries` in the order in which they were put. */
export interface Outbox {
  put(id: string, frame: CommandFrame): void;
  get(id: string): CommandFrame | null;
  delete(id: string): void;
  entries(): [string, CommandFrame][];
}

export class MemoryOutbox implements Outbox {
  put(id: string, frame: CommandFrame): void;
  get(id: string): CommandFrame | null;
  delete(id: string): void;
  entries(): [string, CommandFrame][];
}

/** What the client takes from the browser; tests bring their own. */
export interface Environment {
  WebSocket: new (url: string) => Pick<WebSocket, "readyState" | "send" | "close" | "onmessage" | "onclose">;
  setTimeout(work: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** A clock that only goes forward, ms. */
  now(): number;
  /** In [0, 1). */
  random(): number;
  window: EventTarget;
  document: EventTarget & { visibilityState?: string };
  /** What a handler of the page threw. */
  report(error: unknown): void;
}

export interface Options extends Partial<Times> {
  outbox?: Outbox;
  environment?: Partial<Environment>;
}

export interface Status {
  /** connecting: never live yet; closed: for good, `reason` says why. */
  state: "connecting" | "live" | "reconnecting" | "closed";
  /** ms until the next attempt, counted down once a second; null when none is waiting. */
  retryIn: number | null;
  /** After a reconnect, once all that was missed has arrived: how many events that was. */
  caughtUp: number | null;
  /** Commands without an answer yet. */
  pending: number;
  /** Of the last close, and why. */
  code: number | null;
  reason: string;
}

export interface TopicEvent {
  type: "event";
  topic: string;
  epoch: number;
  offset: number;
  /** Server clock, ms since 1970. */
  at: number;
  job: string;
  name: string;
  data: Record<string, unknown>;
}

export interface Subscribed {
  topic: string;
  epoch: number;
  /** The end of the topic's log. */
  offset: number;
  /** false: forget what you knew, a snapshot or the history follows. */
  recovered: boolean;
  /** How many events follow at once. */
  replayed: number;
}

export interface Handlers {
  event?(event: TopicEvent): void;
  snapshot?(data: Record<string, unknown>): void;
  subscribed?(info: Subscribed): void;
  error?(error: CommandError): void;
}

export class CommandError extends Error {
  constructor(code: string, message: string, fields?: Record<string, string>);
  /** bad_input, unknown_command, not_found, forbidden, too_many, unavailable, internal, closed, timeout, ... */
  code: string;
  fields: Record<string, string>;
}

export interface Socket {
  onstatus: ((status: Status) => void) | null;
  onerror: ((error: CommandError) => void) | null;
  readonly status: Status;
  subscribe(topic: string, handlers: Handlers): () => void;
  command<Result = unknown>(
    name: string,
    args?: object,
    options?: { id?: string; timeout?: number | null },
  ): Promise<Result>;
  close(): void;
}

/** Open a socket to a path or URL and keep it open. */
export function connect(url: string | URL, options?: Options): Socket;

/** Full jitter: anywhere between 0 and min(cap, base * 2 ** attempt), ms. */
export function backoff(attempt: number, base: number, cap: number, random: () => number): number;

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
  /**
   * How long a command that was sent and not answered is sent again, ms. It must stay below the project's DEDUP_SECONDS:
   * the server says how long that is, and 0.8 of it is the bound where that is less than this one.
   */
  resendFor: number;
  /** How long a command waits that could never be sent, ms. */
  keepFor: number;
  framesPerSecond: number;
  framesBurst: number;
  /** Commands sent and not answered; the others wait here. */
  commandsUnderWay: number;
  /** Larger commands are refused here. */
  frameBytes: number;
  /** Beyond these many, or these bytes, without an answer, commands are refused with "outbox_full". */
  outboxCommands: number;
  outboxBytes: number;
}

export const DEFAULTS: Readonly<Times>;

/** What the client takes from the browser; tests bring their own. */
export interface Environment {
  WebSocket: new (url: string) => Pick<WebSocket, "readyState" | "send" | "close" | "onmessage" | "onclose">;
  setTimeout(work: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** A clock that only goes forward, ms. */
  now(): number;
  /** This machine's time, ms since 1970. */
  wallClock(): number;
  /** In [0, 1). */
  random(): number;
  window: EventTarget;
  document: EventTarget & { visibilityState?: string };
  /** Where the outbox is kept; undefined: in memory. */
  storage?: Pick<Storage, "length" | "key" | "getItem" | "setItem" | "removeItem">;
  locks?: Pick<LockManager, "request">;
  /** What a handler of the page threw. */
  report(error: unknown): void;
}

export interface Options extends Partial<Times> {
  /**
   * Whose page this is, as the server names them (the primary key). With it, commands survive a reload, a crash or a
   * closed tab, and are sent by the next page of the same user at the same address, by no other. Without: memory only.
   */
  user?: string | number | null;
  environment?: Partial<Environment>;
}

export interface Status {
  /**
   * connecting: never live yet; parked: gave way to the user's other pages, goes on when this one is used; closed: for
   * good, `reason` says why.
   */
  state: "connecting" | "live" | "reconnecting" | "parked" | "closed";
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

/** A place in a topic's log: after this event of this epoch. */
export interface Place {
  epoch: number;
  offset: number;
}

export interface TopicEvent extends Place {
  type: "event";
  topic: string;
  /** It stands for all events from here to `offset`: those were progress that a newer one has overtaken. */
  first?: number;
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
  /** The topic was refused ("unavailable", "internal" and "too_fast" are asked again by themselves), or all is closed. */
  error?(error: CommandError): void;
}

/** What reading a topic gives: its events; the state in their place; "reset": what was known is void. */
export type TopicItem =
  | TopicEvent
  | { type: "snapshot"; data: Record<string, unknown> }
  | ({ type: "reset" } & Place);

export interface ReadOptions {
  /** Go on after this event; null: from the start of the log, or a snapshot. */
  after?: Place | null;
  /** Items that may wait to be taken; beyond, the topic is let go and followed again from there. */
  capacity?: number;
  /** Whether an item is wanted. */
  keep?(item: TopicItem): boolean;
  /** Ends the iteration, as `break` does. */
  signal?: AbortSignal | null;
}

export class CommandError extends Error {
  constructor(code: string, message: string, fields?: Record<string, string>);
  /**
   * From the server: bad_frame, bad_input, unknown_command, not_found, forbidden, too_many, unavailable, internal, or the
   * project's own. From here: closed; timeout (it is still sent); outbox_full; in_doubt (sent, not answered, and the
   * server may soon forget its id: it may have been done); expired (never sent); bad_result and lost (see submit).
   */
  code: string;
  fields: Record<string, string>;
}

/** A job that ended without success. */
export class JobError extends Error {
  code: "dead" | "cancelled" | "expired";
  reason: string;
  error: string;
  event: TopicEvent;
}

/** The answer of a command that a page before this one left behind. One of `result` and `error` is there. */
export interface Answer {
  id: string;
  name: string;
  args: object;
  result?: unknown;
  error?: CommandError;
}

export interface CommandOptions {
  /** 1-64 of A-Za-z0-9_-; one id is one command. */
  id?: string;
  /** ms after which the promise rejects with "timeout"; the command is still sent. */
  timeout?: number | null;
}

export interface Submission<Result> {
  id: string;
  /** The command's result. */
  ack: Promise<Result>;
  /** The events of the job, from its first to its last; each reading begins anew. */
  events: AsyncIterable<TopicItem>;
  /** The job's last event. Rejects with a JobError, or a CommandError when there is no job to follow. */
  done: Promise<TopicEvent>;
}

/** An event "status" follows each change of `status`, after `onstatus`. */
export interface Socket extends EventTarget {
  onstatus: ((status: Status) => void) | null;
  /** About a frame that was no command and no subscription. */
  onerror: ((error: CommandError) => void) | null;
  onanswer: ((answer: Answer) => void) | null;
  /** Frames of types that are not of this protocol: a project's own. */
  onmessage: ((frame: { type: string }) => void) | null;
  readonly status: Status;
  /** The commands without an answer yet, those of earlier pages included. */
  readonly pending: { id: string; name: string; args: object }[];
  /** The server's time, ms since 1970. */
  readonly serverTime: number;
  subscribe(topic: string, handlers: Handlers, after?: Place | null): () => void;
  events(topic: string, options?: ReadOptions): AsyncIterableIterator<TopicItem>;
  command<Result = unknown>(name: string, args?: object, options?: CommandOptions): Promise<Result>;
  /**
   * For commands whose result has `topic` and `job`, on topics without a snapshot (with one, what the job did before the
   * answer arrived is in the snapshot and not in the events).
   */
  submit<Result extends { topic: string; job: string }>(
    name: string,
    args?: object,
    options?: CommandOptions,
  ): Submission<Result>;
  /** A frame of a project's own type; false: not connected, nothing was sent. */
  send(frame: { type: string }): boolean;
  close(): void;
}

/** Open a socket to a path or URL and keep it open. */
export function connect(url: string | URL, options?: Options): Socket;

/** Full jitter: anywhere between 0 and min(cap, base * 2 ** attempt), ms. */
export function backoff(attempt: number, base: number, cap: number, random: () => number): number;

/** Where a job stands, made of its events. */
export class JobView {
  readonly state:
    | "unknown"
    | "scheduled"
    | "ready"
    | "running"
    | "succeeded"
    | "dead"
    | "cancelled"
    | "expired";
  /** Starts of the job so far, rescues included. */
  readonly attempt: number;
  /** Attempts that failed and are followed by another one. */
  readonly failures: number;
  readonly rescues: number;
  /** null: not known before the first failure, or without end. */
  readonly maxRetries: number | null;
  /** When it starts, server clock, ms since 1970; null: it isn't scheduled. */
  readonly due: number | null;
  /** From 0 to 1; null: this attempt has not said. */
  readonly fraction: number | null;
  readonly text: string;
  readonly reason: string;
  readonly error: string;
  readonly ended: boolean;
  readonly waitsForRetry: boolean;
  /** Which try runs, is next or was the last: 1, and one more for each failure. */
  readonly tryNumber: number;
  /** Take in the next event. true: a later attempt begins, forget what the ones before it have said. */
  apply(event: Pick<TopicEvent, "name" | "data">): boolean;
}

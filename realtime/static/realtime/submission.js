/** A command and the job that it made. A part of client.js. */

import { CommandError } from "./errors.js";
import { isEnd, JobError } from "./job.js";

export class Submission {
  /** The id of the command. */
  id;
  /** Promise of the command's result. */
  ack;
  /** Promise of the job's last event; rejects with a JobError, or a CommandError when there is no job to follow. */
  done;

  #socket;
  #places;

  /** `places`: where the followed topics were when the command was given; what its job does comes after that. */
  constructor(socket, id, ack, places) {
    this.#socket = socket;
    this.#places = places;
    this.id = id;
    this.ack = ack;
    this.done = this.#toItsEnd();
    this.done.catch(() => {}); // who asked hears of it
  }

  /** The job's events from its first to its last. Each reading begins anew. */
  get events() {
    return { [Symbol.asyncIterator]: () => this.#read() };
  }

  async *#read() {
    const { topic, job } = await this.#made();
    const after = this.#places.get(topic) ?? null;
    const keep = (item) => item.type !== "event" || item.job === job;
    for await (const item of this.#socket.events(topic, { after, keep })) {
      yield item;
      if (isEnd(item)) return;
    }
  }

  async #toItsEnd() {
    for await (const item of this.events) {
      if (item.name === "succeeded") return item;
      if (isEnd(item)) throw new JobError(item);
      if (item.type === "reset" && item.offset === 0) throw new CommandError("lost", "The store lost the log of this job.");
    }
    throw new CommandError("closed", "The connection was closed before the job had ended.");
  }

  async #made() {
    const { topic, job } = (await this.ack) ?? {};
    if (typeof topic === "string" && typeof job === "string") return { topic, job };
    throw new CommandError("bad_result", "submit() needs a command whose result has `topic` and `job`.");
  }
}

/** docs/protocol/vectors.json against client.js: the dialogues, with the test in the server's part. Run by test_client.py. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { connect, VERSION } from "../../realtime/static/realtime/client.js";
import { setUp } from "./fakes.mjs";

const VECTORS = JSON.parse(readFileSync(new URL("../../docs/protocol/vectors.json", import.meta.url), "utf-8"));
const { samples } = VECTORS;

/** The value with a sample in place of each name that begins with $. */
function filledIn(value) {
  if (typeof value === "string" && value.startsWith("$")) {
    assert.ok(value in samples, `there is no sample of ${value}`);
    return samples[value];
  }
  if (Array.isArray(value)) return value.map(filledIn);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, filledIn(inner)]));
}

/** A client and what its page was told. */
class Play {
  world = setUp(connect);
  heard = { events: [], snapshots: [], errors: [], results: [], refusals: [] };

  /** A connection is made: the first one by itself, each later one when its time has come. */
  open() {
    const { server, clock, client } = this.world;
    if (server.socket.readyState === 3) clock.pass(client.status.retryIn);
    server.socket.readyState = 1;
  }

  server(frame) {
    this.world.server.say(filledIn(frame));
  }

  browser(frame) {
    assert.deepEqual(this.world.server.socket.sent.shift(), filledIn(frame));
  }

  page({ subscribe, command }) {
    const { client } = this.world;
    if (subscribe) {
      client.subscribe(subscribe, {
        event: ({ offset }) => this.heard.events.push(offset),
        snapshot: (data) => this.heard.snapshots.push(data),
        error: ({ code }) => this.heard.errors.push(code),
      });
    }
    if (command) {
      const [name, args, id] = command;
      client.command(name, args, { id }).then(
        (result) => this.heard.results.push(result),
        ({ code }) => this.heard.refusals.push(code),
      );
    }
  }

  async told(expected) {
    await new Promise((resolve) => setImmediate(resolve)); // answers arrive as promises
    const { state, ...lists } = filledIn(expected);
    if (state) assert.equal(this.world.client.status.state, state);
    for (const [name, values] of Object.entries(lists)) assert.deepEqual(this.heard[name], values, name);
  }

  cut(code) {
    this.world.server.hangUp(code);
  }

  close(code) {
    this.world.server.hangUp(code);
  }

  log() {}
}

test("the vectors are of this version", () => assert.equal(VECTORS.version, VERSION));

for (const { name, only, steps } of VECTORS.dialogues.filter((dialogue) => dialogue.only !== "server")) {
  test(`dialogue: ${name}${only ? ` (${only})` : ""}`, async () => {
    const play = new Play();
    for (const step of steps) {
      const [[verb, what]] = Object.entries(step);
      await play[verb](what);
    }
    assert.deepEqual(play.world.server.heard(), [], "nothing else was sent");
    play.world.client.close();
  });
}

test("no valid frame of a server disturbs a client", () => {
  for (const frame of VECTORS.from_server.valid) {
    const { client, server, reports } = setUp(connect);
    server.welcome();
    server.say(frame);
    assert.deepEqual([client.status.state, reports], ["live", []], JSON.stringify(frame));
    client.close();
  }
});

/** client.js without a browser. Run by test_client.py with the node that ships with Playwright. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { backoff, CommandError, connect, MemoryOutbox } from "../../realtime/static/realtime/client.js";
import { setUp } from "./fakes.mjs";

/** Collects what one handler is told. */
function recorder() {
  const told = { events: [], snapshots: [], subscribed: [], errors: [] };
  return {
    told,
    event: (event) => told.events.push(event.offset),
    snapshot: (data) => told.snapshots.push(data),
    subscribed: (info) => told.subscribed.push([info.offset, info.recovered, info.replayed]),
    error: (error) => told.errors.push(error.code),
  };
}

async function rejection(promise) {
  return promise.then(
    () => assert.fail("it was not refused"),
    (error) => error,
  );
}

test("is live from the welcome on", () => {
  const { client, server, statuses } = setUp(connect);
  assert.equal(client.status.state, "connecting");
  assert.equal(server.socket.url, "ws://server/ws/");
  server.welcome();
  assert.equal(client.status.state, "live");
  assert.deepEqual(statuses.map((status) => status.state), ["live"]);
  client.close();
});

test("the delay is drawn between nothing and a cap that doubles", () => {
  const longest = Array.from({ length: 8 }, (_, attempt) => backoff(attempt, 500, 20_000, () => 1));
  assert.deepEqual(longest, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
  assert.equal(backoff(5, 500, 20_000, () => 0), 0);
  assert.equal(backoff(1e6, 500, 20_000, () => 1), 20_000);
});

for (const code of [1000, 1001, 1006, 1011, 1012, 1013, 4500, 4503]) {
  test(`reconnects after close code ${code}, counting down`, () => {
    const { client, server, clock, statuses, chance } = setUp(connect);
    server.welcome();
    chance.value = 1;
    server.hangUp(1006);
    clock.pass(500);
    server.hangUp(1006);
    clock.pass(1000);
    server.hangUp(code, "why");
    assert.equal(client.status.state, "reconnecting");
    assert.deepEqual([client.status.code, client.status.reason, client.status.retryIn], [code, "why", 2000]);
    statuses.length = 0;
    clock.pass(1999);
    assert.deepEqual(statuses.map((status) => status.retryIn), [1000]);
    assert.equal(server.sockets.length, 3);
    clock.pass(1);
    assert.equal(server.sockets.length, 4);
    client.close();
  });
}

for (const code of [1008, 4401, 4403, 4429]) {
  test(`stops after close code ${code} and says why`, async () => {
    const { client, server, clock } = setUp(connect);
    server.welcome();
    const refused = rejection(client.command("deliver"));
    server.hangUp(code);
    assert.equal(client.status.state, "closed");
    assert.equal(client.status.code, code);
    assert.match(client.status.reason, /\w+ \w+/);
    assert.equal((await refused).code, "closed");
    assert.equal((await rejection(client.command("deliver"))).code, "closed");
    assert.equal(clock.waiting, 0);
    assert.equal(server.sockets.length, 1);
  });
}

test("stops when the server speaks another version", () => {
  const { client, server, clock } = setUp(connect);
  server.welcome(2);
  assert.equal(client.status.state, "closed");
  assert.match(client.status.reason, /version 2/);
  assert.equal(clock.waiting, 0);
});

test("a steady connection starts again at the base, a flapping one does not", () => {
  const { client, server, clock, chance } = setUp(connect);
  chance.value = 1;
  for (const delay of [500, 1000, 2000]) {
    server.welcome();
    server.hangUp(4503);
    assert.equal(client.status.retryIn, delay);
    clock.pass(delay);
  }
  server.welcome();
  clock.pass(5000);
  server.hangUp(1006);
  assert.equal(client.status.retryIn, 500);
  client.close();
});

for (const [what, happen] of [
  ["the network is back", ({ window }) => window.dispatchEvent(new Event("online"))],
  ["the tab becomes visible", ({ document }) => document.dispatchEvent(new Event("visibilitychange"))],
]) {
  test(`connects at once when ${what}`, () => {
    const world = setUp(connect);
    world.chance.value = 1;
    world.server.hangUp(1006);
    assert.equal(world.client.status.state, "reconnecting");
    happen(world);
    assert.equal(world.server.sockets.length, 2);
    world.clock.pass(5000);
    assert.equal(world.server.sockets.length, 2, "the wait that was cut short must not connect again");
    world.client.close();
  });

  test(`asks whether the socket lives when ${what}`, () => {
    const world = setUp(connect);
    world.server.welcome();
    happen(world);
    assert.deepEqual(world.server.heard(), [{ type: "ping" }]);
    world.clock.pass(4000);
    assert.equal(world.client.status.state, "reconnecting");
    world.client.close();
  });
}

test("a hidden tab is left alone", () => {
  const { client, server, document } = setUp(connect);
  document.visibilityState = "hidden";
  server.hangUp(1006);
  document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(server.sockets.length, 1);
  client.close();
});

test("pings after 20 s of silence and leaves a server that does not answer in 10", () => {
  const { client, server, clock } = setUp(connect);
  server.welcome();
  clock.pass(15_000);
  server.say({ type: "pong" });
  clock.pass(19_999);
  assert.deepEqual(server.heard(), []);
  clock.pass(1);
  assert.deepEqual(server.heard(), [{ type: "ping" }]);
  server.say({ type: "pong" });
  clock.pass(20_000);
  assert.deepEqual(server.heard(), [{ type: "ping" }]);
  const first = server.socket;
  clock.pass(10_000);
  assert.ok(first.closed);
  assert.equal(client.status.state, "reconnecting");
  assert.equal(client.status.reason, "the server does not answer");
  client.close();
});

test("a server that accepts and never welcomes is left", () => {
  const { client, server, clock } = setUp(connect);
  clock.pass(10_000);
  assert.ok(server.sockets[0].closed);
  assert.equal(client.status.state, "reconnecting");
  client.close();
});

test("what an old socket still says is ignored", () => {
  const { client, server, clock } = setUp(connect);
  server.welcome();
  const { onmessage } = server.socket;
  server.hangUp(1006);
  onmessage({ data: '{"type":"welcome","v":1}' });
  assert.equal(client.status.state, "reconnecting");
  clock.pass(1000);
  client.close();
});

test("confirms what it has read", () => {
  const { client, server } = setUp(connect);
  server.welcome();
  server.say({ type: "check", n: 7 });
  assert.deepEqual(server.heard(), [{ type: "checked", n: 7 }]);
  client.close();
});

test("follows a topic from its start, then resumes where it was", () => {
  const { client, server, clock, statuses } = setUp(connect);
  const handler = recorder();
  client.subscribe("user.5", handler);
  server.welcome();
  assert.deepEqual(server.heard(), [{ type: "subscribe", topic: "user.5" }]);
  server.subscribed("user.5", 9, 2, { replayed: 2 });
  for (const offset of [1, 2, 3]) server.event("user.5", 9, offset);
  server.hangUp(1006);
  clock.pass(500);
  server.welcome();
  assert.deepEqual(server.heard(), [{ type: "subscribe", topic: "user.5", epoch: 9, offset: 3 }]);
  statuses.length = 0;
  server.subscribed("user.5", 9, 5, { replayed: 2 });
  server.event("user.5", 9, 4);
  assert.equal(client.status.caughtUp, null);
  server.event("user.5", 9, 5);
  assert.equal(client.status.caughtUp, 2);
  server.event("user.5", 9, 6);
  assert.deepEqual(handler.told.events, [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(handler.told.subscribed, [[2, false, 2], [5, true, 2]]);
  client.close();
});

test("caught up with nothing is said too, and waits for every topic", () => {
  const { client, server, clock } = setUp(connect);
  client.subscribe("a", recorder());
  client.subscribe("b", recorder());
  server.welcome();
  server.subscribed("a", 1, 0);
  server.subscribed("b", 1, 0);
  server.hangUp(1006);
  clock.pass(500);
  server.welcome();
  server.subscribed("a", 1, 0);
  assert.equal(client.status.caughtUp, null);
  server.say({ type: "error", topic: "b", code: "forbidden", message: "No." });
  assert.equal(client.status.caughtUp, 0);
  client.close();
});

test("drops what it has seen and asks again when something is missing", () => {
  const { client, server } = setUp(connect);
  const handler = recorder();
  client.subscribe("t", handler);
  server.welcome();
  server.heard();
  server.subscribed("t", 1, 2, { replayed: 2 });
  server.event("t", 1, 1);
  server.event("t", 1, 1);
  server.event("t", 1, 2);
  server.event("t", 1, 5);
  server.event("t", 1, 6);
  assert.deepEqual(handler.told.events, [1, 2]);
  assert.deepEqual(server.heard(), [{ type: "subscribe", topic: "t", epoch: 1, offset: 2 }]);
  server.subscribed("t", 1, 6, { replayed: 4 });
  for (const offset of [3, 4, 5, 6, 7]) server.event("t", 1, offset);
  assert.deepEqual(handler.told.events, [1, 2, 3, 4, 5, 6, 7]);
  client.close();
});

test("an event of another log is a gap; a log that begins after an empty one is not", () => {
  const { client, server } = setUp(connect);
  const handler = recorder();
  client.subscribe("t", handler);
  server.welcome();
  server.subscribed("t", 0, 0);
  server.heard();
  server.event("t", 5, 1);
  server.event("t", 5, 2);
  assert.deepEqual(server.heard(), []);
  server.event("t", 6, 1);
  assert.deepEqual(server.heard(), [{ type: "subscribe", topic: "t", epoch: 5, offset: 2 }]);
  server.subscribed("t", 6, 1, { recovered: false, replayed: 1 });
  server.event("t", 6, 1);
  assert.deepEqual(handler.told.events, [1, 2, 1]);
  assert.deepEqual(handler.told.subscribed.at(-1), [1, false, 1]);
  client.close();
});

test("a snapshot replaces what was known when the history is gone", () => {
  const { client, server, clock } = setUp(connect);
  const handler = recorder();
  client.subscribe("t", handler);
  server.welcome();
  server.subscribed("t", 1, 40, { recovered: false });
  server.say({ type: "snapshot", topic: "t", data: { rows: 1 } });
  server.event("t", 1, 41);
  server.hangUp(1012);
  clock.pass(500);
  server.welcome();
  server.subscribed("t", 2, 7, { recovered: false });
  server.say({ type: "snapshot", topic: "t", data: { rows: 2 } });
  server.event("t", 2, 8);
  assert.deepEqual(handler.told.snapshots, [{ rows: 1 }, { rows: 2 }]);
  assert.deepEqual(handler.told.events, [41, 8]);
  client.close();
});

test("the server may start a topic over at any time", () => {
  const { client, server } = setUp(connect);
  const handler = recorder();
  client.subscribe("t", handler);
  server.welcome();
  server.subscribed("t", 1, 1, { replayed: 1 });
  server.event("t", 1, 1);
  server.subscribed("t", 0, 0, { recovered: false });
  server.event("t", 3, 1);
  assert.deepEqual(handler.told.events, [1, 1]);
  client.close();
});

test("an offset from the future (the store lost its newest events) starts over", () => {
  const { client, server, clock } = setUp(connect);
  const handler = recorder();
  client.subscribe("t", handler);
  server.welcome();
  server.subscribed("t", 1, 9);
  server.hangUp(1006);
  clock.pass(500);
  server.welcome();
  server.subscribed("t", 1, 4, { recovered: false, replayed: 4 });
  server.event("t", 1, 1);
  assert.deepEqual(handler.told.subscribed.at(-1), [4, false, 4]);
  assert.deepEqual(handler.told.events, [1]);
  client.close();
});

test("a second handler gets the whole, the first one nothing twice", () => {
  const { client, server } = setUp(connect);
  const [first, second] = [recorder(), recorder()];
  client.subscribe("t", first);
  server.welcome();
  server.subscribed("t", 1, 2, { replayed: 2 });
  for (const offset of [1, 2]) server.event("t", 1, offset);
  server.heard();
  client.subscribe("t", second);
  assert.deepEqual(server.heard(), [{ type: "subscribe", topic: "t" }]);
  server.event("t", 1, 3); // of the subscription before
  server.subscribed("t", 1, 3, { replayed: 3 });
  for (const offset of [1, 2, 3, 4]) server.event("t", 1, offset);
  assert.deepEqual(first.told.events, [1, 2, 3, 4]);
  assert.deepEqual(second.told.events, [1, 2, 3, 4]);
  assert.deepEqual(first.told.subscribed.at(-1), [3, true, 1]);
  client.close();
});

test("a second handler on a topic with snapshots leaves the first one alone when it is up to date", () => {
  const { client, server } = setUp(connect);
  const [first, second] = [recorder(), recorder()];
  client.subscribe("t", first);
  server.welcome();
  server.subscribed("t", 1, 2, { recovered: false });
  server.say({ type: "snapshot", topic: "t", data: {} });
  client.subscribe("t", second);
  server.subscribed("t", 1, 2, { recovered: false });
  server.say({ type: "snapshot", topic: "t", data: {} });
  assert.equal(first.told.snapshots.length, 1);
  assert.equal(second.told.snapshots.length, 1);
  client.close();
});

test("unsubscribes when the last handler leaves, and only then", () => {
  const { client, server } = setUp(connect);
  const [first, second] = [recorder(), recorder()];
  const stops = [client.subscribe("t", first), client.subscribe("t", second)];
  server.welcome();
  server.subscribed("t", 1, 0);
  server.heard();
  stops[0]();
  stops[0]();
  assert.deepEqual(server.heard(), []);
  server.event("t", 1, 1);
  stops[1]();
  assert.deepEqual(server.heard(), [{ type: "unsubscribe", topic: "t" }]);
  server.event("t", 1, 2);
  assert.deepEqual([first.told.events, second.told.events], [[], [1]]);
  client.close();
});

test("a subscription that may not be is not tried again; one that failed is", () => {
  const { client, server, clock } = setUp(connect);
  const handler = recorder();
  client.subscribe("mine", handler);
  client.subscribe("yours", handler);
  server.welcome();
  server.heard();
  server.say({ type: "error", topic: "yours", code: "forbidden", message: "No." });
  server.say({ type: "error", topic: "mine", code: "unavailable", message: "Later." });
  clock.pass(1499);
  assert.deepEqual(server.heard(), []);
  clock.pass(1);
  assert.deepEqual(server.heard(), [{ type: "subscribe", topic: "mine" }]);
  assert.deepEqual(handler.told.errors, ["forbidden", "unavailable"]);
  client.close();
});

test("a handler that throws disturbs nobody", () => {
  const { client, server, reports } = setUp(connect);
  const mistake = new Error("the page's own");
  const other = recorder();
  client.subscribe("t", { event: () => { throw mistake; } });
  client.subscribe("t", other);
  client.onstatus = () => { throw mistake; };
  server.welcome();
  server.subscribed("t", 1, 0);
  server.event("t", 1, 1);
  assert.deepEqual(other.told.events, [1]);
  assert.deepEqual(reports, [mistake, mistake]);
  client.close();
});

test("a command resolves with its result", async () => {
  const { client, server } = setUp(connect);
  server.welcome();
  const result = client.command("deliver", { url: "u" }, { id: "one" });
  assert.deepEqual(server.heard(), [{ type: "command", id: "one", name: "deliver", args: { url: "u" } }]);
  assert.equal(client.status.pending, 1);
  server.say({ type: "ack", id: "one", result: { delivery: 1 } });
  assert.deepEqual(await result, { delivery: 1 });
  assert.equal(client.status.pending, 0);
  client.close();
});

test("a refused command rejects with code, sentence and fields", async () => {
  const { client, server } = setUp(connect);
  server.welcome();
  const refused = rejection(client.command("deliver", {}, { id: "one" }));
  server.say({ type: "error", id: "one", code: "bad_input", message: "No.", fields: { url: "required" } });
  const error = await refused;
  assert.ok(error instanceof CommandError);
  assert.deepEqual([error.code, error.message, error.fields], ["bad_input", "No.", { url: "required" }]);
  client.close();
});

test("a command given while away is sent when back, an unanswered one again with the same id", async () => {
  const { client, server, clock } = setUp(connect);
  const early = client.command("deliver", { n: 1 }, { id: "early" });
  server.welcome();
  const late = client.command("deliver", { n: 2 }, { id: "late" });
  assert.deepEqual(server.heard().map((frame) => frame.id), ["early", "late"]);
  server.say({ type: "ack", id: "early", result: 1 });
  for (let cut = 0; cut < 3; cut += 1) {
    server.hangUp(1006);
    clock.pass(client.status.retryIn);
    server.welcome();
    assert.deepEqual(server.heard().map((frame) => [frame.id, frame.args]), [["late", { n: 2 }]]);
  }
  server.say({ type: "ack", id: "late", result: 2 });
  server.say({ type: "ack", id: "late", result: 3 });
  assert.deepEqual([await early, await late], [1, 2]);
  client.close();
});

test("the same id is one command", async () => {
  const { client, server } = setUp(connect);
  server.welcome();
  const both = [client.command("deliver", {}, { id: "one" }), client.command("deliver", {}, { id: "one" })];
  assert.equal(server.heard().length, 1);
  server.say({ type: "ack", id: "one", result: 1 });
  assert.deepEqual(await Promise.all(both), [1, 1]);
  client.close();
});

test("a timeout says so, the command is kept and its answer can still be had", async () => {
  const { client, server, clock } = setUp(connect);
  const refused = rejection(client.command("deliver", {}, { id: "one", timeout: 3000 }));
  clock.pass(3000);
  assert.equal((await refused).code, "timeout");
  assert.equal(client.status.pending, 1);
  server.welcome();
  assert.deepEqual(server.heard().map((frame) => frame.id), ["one"]);
  const answer = client.command("deliver", {}, { id: "one" });
  server.say({ type: "ack", id: "one", result: 1 });
  assert.equal(await answer, 1);
  assert.deepEqual(server.heard(), []);
  client.close();
});

test("a command that came too fast is sent again", async () => {
  const { client, server, clock } = setUp(connect);
  server.welcome();
  const result = client.command("deliver", {}, { id: "one" });
  server.heard();
  server.say({ type: "error", id: "one", code: "too_fast", message: "Slow down." });
  clock.pass(2000);
  assert.deepEqual(server.heard().map((frame) => frame.id), ["one"]);
  server.say({ type: "ack", id: "one", result: 1 });
  assert.equal(await result, 1);
  client.close();
});

test("ids are made, and bad ones refused", async () => {
  const { client, server } = setUp(connect);
  server.welcome();
  client.command("a");
  client.command("b");
  const ids = server.heard().map((frame) => frame.id);
  assert.equal(new Set(ids).size, 2);
  for (const id of ids) assert.match(id, /^[0-9a-f]{32}$/);
  assert.equal((await rejection(client.command("a", {}, { id: "no spaces" }))).code, "bad_input");
  client.close();
});

test("a command that no server would take is refused here", async () => {
  const { client, server } = setUp(connect);
  server.welcome();
  assert.equal((await rejection(client.command("a", { text: "ä".repeat(500_000) }))).code, "bad_input");
  assert.deepEqual([server.heard(), client.status.pending], [[], 0]);
  client.close();
});

test("200 commands at once are sent in order at a pace that the server accepts", () => {
  const { client, server, clock } = setUp(connect);
  for (let n = 0; n < 200; n += 1) client.command("deliver", { n });
  server.welcome();
  assert.equal(server.socket.sent.length, 30);
  clock.pass(1000);
  assert.ok(server.socket.sent.length <= 46, String(server.socket.sent.length));
  clock.pass(12_000);
  assert.deepEqual(server.heard().map((frame) => frame.args.n), Array.from({ length: 200 }, (_, n) => n));
  client.close();
});

test("an outbox that remembers sends what an earlier page left", () => {
  const outbox = new MemoryOutbox();
  outbox.put("old", { type: "command", id: "old", name: "deliver", args: {} });
  const { client, server } = setUp(connect, { outbox });
  assert.equal(client.status.pending, 1);
  server.welcome();
  assert.deepEqual(server.heard().map((frame) => frame.id), ["old"]);
  server.say({ type: "ack", id: "old", result: {} });
  assert.deepEqual(outbox.entries(), []);
  client.close();
});

test("frames of newer servers are ignored, what is not JSON ends the socket, other errors are told", () => {
  const { client, server } = setUp(connect);
  const errors = [];
  client.onerror = (error) => errors.push(error.code);
  server.welcome();
  server.say({ type: "fireworks" });
  server.say({ type: "error", code: "bad_frame", message: "What?" });
  server.say({ type: "event", topic: "nobody", epoch: 1, offset: 1, at: 0, job: "", name: "", data: {} });
  assert.equal(client.status.state, "live");
  assert.deepEqual(errors, ["bad_frame"]);
  server.say("}{");
  assert.equal(client.status.state, "reconnecting");
  client.close();
});

test("closing ends everything", async () => {
  const { client, server, clock, window } = setUp(connect);
  server.welcome();
  const refused = rejection(client.command("deliver", {}, { timeout: 1000 }));
  client.close();
  assert.equal((await refused).code, "closed");
  await Promise.resolve();
  window.dispatchEvent(new Event("online"));
  clock.pass(60_000);
  assert.equal(server.sockets.length, 1);
  assert.equal(clock.waiting, 0);
  assert.ok(server.sockets[0].closed);
});

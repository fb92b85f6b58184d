/** client.js without a browser. Run by test_client.py with the node that ships with Playwright. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { backoff, CommandError, connect, JobError, JobView } from "../../realtime/static/realtime/client.js";
import { Clock, setUp, Shared } from "./fakes.mjs";

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

/** Let promises that are settled already have their say. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

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

for (const code of [1008, 4400, 4401, 4403, 4429]) {
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

test("200 commands at once are sent in order, few at a time, at a pace that the server accepts", () => {
  const { client, server, clock } = setUp(connect);
  const sent = [];
  const answer = () => {
    for (const { id, args } of server.heard()) {
      sent.push(args.n);
      server.say({ type: "ack", id, result: {} });
    }
  };
  for (let n = 0; n < 200; n += 1) client.command("deliver", { n });
  server.welcome();
  assert.equal(server.socket.sent.length, 10, "a network that stands still has no more to let through at once");
  clock.pass(9000);
  assert.equal(server.socket.sent.length, 10);
  while (server.socket.sent.length) answer();
  assert.equal(sent.length, 200 - client.status.pending);
  assert.ok(sent.length >= 30, String(sent.length));
  const before = sent.length;
  for (let ms = 0; ms < 1000; ms += 10, clock.pass(10)) answer();
  assert.ok(sent.length - before <= 16, String(sent.length - before));
  for (let ms = 0; ms < 12_000; ms += 100, clock.pass(100)) answer();
  assert.deepEqual(sent, Array.from({ length: 200 }, (_, n) => n));
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

// What the server says at its end, and sockets that give way.

test("the server's last sentence is the reason", () => {
  const { client, server } = setUp(connect);
  const errors = [];
  client.onerror = (error) => errors.push(error.code);
  server.welcome();
  server.say({ type: "error", code: "closing", message: "You were signed out." });
  server.hangUp(4401);
  assert.deepEqual([client.status.state, client.status.reason, errors], ["closed", "You were signed out.", []]);
});

test("a page that gave way to others waits until it is used, never for a time", () => {
  const { client, server, clock, window } = setUp(connect);
  server.welcome();
  server.hangUp(4409);
  assert.equal(client.status.state, "parked");
  clock.pass(3_600_000);
  assert.equal(server.sockets.length, 1);
  window.dispatchEvent(new Event("focus"));
  assert.equal(server.sockets.length, 2);
  server.welcome();
  server.hangUp(4409);
  client.command("deliver"); // that is using it
  assert.equal(server.sockets.length, 3);
  client.close();
});

test("a page whose session became somebody else's stops", () => {
  const { client, server, clock } = setUp(connect);
  server.socket.readyState = 1;
  server.say({ type: "welcome", v: 1, user: "5" });
  client.command("deliver", {}, { id: "mine" });
  server.heard();
  server.hangUp(1006);
  clock.pass(500);
  server.socket.readyState = 1;
  server.say({ type: "welcome", v: 1, user: "6" });
  assert.equal(client.status.state, "closed");
  assert.match(client.status.reason, /somebody else/);
  assert.deepEqual(server.heard(), []);
});

test("the server's clock is known from its welcome", () => {
  const { client, server, clock } = setUp(connect);
  server.socket.readyState = 1;
  server.say({ type: "welcome", v: 1, now: 1_900_000_000_000 });
  clock.pass(250);
  assert.equal(client.serverTime, 1_900_000_000_250);
  client.close();
});

test("a project's own frames pass both ways", () => {
  const { client, server } = setUp(connect);
  const heard = [];
  client.onmessage = (frame) => heard.push(frame);
  assert.equal(client.send({ type: "typing" }), false);
  server.welcome();
  server.say({ type: "fireworks", n: 1 });
  assert.deepEqual(heard, [{ type: "fireworks", n: 1 }]);
  assert.equal(client.send({ type: "typing" }), true);
  assert.deepEqual(server.heard(), [{ type: "typing" }]);
  assert.throws(() => client.send({ type: "command" }), TypeError);
  client.close();
});

test("an event that stands for several is no gap, and counts for all of them", () => {
  const { client, server, clock } = setUp(connect);
  const handler = recorder();
  client.subscribe("t", handler);
  server.welcome();
  server.subscribed("t", 1, 0);
  server.heard();
  server.say({ type: "event", topic: "t", epoch: 1, first: 1, offset: 4, at: 0, job: "j", name: "progress", data: {} });
  server.event("t", 1, 4);
  server.event("t", 1, 5);
  assert.deepEqual([handler.told.events, server.heard()], [[4, 5], []]);
  server.say({ type: "event", topic: "t", epoch: 1, first: 7, offset: 9, at: 0, job: "j", name: "progress", data: {} });
  assert.deepEqual(server.heard(), [{ type: "subscribe", topic: "t", epoch: 1, offset: 5 }], "6 is missing");
  server.hangUp(1006);
  clock.pass(1000);
  server.welcome();
  server.subscribed("t", 1, 9, { replayed: 4 });
  server.event("t", 1, 6);
  assert.equal(client.status.caughtUp, null);
  server.say({ type: "event", topic: "t", epoch: 1, first: 7, offset: 9, at: 0, job: "j", name: "progress", data: {} });
  assert.equal(client.status.caughtUp, 4);
  client.close();
});

// The outbox.

test("a command outlives its page: the next page of the same user sends it, with the same id", async () => {
  const shared = new Shared();
  const before = setUp(connect, { shared, user: "5" });
  before.client.command("deliver", { n: 1 }, { id: "one" });
  before.client.command("deliver", { n: 2 }, { id: "two" });
  before.die();
  const { client, server } = setUp(connect, { shared, user: "5" });
  const answers = [];
  client.onanswer = (answer) => answers.push(answer);
  server.welcome();
  await settled();
  assert.deepEqual(server.heard().map(({ id, args }) => [id, args]), [["one", { n: 1 }], ["two", { n: 2 }]]);
  assert.deepEqual(client.pending.map(({ id }) => id), ["one", "two"]);
  server.say({ type: "ack", id: "one", result: 1 });
  const late = client.command("deliver", { n: 2 }, { id: "two" });
  server.say({ type: "ack", id: "two", result: 2 });
  assert.equal(await late, 2, "who asks again with the same id hears the answer");
  assert.deepEqual(answers, [{ id: "one", name: "deliver", args: { n: 1 }, result: 1 }]);
  assert.equal(shared.values.size, 0);
  client.close();
});

test("of two tabs each sends its own, and the one that stays takes over when the other one dies", async () => {
  const shared = new Shared();
  const [first, second] = [setUp(connect, { shared, user: "5" }), setUp(connect, { shared, user: "5" })];
  first.server.welcome();
  second.server.welcome();
  first.server.hangUp(1006);
  first.client.command("deliver", {}, { id: "of-the-first" });
  await settled();
  assert.deepEqual([second.server.heard(), second.client.status.pending], [[], 0]);
  first.die();
  await settled();
  assert.deepEqual(second.server.heard().map((frame) => frame.id), ["of-the-first"]);
  second.client.close();
});

test("of three tabs only one takes over", async () => {
  const shared = new Shared();
  const [first, ...others] = [1, 2, 3].map(() => setUp(connect, { shared, user: "5" }));
  for (const { server } of others) server.welcome();
  first.client.command("deliver", {}, { id: "one" });
  await settled();
  first.die();
  await settled();
  assert.deepEqual(others.flatMap(({ server }) => server.heard()).map((frame) => frame.id), ["one"]);
  for (const { client } of others) client.close();
});

test("without locks (plain http) a page takes over at its start, under the same id", async () => {
  const shared = new Shared();
  const before = setUp(connect, { shared, user: "5", withLocks: false });
  before.client.command("deliver", {}, { id: "one" });
  const { client, server } = setUp(connect, { shared, user: "5", withLocks: false });
  server.welcome();
  assert.deepEqual(server.heard().map((frame) => frame.id), ["one"]);
  client.close();
  before.client.close();
});

test("another user at the same browser, or another address, never sends it; nobody's is not stored", async () => {
  const shared = new Shared();
  const mine = setUp(connect, { shared, user: "5" });
  mine.client.command("deliver", {}, { id: "mine" });
  mine.die();
  const theirs = setUp(connect, { shared, user: "55" });
  const nobodys = setUp(connect, { shared });
  theirs.server.welcome();
  nobodys.server.welcome();
  nobodys.client.command("deliver", {}, { id: "nobodys" });
  await settled();
  assert.deepEqual(theirs.server.heard(), []);
  assert.deepEqual([...shared.values.values()].map((text) => JSON.parse(text).id), ["mine"]);
  theirs.client.close();
  nobodys.client.close();
});

test("a command that was sent and not answered is given up before the server forgets it, and that is said", async () => {
  const shared = new Shared();
  const { client, server, clock } = setUp(connect, { shared, user: "5" });
  clock.pass(60_000); // away at first: not sent yet, so not in doubt
  const refused = rejection(client.command("deliver", {}, { id: "one" }));
  server.welcome();
  server.hangUp(1006);
  clock.pass(239_999);
  assert.equal(client.status.pending, 1);
  clock.pass(1);
  const error = await refused;
  assert.equal(error.code, "in_doubt");
  assert.match(error.message, /not known whether it was done/);
  assert.equal(shared.values.size, 0);
  client.close();
});

test("how long the server remembers bounds that too", async () => {
  const { client, server, clock } = setUp(connect);
  server.socket.readyState = 1;
  server.say({ type: "welcome", v: 1, dedup: 60 });
  const refused = rejection(client.command("deliver", {}, { id: "one" }));
  clock.pass(48_000);
  assert.equal((await refused).code, "in_doubt");
  client.close();
});

test("a command that was never sent waits a day, over any number of pages", async () => {
  const shared = new Shared();
  const clock = new Clock();
  const before = setUp(connect, { shared, user: "5", clock });
  before.client.command("deliver", {}, { id: "one" });
  before.die();
  clock.pass(86_000_000);
  const { client, server } = setUp(connect, { shared, user: "5", clock });
  const answers = [];
  client.onanswer = ({ id, error }) => answers.push([id, error.code]);
  await settled();
  assert.equal(client.status.pending, 1);
  clock.pass(400_000);
  assert.deepEqual(answers, [["one", "expired"]]);
  server.welcome();
  assert.deepEqual([server.heard(), shared.values.size], [[], 0]);
  client.close();
});

test("old commands of other users, and what is no command, do not stay in the browser", () => {
  const shared = new Shared();
  const clock = new Clock();
  const theirs = setUp(connect, { shared, user: "6", clock });
  theirs.client.command("deliver", {}, { id: "old" });
  theirs.die();
  shared.values.set("realtime-outbox:5 rubbish", "}{");
  shared.values.set("realtime:theirs", "kept");
  clock.pass(90_000_000);
  const { client } = setUp(connect, { shared, user: "5", clock });
  assert.deepEqual([...shared.values.keys()], ["realtime:theirs"]);
  client.close();
});

test("the outbox is bounded, and says so", async () => {
  const { client } = setUp(connect, { outboxCommands: 3, outboxBytes: 500 });
  for (let n = 0; n < 3; n += 1) client.command("deliver", { n });
  assert.equal((await rejection(client.command("deliver"))).code, "outbox_full");
  client.close();
  const other = setUp(connect, { outboxCommands: 3, outboxBytes: 500 });
  assert.equal((await rejection(other.client.command("deliver", { text: "x".repeat(500) }))).code, "outbox_full");
  assert.equal(other.client.status.pending, 0);
  other.client.close();
});

test("storage that is full is said; the command is sent all the same", () => {
  const shared = new Shared();
  const { client, server, reports } = setUp(connect, { shared, user: "5" });
  shared.values.set = () => {
    throw new Error("QuotaExceededError");
  };
  server.welcome();
  client.command("deliver", {}, { id: "one" });
  assert.deepEqual(server.heard().map((frame) => frame.id), ["one"]);
  assert.ok(reports.length > 0);
  client.close();
});

test("a closed page keeps its stored commands for the next one", async () => {
  const shared = new Shared();
  const before = setUp(connect, { shared, user: "5" });
  const refused = rejection(before.client.command("deliver", {}, { id: "one" }));
  before.client.close();
  assert.equal((await refused).code, "closed");
  const { client, server } = setUp(connect, { shared, user: "5" });
  server.welcome();
  await settled();
  assert.deepEqual(server.heard().map((frame) => frame.id), ["one"]);
  client.close();
});

// Iteration.

test("events can be read by for await, and breaking off unsubscribes", async () => {
  const { client, server } = setUp(connect);
  server.welcome();
  const stream = client.events("t");
  server.subscribed("t", 1, 1, { replayed: 1 });
  for (const offset of [1, 2, 3]) server.event("t", 1, offset);
  server.heard();
  const seen = [];
  for await (const event of stream) {
    seen.push(event.offset);
    if (event.offset === 3) break;
  }
  assert.deepEqual(seen, [1, 2, 3]);
  assert.deepEqual(server.heard(), [{ type: "unsubscribe", topic: "t" }]);
  client.close();
});

test("a reader learns when what it knew is void", async () => {
  const { client, server } = setUp(connect);
  server.welcome();
  const stream = client.events("t");
  server.subscribed("t", 1, 1, { recovered: false });
  server.say({ type: "snapshot", topic: "t", data: { n: 1 } });
  server.event("t", 1, 2);
  server.subscribed("t", 2, 1, { recovered: false, replayed: 1 });
  server.event("t", 2, 1);
  const types = [];
  for (let n = 0; n < 4; n += 1) types.push((await stream.next()).value.type);
  assert.deepEqual(types, ["snapshot", "event", "reset", "event"]);
  client.close();
});

test("a reader that does not read lets the topic go, and goes on from there", async () => {
  const { client, server } = setUp(connect);
  server.welcome();
  const stream = client.events("t", { capacity: 3 });
  server.subscribed("t", 1, 0);
  for (const offset of [1, 2, 3, 4, 5]) server.event("t", 1, offset);
  assert.deepEqual(server.heard().at(-1), { type: "unsubscribe", topic: "t" });
  const seen = [];
  for (let n = 0; n < 3; n += 1) seen.push((await stream.next()).value.offset);
  assert.deepEqual(server.heard(), [{ type: "subscribe", topic: "t", epoch: 1, offset: 3 }]);
  server.subscribed("t", 1, 5, { replayed: 2 });
  for (const offset of [4, 5]) server.event("t", 1, offset);
  for (let n = 0; n < 2; n += 1) seen.push((await stream.next()).value.offset);
  assert.deepEqual(seen, [1, 2, 3, 4, 5]);
  client.close();
});

test("a reader is ended by its signal and by close(), and fails when the server ends it", async () => {
  const leaving = new AbortController();
  const world = setUp(connect);
  world.server.welcome();
  const stopped = world.client.events("a", { signal: leaving.signal });
  const waiting = stopped.next();
  leaving.abort();
  assert.deepEqual(await waiting, { value: undefined, done: true });
  const closed = world.client.events("b").next();
  const forbidden = world.client.events("c").next();
  world.server.say({ type: "error", topic: "c", code: "forbidden", message: "No." });
  assert.equal((await rejection(forbidden)).code, "forbidden");
  world.client.close();
  assert.deepEqual(await closed, { value: undefined, done: true });

  const other = setUp(connect);
  other.server.welcome();
  const cut = other.client.events("d").next();
  other.server.hangUp(4401);
  assert.equal((await rejection(cut)).code, "closed");
});

test("a reader outlives refusals that pass", async () => {
  const { client, server, clock } = setUp(connect);
  server.welcome();
  const next = client.events("t").next();
  server.say({ type: "error", topic: "t", code: "unavailable", message: "Later." });
  server.heard();
  clock.pass(2000);
  assert.deepEqual(server.heard(), [{ type: "subscribe", topic: "t" }]);
  server.subscribed("t", 1, 0);
  server.event("t", 1, 1);
  assert.equal((await next).value.offset, 1);
  client.close();
});

// submit().

async function submitted() {
  const world = setUp(connect);
  world.server.welcome();
  const work = world.client.submit("tell", { n: 1 }, { id: "one" });
  assert.deepEqual(world.server.heard(), [{ type: "command", id: "one", name: "tell", args: { n: 1 } }]);
  world.server.say({ type: "ack", id: "one", result: { topic: "t", job: "j1", n: 1 } });
  assert.deepEqual(await work.ack, { topic: "t", job: "j1", n: 1 });
  await settled();
  return { ...world, work };
}

test("submit: the events of that job only, to its end", async () => {
  const { client, server, work } = await submitted();
  const reading = (async () => {
    const names = [];
    for await (const event of work.events) names.push(event.name);
    return names;
  })();
  await settled();
  server.subscribed("t", 1, 2, { replayed: 2 });
  server.event("t", 1, 1, "ready", {}, "j0");
  server.event("t", 1, 2, "ready", {}, "j1");
  server.event("t", 1, 3, "succeeded", {}, "j1");
  server.event("t", 1, 4, "ready", {}, "j1"); // redriven later: another story
  assert.deepEqual(await reading, ["ready", "succeeded"]);
  client.close();
});

test("submit: on a topic that is followed already, only what comes after the command is asked for", async () => {
  const { client, server } = setUp(connect);
  client.subscribe("t", recorder());
  server.welcome();
  server.subscribed("t", 1, 900, { replayed: 1 });
  server.event("t", 1, 900);
  server.heard();
  const work = client.submit("tell");
  const [{ id }] = server.heard();
  server.event("t", 1, 901, "ready", {}, "j1"); // before the answer
  server.say({ type: "ack", id, result: { topic: "t", job: "j1" } });
  await settled();
  assert.deepEqual(server.heard(), [{ type: "subscribe", topic: "t", epoch: 1, offset: 900 }]);
  server.subscribed("t", 1, 902, { replayed: 2 });
  server.event("t", 1, 901, "ready", {}, "j1");
  server.event("t", 1, 902, "succeeded", {}, "j1");
  assert.equal((await work.done).offset, 902);
  client.close();
});

test("submit: done is the job's last event", async () => {
  const { client, server, work } = await submitted();
  server.subscribed("t", 1, 0);
  server.event("t", 1, 1, "running", { attempt: 1 }, "j1");
  server.event("t", 1, 2, "succeeded", { attempt: 1 }, "other");
  server.event("t", 1, 3, "succeeded", { attempt: 1 }, "j1");
  const last = await work.done;
  assert.deepEqual([last.name, last.offset], ["succeeded", 3]);
  assert.deepEqual(server.heard().at(-1), { type: "unsubscribe", topic: "t" });
  client.close();
});

for (const code of ["dead", "cancelled", "expired"]) {
  test(`submit: done rejects when the job is ${code}`, async () => {
    const { client, server, work } = await submitted();
    server.subscribed("t", 1, 0);
    server.event("t", 1, 1, code, { reason: "why", error: "ValueError: no" }, "j1");
    const error = await rejection(work.done);
    assert.ok(error instanceof JobError);
    assert.deepEqual([error.code, error.reason, error.error], [code, "why", "ValueError: no"]);
    client.close();
  });
}

test("submit: a refused command is a refused job", async () => {
  const { client, server } = setUp(connect);
  server.welcome();
  const work = client.submit("tell", {}, { id: "one" });
  server.say({ type: "error", id: "one", code: "forbidden", message: "No." });
  assert.equal((await rejection(work.ack)).code, "forbidden");
  assert.equal((await rejection(work.done)).code, "forbidden");
  const other = client.submit("tell", {}, { id: "two" });
  server.say({ type: "ack", id: "two", result: {} });
  assert.equal((await rejection(other.done)).code, "bad_result");
  client.close();
});

test("submit: a log that was lost ends the waiting", async () => {
  const { client, server, work } = await submitted();
  server.subscribed("t", 1, 1, { replayed: 1 });
  server.event("t", 1, 1, "ready", {}, "j1");
  server.subscribed("t", 0, 0, { recovered: false });
  assert.equal((await rejection(work.done)).code, "lost");
  client.close();
});

// What the events of a job say.

function story(...events) {
  const view = new JobView();
  const over = events.map(([name, data = {}]) => view.apply({ name, data }));
  return { view, over };
}

test("a job that fails once: its tries, its wait, its error, and starting over", () => {
  const first = story(
    ["ready"],
    ["running", { attempt: 1 }],
    ["progress", { attempt: 1, fraction: 0.4, text: "reading" }],
    ["retrying", { attempt: 1, failures: 1, max_retries: 5, due: 99, error: "OSError: torn" }],
  );
  assert.deepEqual(
    [first.view.state, first.view.tryNumber, first.view.maxRetries, first.view.due, first.view.error],
    ["scheduled", 2, 5, 99, "OSError: torn"],
  );
  assert.equal(first.view.waitsForRetry, true);
  assert.deepEqual(first.over, [false, false, false, false]);
  assert.equal(first.view.apply({ name: "ready", data: {} }), false);
  assert.equal(first.view.apply({ name: "running", data: { attempt: 2 } }), true, "what attempt 1 said is void");
  assert.deepEqual([first.view.state, first.view.fraction, first.view.text], ["running", null, ""]);
  first.view.apply({ name: "succeeded", data: { attempt: 2 } });
  assert.deepEqual([first.view.ended, first.view.fraction, first.view.error], [true, 1, ""]);
});

test("a rescue starts over without being a try", () => {
  const { view, over } = story(
    ["running", { attempt: 1 }],
    ["emit", { attempt: 1, data: {} }],
    ["rescued", { attempt: 1, rescues: 1 }],
    ["ready"],
    ["running", { attempt: 2 }],
  );
  assert.deepEqual([view.tryNumber, view.attempt, view.rescues], [1, 2, 1]);
  assert.deepEqual(over, [false, false, false, false, true]);
});

test("a log that begins in the middle of an attempt is no start over", () => {
  const { view, over } = story(["emit", { attempt: 3, data: {} }], ["progress", { attempt: 3, fraction: 0.5, text: "" }]);
  assert.deepEqual([view.attempt, view.fraction, over], [3, 0.5, [false, false]]);
});

test("a dead job tells its last try, its reason and its error; unknown events change nothing", () => {
  const { view } = story(
    ["retrying", { attempt: 1, failures: 1, max_retries: 1, due: 9, error: "a" }],
    ["running", { attempt: 2 }],
    ["fireworks", {}],
    ["dead", { attempt: 2, reason: "out of retries", error: "b" }],
  );
  assert.deepEqual(
    [view.state, view.tryNumber, view.reason, view.error, view.due],
    ["dead", 2, "out of retries", "b", null],
  );
});

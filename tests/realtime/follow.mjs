/**
 * client.js on real sockets: `node follow.mjs URL ORIGIN TOPIC COMMANDS` sends so many `say` commands, one after the
 * other, and prints what it sees as lines of JSON: ["status", {...}], ["event", 7], ["reset", 3] and ["done", [ids]].
 */

import { connect } from "../../realtime/static/realtime/client.js";

const [url, origin, topic, commands] = process.argv.slice(2);
const print = (...words) => process.stdout.write(`${JSON.stringify(words)}\n`);

class Socket extends WebSocket {
  constructor(address) {
    super(address, { headers: { Origin: origin } }); // a browser sends it by itself
  }
}

const client = connect(url, {
  environment: { WebSocket: Socket },
  reconnectBase: 50,
  reconnectCap: 300,
  pingEvery: 500,
  pongTimeout: 1000,
});
client.onstatus = (status) => print("status", status);
client.subscribe(topic, {
  event: (event) => print("event", event.offset),
  subscribed: (info) => {
    if (!info.recovered) print("reset", info.offset - info.replayed);
  },
});
const ids = [];
for (let number = 0; number < Number(commands); number += 1) {
  const id = `command-${number}`;
  await client.command("say", { topic }, { id });
  ids.push(id);
}
print("done", ids);

/**
 * recorder.js in node: `node recorder.mjs URL ORIGIN TOPIC...`. What it tells is a line of JSON each. On standard input
 * `submit COUNT` and `report`, whose answers are the lines ["submitted", n] and ["report", {...}].
 */

import { createInterface } from "node:readline";

import { Recorder } from "./recorder.js";

const [url, origin, ...topics] = process.argv.slice(2);
const tell = (...words) => process.stdout.write(`${JSON.stringify(words)}\n`);

class Socket extends WebSocket {
  constructor(address) {
    super(address, { headers: { Origin: origin } }); // a browser sends it by itself
  }
}

const recorder = new Recorder(url, topics, tell, { environment: { WebSocket: Socket } });

createInterface({ input: process.stdin }).on("line", (line) => {
  const [word, count] = line.split(" ");
  if (word === "submit") tell("submitted", recorder.submit(Number(count)));
  if (word === "report") tell("report", recorder.report());
});

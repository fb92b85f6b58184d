// The streaming page: one socket, the newest story of this user, and a button that asks for another one.
import { connect, JobView } from "../realtime/client.js";
import "../realtime/job-progress.js";
import { getStatus, killWorker } from "../webhooks/api.js";
import { byId, say, setData, setText } from "../webhooks/dom.js";
import { oneAtATime } from "../webhooks/once.js";
import { socketWords } from "../webhooks/words.js";

const { topic, user } = document.body.dataset;
const socket = connect("/ws/stories/", { user });
const story = byId("story");
let told = null; // the newest job: {id, view, worker, stop}
const before = new Set(); // the ids of those before it
const STOPS = { // by the event that ended an attempt
  retrying: "the attempt before failed.",
  rescued: "the worker before vanished.",
  released: "the worker before was stopped.",
};

// ---- the story

function begin(id) {
  if (told) before.add(told.id);
  if (id === null) before.clear(); // what was known is void
  told = id === null ? null : { id, view: new JobView(), worker: "", stop: "retrying" };
  story.replaceChildren();
  say(byId("over"), "");
  show();
}

socket.subscribe(topic, {
  subscribed: ({ recovered, replayed }) => {
    if (!recovered) begin(null);
    byId("none").hidden = told !== null || replayed > 0;
  },
  event: (event) => {
    if (before.has(event.job)) return;
    if (event.job !== told?.id) begin(event.job);
    const { view } = told;
    if (view.apply(event)) startOver();
    if (event.name === "emit") story.append(event.data.data.text);
    if (event.name === "running") told.worker = event.data.worker;
    if (event.name in STOPS) told.stop = event.name;
    show();
  },
});
byId("progress").socket = socket;

/** A later attempt begins: what the ones before it said is void. */
function startOver() {
  story.replaceChildren();
  say(byId("over"), `Starting over: ${STOPS[told.stop]}`);
}

function show() {
  const view = told?.view;
  story.hidden = byId("progress").hidden = !view;
  if (view?.ended) say(byId("over"), "");
  if (view) byId("none").hidden = true;
  story.classList.toggle("is-told", view?.state === "running");
  story.classList.toggle("is-void", Boolean(view) && view.state !== "running" && view.state !== "succeeded");
  byId("kill").disabled = view?.state !== "running";
}

// ---- asking for one

const send = oneAtATime([byId("tell-button")], async () => {
  say(byId("problem"), "");
  const work = socket.submit("tell", { stumble: byId("tell").stumble.checked });
  setText(byId("said"), socket.status.state === "live" ? "" : "Waiting for the connection; it is sent once.");
  try {
    await work.ack;
    setText(byId("said"), "Accepted.");
  } catch (error) {
    refused(error);
  }
});

byId("tell").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});

socket.onanswer = ({ error }) => {
  if (error) refused(error);
  else setText(byId("said"), "What you asked for before is accepted.");
};

function refused(error) {
  setText(byId("said"), "");
  say(byId("problem"), error.message);
}

// ---- the connection

let status = socket.status;
let since = performance.now();
socket.onstatus = (now) => {
  if (now.state !== status.state || now.retryIn !== status.retryIn || now.caughtUp !== status.caughtUp) since = performance.now();
  status = now;
  showStatus();
};
function showStatus() {
  setData(byId("socket"), "state", status.state);
  setText(byId("socket-words"), socketWords(status, performance.now() - since));
  if (status.pending && status.state !== "live" && !byId("said").textContent) {
    setText(byId("said"), "What you asked for is sent when the connection is back.");
  }
}
setInterval(showStatus, 250);

// ---- killing the worker: on one's own machine only

byId("kill").addEventListener("click", async () => {
  byId("kill").disabled = true;
  try {
    await killWorker(told.worker);
    setText(byId("kill-said"), "Killed. When its lease has run out, another worker tells the story from its start.");
  } catch (error) {
    setText(byId("kill-said"), error.message);
  }
});

getStatus().then(
  ({ debug, staff }) => (byId("kill-item").hidden = !(debug && staff)),
  () => {}, // without the site there is nothing to kill
);
show();

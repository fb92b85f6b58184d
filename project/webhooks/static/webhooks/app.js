// The page: joins the socket, the deliveries, the list, the opened delivery and the form, and keeps the address right.
import { getStatus } from "./api.js";
import { Connection } from "./connection.js";
import { Deliveries } from "./deliveries.js";
import { Detail } from "./detail.js";
import { byId } from "./dom.js";
import { Form } from "./form.js";
import { List } from "./list.js";
import { showSignedOut, showStatus } from "./notices.js";
import { startTicking, now, syncClock } from "./time.js";

const STATUS_MS = 10_000;
const OVERDUE_MS = 3_000; // a countdown this long past is worth a look at its row
const LOOK_AT = 8; // rows looked at with one status

const deliveries = new Deliveries();
const connection = new Connection();
const list = new List(deliveries);
const detail = new Detail(deliveries, connection);
const form = new Form(deliveries, connection, taken);
const narrow = matchMedia("(max-width: 52rem)");
let following = false;
let workerMissing = false;

// ---- the address: / is the list, /deliveries/<id>/ the same page with that delivery open

const idInAddress = () => location.pathname.match(/^\/deliveries\/([^/]+)\/$/)?.[1] ?? null;

function open(id, { push = false } = {}) {
  if (push && id !== idInAddress()) history.pushState(null, "", id ? `/deliveries/${id}/` : "/");
  if (id === null) document.title = "Deliveries";
  byId("panes").dataset.view = id ? "detail" : "list";
  list.mark(id);
  detail.open(id);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-link]");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const from = detail.id;
  open(link.dataset.link === "home" ? null : link.dataset.link, { push: true });
  if (!narrow.matches) return;
  scrollTo(0, 0);
  if (detail.id) byId("detail-heading").focus();
  else document.querySelector(`a[data-link="${from}"]`)?.focus();
});
addEventListener("popstate", () => open(idInAddress()));

// ---- news

/** A delivery was accepted: into the list with it; where both fit on the screen it opens at once. */
function taken(delivery, asOf, queued) {
  deliveries.put(delivery, asOf);
  deliveries.touch(delivery.id);
  if (!queued) status(); // the store is away: say so now
  if (!narrow.matches) open(delivery.id, { push: true });
}

/** Reads everything in sight again. */
function resync() {
  deliveries.readFirst().catch(failed);
  if (detail.id) deliveries.touch(detail.id);
}

function failed(error) {
  if (error.status === 401) showSignedOut();
}

function follow(topic) {
  if (following) return;
  following = true;
  let asOf = 0;
  connection.subscribe(topic, {
    event: ({ job, name }) => {
      deliveries.touch(job.split(".")[0]); // a job's id is the delivery's and its generation
      if (name === "running" && workerMissing) status(); // not any longer
    },
    subscribed: () => (asOf = performance.now()),
    snapshot: (page) => { // instead of the events, when the log no longer holds all that was missed
      deliveries.takeFirst(page, asOf);
      if (detail.id) deliveries.touch(detail.id);
    },
  });
}

async function status() {
  const sent = Date.now();
  try {
    const answer = await getStatus();
    syncClock(answer.now, sent, Date.now());
    showStatus(answer);
    workerMissing = !answer.worker;
    form.offerReceivers(answer.receivers);
    detail.allowKill(answer.debug && answer.staff);
    follow(answer.user_topic);
  } catch (error) {
    if (error.status === 401) showSignedOut();
    else showStatus(null);
  }
}

/** With each status: without a socket everything, else the rows that no event may ever come for. */
async function tick() {
  await status();
  if (!connection.live) return resync();
  const stale = ({ state, job }) => {
    if (state !== "pending") return false;
    if (job?.state === "scheduled") return Date.parse(job.due_at) < now() - OVERDUE_MS;
    return job?.state !== "ready" && job?.state !== "running";
  };
  for (const { id } of deliveries.listed().filter(stale).slice(0, LOOK_AT)) deliveries.touch(id);
}

connection.addEventListener("live", status);
connection.addEventListener("signed-out", showSignedOut);
document.addEventListener("visibilitychange", () => document.hidden || tick());

startTicking();
open(idInAddress());
resync();
tick();
setInterval(tick, STATUS_MS);

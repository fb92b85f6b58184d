// What a person must know to understand why nothing moves: no worker, no store, no site, signed out.
import { copies } from "./copy.js";
import { byId, parts, setText } from "./dom.js";

const worker = parts(byId("notice-worker"));
copies(worker.copy, () => worker.command.textContent);

/** Shows what the status says; null when the site did not answer. */
export function showStatus(status) {
  byId("notice-site").hidden = status !== null;
  byId("notice-store").hidden = status === null || status.store;
  byId("notice-worker").hidden = status === null || !status.store || status.worker; // without the store nobody knows
  if (status === null) return;
  setText(worker.channel, status.channel);
  setText(worker.command, status.command);
  const [receiver] = status.receivers;
  byId("guard").hidden = !(status.debug && receiver);
  if (receiver) setText(parts(byId("guard")).origin, new URL(receiver.url).origin);
}

export function showSignedOut() {
  byId("notice-signed-out").hidden = false;
}

/**
 * Keeps the live part of a page as it is on the server, once a second at most. The page says what it has seen and is
 * answered as soon as there is something newer: over the socket, or by asking now and then where sockets are blocked.
 * A page that is paused, or hidden, does not ask.
 */

import { connect } from "../realtime/client.js";
import { refreshTimes } from "./ago.js";
import { patch } from "./patch.js";

/** Times in ms. */
const BLOCKED_AFTER = 3_000; // without a connection: then the page polls
const POLL_EVERY = 3_000;
const FORBIDDEN = new Set([401, 403, 404]);

export function goLive() {
  const live = document.querySelector("#live");
  if (live) new Live(live);
}

class Live {
  #live;
  #digest;
  #paused = false;
  #over = false;
  #polling = null; // the timer
  #blocked = null; // the timer
  #socket;
  #state = "";

  constructor(live) {
    this.#live = live;
    this.#digest = live.dataset.digest;
    const pause = document.querySelector("#pause");
    pause.hidden = false;
    pause.addEventListener("click", () => {
      this.#paused = !this.#paused;
      pause.setAttribute("aria-pressed", this.#paused);
      pause.textContent = this.#paused ? "Resume" : "Pause";
      this.#show();
      this.#look();
    });
    document.addEventListener("visibilitychange", () => this.#look());
    this.#socket = connect(document.body.dataset.socket, { reconnectCap: 10_000 });
    this.#socket.onmessage = (frame) => frame.type === "part" && this.#take(frame);
    this.#socket.onstatus = (status) => this.#status(status);
    this.#wait();
  }

  #status({ state, code, reason }) {
    if (state === "live") {
      clearTimeout(this.#blocked);
      clearTimeout(this.#polling);
      this.#blocked = this.#polling = null;
      this.#look();
    } else if (state === "closed" && (code === 4401 || code === 4403)) {
      this.#end(reason);
    } else if (state !== "parked" && this.#blocked === null) {
      this.#wait();
    }
    this.#state = state;
    this.#show();
  }

  /** For the connection to come (back); if it doesn't, poll. */
  #wait() {
    this.#blocked = setTimeout(() => {
      this.#polling = 0;
      this.#poll();
    }, BLOCKED_AFTER);
  }

  /** Ask for what is newer than what was seen. */
  #look() {
    if (this.#idle) return;
    const { screen, query } = this.#live.dataset;
    this.#socket.send({ type: "look", screen, query, seen: this.#digest });
  }

  get #idle() {
    return this.#paused || this.#over || document.hidden;
  }

  async #poll() {
    if (this.#polling === null || this.#over) return;
    this.#show();
    if (!this.#idle) {
      const { parts, query } = this.#live.dataset;
      const seen = new URLSearchParams({ seen: this.#digest });
      try {
        const response = await fetch(`${parts}?${query ? `${query}&` : ""}${seen}`, { redirect: "manual" });
        if (response.type === "opaqueredirect" || FORBIDDEN.has(response.status)) {
          this.#end("You are not signed in, or may not see this any more.");
          return;
        }
        if (!response.ok) throw new Error(`status ${response.status}`);
        this.#take(await response.json());
        this.#away(false);
      } catch {
        this.#away(true);
      }
    }
    if (this.#polling !== null) this.#polling = setTimeout(() => this.#poll(), POLL_EVERY);
  }

  #take({ digest, headline, html, ok, problem }) {
    if (this.#over) return;
    if (problem !== undefined) this.#say(problem);
    if (this.#paused) return; // what was under way when the button was pressed
    this.#digest = digest;
    if (headline) {
      const first = document.querySelector("#headline");
      const before = first.querySelector(".is-ok") !== null;
      patch(first, headline);
      if (before !== ok) document.querySelector("#announcer").textContent = first.textContent.trim();
    }
    if (html) {
      patch(this.#live, html);
      refreshTimes(this.#live);
      this.#live.dispatchEvent(new CustomEvent("patched", { bubbles: true }));
    }
    this.#look();
  }

  #say(problem) {
    const notice = document.querySelector("#problem");
    if (notice.textContent !== problem) notice.textContent = problem;
    notice.hidden = !problem;
  }

  /** For good: what this page showed is not for its reader any more. */
  #end(reason) {
    this.#over = true;
    this.#socket.close();
    this.#live.replaceChildren();
    document.querySelector("#headline").replaceChildren();
    this.#say(`${reason} Reload the page to sign in.`);
    this.#show();
  }

  #away(away) {
    document.querySelector("#link-state").toggleAttribute("data-away", away);
    this.#show();
  }

  #show() {
    const box = document.querySelector("#link-state");
    const [state, words] = this.#words(box.hasAttribute("data-away"));
    box.dataset.state = state;
    const text = document.querySelector("#link-words");
    if (text.textContent !== words) text.textContent = words;
  }

  #words(away) {
    if (this.#over) return ["away", "ended"];
    if (this.#paused) return ["paused", "paused"];
    if (this.#state === "live") return ["live", "live"];
    if (away) return ["away", "the server does not answer"];
    if (this.#polling !== null) return ["polling", `no live connection: asks every ${POLL_EVERY / 1000} s`];
    if (this.#state === "parked") return ["paused", "too many open pages: goes on when used"];
    return ["connecting", "connecting"];
  }
}

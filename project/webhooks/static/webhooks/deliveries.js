// The deliveries that this page knows. The row in the database is the truth: an event of a job says only that
// its row is worth reading again, and what was read replaces what was known.
import { getDeliveries, getDelivery } from "./api.js";

const DEBOUNCE_MS = 100;
const AGAIN_MS = 3000; // after a read that failed
const AT_ONCE = 8; // requests; when more rows than this were touched, the list is read first
const ROWS = 100; // rows listed before "show older" asks for more; a page open for days does not grow without end

/** Events: "change" (detail: id) for a row that is new or was read again, "page" after a page, "missing" (detail: id). */
export class Deliveries extends EventTarget {
  #known = new Map(); // id -> {data, asOf}; asOf: when the request for this data was made
  #horizon = ""; // creation time of the oldest row of the pages read so far: what is older is not listed
  #limit = ROWS;
  #touched = new Set();
  #pumping = false;
  #reading = new Map(); // id -> promise of the read under way
  #again = new Set();
  more = false; // there are older ones than the listed
  loaded = false;

  get(id) {
    return this.#known.get(id)?.data ?? null;
  }

  /** The rows of the list, newest first, without a gap. */
  listed() {
    const rows = [...this.#known.values()].map((entry) => entry.data).filter((row) => row.created_at >= this.#horizon);
    rows.sort(newestFirst);
    if (rows.length > this.#limit) {
      rows.length = this.#limit;
      this.#horizon = rows.at(-1).created_at;
      this.more = true;
    }
    return rows;
  }

  /** Takes what the server said about a delivery to a request made at `asOf` (performance.now()); older news is dropped. */
  put(data, asOf) {
    const entry = this.#known.get(data.id);
    if (entry && entry.asOf > asOf) return;
    this.#known.set(data.id, { data: { ...entry?.data, ...data }, asOf });
    this.dispatchEvent(new CustomEvent("change", { detail: data.id }));
  }

  /** Reads the newest page. */
  async readFirst() {
    const asOf = performance.now();
    const page = await getDeliveries();
    this.takeFirst(page, asOf);
    return page;
  }

  /** Takes the newest page. The pages below it stay listed, unless a gap opened between it and them. */
  takeFirst(page, asOf) {
    const last = page.deliveries.at(-1);
    const joins = this.loaded && page.deliveries.some(({ id, created_at }) => this.#known.has(id) && created_at >= this.#horizon);
    if (!page.more) {
      this.#horizon = "";
      this.more = false;
    } else if (!joins) {
      this.#horizon = last.created_at;
      this.more = true;
    }
    this.loaded = true;
    this.#takePage(page, asOf);
  }

  async readOlder() {
    const asOf = performance.now();
    const page = await getDeliveries(this.listed().at(-1)?.created_at);
    this.#limit += page.deliveries.length;
    this.#horizon = page.more ? page.deliveries.at(-1).created_at : "";
    this.more = page.more;
    this.#takePage(page, asOf);
  }

  #takePage(page, asOf) {
    for (const delivery of page.deliveries) this.put(delivery, asOf);
    this.dispatchEvent(new Event("page"));
  }

  /** Something happened to this delivery: read it soon, together with whatever else happens meanwhile. */
  touch(id) {
    this.#touched.add(id);
    if (!this.#pumping) this.#pump();
  }

  /** Reads what was touched, in one turn after the other: a flood of events makes no flood of requests. */
  async #pump() {
    this.#pumping = true;
    while (this.#touched.size) {
      await sleep(DEBOUNCE_MS);
      const ids = [...this.#touched];
      this.#touched.clear();
      try {
        await this.#readAll(ids);
      } catch (error) {
        if (error.status === 401) break;
        for (const id of ids) this.#touched.add(id);
        await sleep(AGAIN_MS);
      }
    }
    this.#pumping = false;
  }

  async #readAll(ids) {
    if (ids.length > AT_ONCE) {
      const page = await this.readFirst();
      const told = new Set(page.deliveries.map((delivery) => delivery.id));
      ids = ids.filter((id) => this.get(id) && (!told.has(id) || this.get(id).attempts)); // further down, or opened
    }
    while (ids.length) await Promise.all(ids.splice(0, AT_ONCE).map((id) => this.read(id).catch(unlessMissing)));
  }

  /** Reads one delivery with its attempts. Never two reads of it at a time; a call meanwhile makes one more follow. */
  read(id) {
    const underWay = this.#reading.get(id);
    if (underWay) {
      this.#again.add(id);
      return underWay;
    }
    const reading = this.#readOnce(id).finally(() => {
      this.#reading.delete(id);
      if (this.#again.delete(id)) this.touch(id);
    });
    this.#reading.set(id, reading);
    return reading;
  }

  async #readOnce(id) {
    const asOf = performance.now();
    try {
      this.put(await getDelivery(id), asOf);
    } catch (error) {
      if (error.status === 404) this.dispatchEvent(new CustomEvent("missing", { detail: id }));
      throw error;
    }
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function unlessMissing(error) {
  if (error.status !== 404) throw error;
}

/** For sort(): ISO times of one format compare as text; the id settles a tie. */
export function newestFirst(a, b) {
  if (a.created_at !== b.created_at) return a.created_at < b.created_at ? 1 : -1;
  return a.id < b.id ? 1 : -1;
}

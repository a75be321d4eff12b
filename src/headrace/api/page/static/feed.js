// The engine's events, for every view: rounds of the last minute and a half, and how the service is.

import { events } from "./api.js";

const KEPT_S = 95;
const MOST = 20000;

export class Feed extends EventTarget {
  constructor() {
    super();
    this.rounds = [];
    this.status = null;
    this.lost = 0;
    this.offset = null; // of this clock to the server's, seconds
    this.control = null;
    this.colours = new Map();
    this.coloured = -1;
  }

  /** Listens for as long as the page is seen. */
  start() {
    const follow = () => (document.hidden ? this.pause() : this.listen());
    document.addEventListener("visibilitychange", follow);
    follow();
  }

  pause() {
    this.control?.abort();
    this.control = null;
  }

  async listen() {
    if (this.control) return;
    const control = (this.control = new AbortController());
    let wait = 500;
    while (!control.signal.aborted) {
      try {
        for await (const { kind, data } of events("v1/engine/events", { signal: control.signal })) {
          wait = 500;
          this.hear(kind, data);
        }
      } catch (error) {
        if (error.name === "AbortError") return;
        this.state(error.status === 401 ? "locked" : "lost");
        if (error.status === 401) {
          this.control = null;
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(2 * wait, 8000);
    }
  }

  hear(kind, data) {
    const seems = performance.now() / 1000 - data.now;
    // The message that took the least time tells the clocks' difference best; a new server has a new clock.
    this.offset = this.offset === null || Math.abs(seems - this.offset) > 30 ? seems : Math.min(this.offset + 0.0005, seems);
    if (kind === "status") {
      this.status = data;
      this.state(data.state);
    } else if (kind === "rounds") {
      this.lost += data.lost;
      this.rounds.push(...data.rounds);
      for (const round of data.rounds) for (const [ticket] of [...round.rows, ...round.chunks]) this.colour(ticket);
      this.trim();
    }
    this.dispatchEvent(new Event(kind));
  }

  state(name) {
    if (this.shown === name) return;
    this.shown = name;
    this.dispatchEvent(new CustomEvent("state", { detail: name }));
  }

  trim() {
    const oldest = this.now() - KEPT_S;
    let count = Math.max(0, this.rounds.length - MOST);
    while (count < this.rounds.length && this.rounds[count].at < oldest) count += 1;
    if (count) this.rounds.splice(0, count);
    if (this.colours.size > 2000) this.colours = new Map([...this.colours].slice(-500));
  }

  /** Seconds on the server's clock. */
  now() {
    return performance.now() / 1000 - (this.offset ?? 0);
  }

  /** Number of a request's colour: the next in turn. */
  colour(ticket) {
    let number = this.colours.get(ticket);
    if (number === undefined) {
      this.coloured += 1;
      number = this.coloured;
      this.colours.set(ticket, number);
    }
    return number;
  }

  /** Rounds that ended in the last so many seconds. */
  since(seconds, until = this.now()) {
    const from = until - seconds;
    let low = 0;
    let high = this.rounds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rounds[middle].at + this.rounds[middle].s < from) low = middle + 1;
      else high = middle;
    }
    return this.rounds.slice(low);
  }
}

// The live view: what the engine does now, what it has to do, and what its controller decided.

import { tint } from "./canvas.js";
import { bins, drawChart } from "./chart.js";
import { $, bytes, compact, h, seconds } from "./dom.js";
import { drawTimeline } from "./timeline.js";

// Why a round held no more rows (`RoundSeen.reason`).
const REASONS = {
  all: "everyone's rows", slots: "no free slot", room: "no room in memory", saturation: "the network saturated",
  budget: "the largest batch", size: "one size of picture", stage: "one stage of the cycle", decoding: "decodings first",
  fairness: "the overtaken first", turn: "one after another", batch: "a closed batch", window: "a collecting batch",
  planned: "a plan for later rounds", memory: "no room in memory",
};
const SETTINGS = { tau: "Skip window τ", chunks: "Decoder chunks", level: "Skip level" };
const FRAME_MS = 40;

export class EngineView {
  constructor(feed) {
    this.feed = feed;
    this.span = 15;
    this.paused = null;
    this.chosen = null;
    this.drawn = null;
    this.last = 0;
    this.seen = new Map();
    for (const button of document.querySelectorAll("[data-span]")) button.addEventListener("click", () => this.show(Number(button.dataset.span)));
    $("pause").addEventListener("click", () => this.pause(this.paused === null));
    const canvas = $("timeline");
    canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    canvas.addEventListener("pointerleave", () => this.choose(null));
    canvas.addEventListener("keydown", (event) => this.walk(event));
    feed.addEventListener("status", () => this.tell());
    this.choose(null);
    const draw = (time) => {
      requestAnimationFrame(draw);
      if (time - this.last >= FRAME_MS) {
        this.last = time;
        this.draw();
      }
    };
    requestAnimationFrame(draw);
  }

  serve(model) {
    const can = model.headrace;
    $("engine-model").textContent = [model.id, can.family, can.dtype, can.device].filter(Boolean).join(" · ");
  }

  show(span) {
    this.span = span;
    for (const button of document.querySelectorAll("[data-span]")) button.setAttribute("aria-pressed", String(Number(button.dataset.span) === span));
  }

  pause(on) {
    this.paused = on ? this.feed.now() : null;
    $("pause").setAttribute("aria-pressed", String(on));
    $("pause").textContent = on ? "Resume" : "Pause";
    if (!on) this.choose(null);
  }

  draw() {
    if (document.hidden || this.feed.offset === null) return;
    const now = this.feed.now();
    if ($("engine").hidden) {
      drawTimeline($("strip"), this.feed, { span: 12, until: now, small: true });
      return;
    }
    this.drawn = drawTimeline($("timeline"), this.feed, { span: this.span, until: this.paused ?? now, chosen: this.chosen });
  }

  point(position) {
    if (!this.drawn) return;
    const at = this.drawn.at(position);
    const { rounds } = this.drawn;
    this.choose(rounds.find((round) => at >= round.at && at <= round.at + round.s) ?? null);
  }

  walk(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.drawn?.rounds.length) return;
    event.preventDefault();
    if (this.paused === null) this.pause(true);
    const { rounds } = this.drawn;
    const place = this.chosen ? rounds.indexOf(this.chosen) + by : rounds.length - 1;
    this.choose(rounds[Math.min(rounds.length - 1, Math.max(0, place))]);
    $("timeline").setAttribute("aria-label", `Timeline of rounds. ${$("readout").textContent}`);
  }

  choose(round) {
    this.chosen = round;
    $("readout").textContent = round ? words(round) : "Point at a round, or use the arrow keys, to read it.";
  }

  /** Keeps track of who is where. */
  follow() {
    const now = this.feed.now();
    for (const round of this.feed.since(3)) {
      for (const [ticket, row, rows, height, width] of round.rows) this.seen.set(ticket, { row, rows, height, width, at: round.at });
      for (const [ticket, chunk, chunks] of round.chunks) this.seen.set(ticket, { ...this.seen.get(ticket), chunk: chunk + 1, chunks, at: round.at });
    }
    for (const [ticket, one] of this.seen) {
      const over = one.chunks && one.chunk >= one.chunks;
      if (now - one.at > (over ? 0.6 : 6)) this.seen.delete(ticket);
    }
  }

  tell() {
    const { status } = this.feed;
    const recent = this.feed.since(5);
    const rows = recent.reduce((sum, round) => sum + round.rows.length, 0) / 5;
    const minute = this.feed.since(60);
    const made = minute.reduce((sum, round) => sum + round.finished, 0);
    const load = status.load;
    const busy = load.waiting + load.denoising + load.decoding;
    $("strip-title").textContent = busy ? `${busy} in the engine` : "Engine";
    $("strip-detail").textContent = busy ? `${compact(rows)} rows/s${load.waiting ? `, ${load.waiting} wait` : ""}` : status.state === "ready" ? "idle, ready" : status.state;
    if ($("engine").hidden) return;
    const lengths = recent.map((round) => round.s).sort((one, other) => one - other);
    $("tiles").replaceChildren(
      tile("Waiting", String(load.waiting), `${load.denoising + load.decoding} in slots`),
      tile("Until clear", busy ? seconds(load.clear_s) : "0 s", `${compact(load.rows)} rows to do`),
      tile("Rows", `${compact(rows)}/s`, `${compact(recent.reduce((sum, round) => sum + round.network_rows, 0) / 5)} of the network/s`),
      tile("Pictures", `${made}/min`, `${status.finished} since the start`),
      tile("Round", lengths.length ? seconds(lengths[lengths.length >> 1]) : "–", lengths.length ? `95% in ${seconds(lengths[Math.floor(lengths.length * 0.95)])}` : "no rounds now"),
      tile("Memory", bytes(status.memory_bytes), status.restarts ? `restarted ${status.restarts} times` : `${status.replicas} ${status.replicas === 1 ? "engine" : "engines"}`),
    );
    this.charts();
    this.requests();
    this.controller(recent);
  }

  charts() {
    const perSecond = bins(this.feed, (rounds, width) => rounds.reduce((sum, round) => sum + round.rows.length, 0) / width);
    drawChart($("throughput"), perSecond, "rows/s");
    const length = bins(this.feed, (rounds) => (rounds.length ? (1000 * rounds.reduce((sum, round) => sum + round.s, 0)) / rounds.length : null));
    drawChart($("latency"), length, "ms");
    $("throughput-now").textContent = `most: ${compact(Math.max(...perSecond))} rows/s`;
    $("latency-now").textContent = `most: ${compact(Math.max(0, ...length))} ms`;
  }

  requests() {
    this.follow();
    const found = [...this.seen].sort(([, one], [, other]) => (other.row ?? 0) / (other.rows ?? 1) - (one.row ?? 0) / (one.rows ?? 1));
    if (!found.length) {
      $("requests").replaceChildren(h("li", { class: "nothing" }, "None. What is asked for shows here, row by row."));
      return;
    }
    $("requests").replaceChildren(...found.slice(0, 40).map(([ticket, one]) => this.request(ticket, one)));
  }

  request(ticket, one) {
    const colour = this.feed.colour(ticket);
    const swatch = h("i");
    swatch.style.background = tint(colour);
    const bar = h("b");
    const part = one.chunks ? one.chunk / one.chunks : (one.row ?? 0) / (one.rows ?? 1);
    bar.style.width = `${100 * part}%`;
    bar.style.background = tint(colour, one.chunks ? 0.55 : 1);
    const where = one.chunks ? `decoding ${one.chunk}/${one.chunks}` : `row ${one.row}/${one.rows}`;
    return h("li", {}, swatch, h("code", {}, ticket.slice(0, 10)), h("span", { class: "track" }, bar), h("span", { class: "where" }, where));
  }

  controller(recent) {
    const { status } = this.feed;
    const newest = this.feed.rounds.at(-1);
    const counts = new Map();
    for (const { reason } of recent) if (reason) counts.set(reason, (counts.get(reason) ?? 0) + 1);
    const reason = [...counts].sort((one, other) => other[1] - one[1])[0];
    const pairs = [
      ["State", status.state],
      ["Policy", status.policy || "–"],
      ["Rows in one call", status.max_rows ? `at most ${status.max_rows}` : null],
      ...Object.entries(newest?.controller ?? {}).map(([name, value]) => [SETTINGS[name] ?? name, String(Number(value.toPrecision(3)))]),
      ["Rounds hold", reason ? `${REASONS[reason[0]] ?? reason[0]} (${Math.round((100 * reason[1]) / recent.length)}%)` : null],
      ["Done, failed, cancelled", `${status.finished}, ${status.failed}, ${status.cancelled}`],
      ["Engine restarts", status.restarts || null],
      ["Failed alone after crashes", status.poisoned || null],
      ["Rounds lost on the way here", this.feed.lost || null],
    ];
    $("controller").replaceChildren(...pairs.filter(([, value]) => value !== null).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));
  }
}

function tile(name, value, detail) {
  return h("div", { class: "tile" }, h("span", {}, name), h("strong", {}, value), h("small", {}, detail));
}

function words(round) {
  const skipped = round.rows.filter((row) => row[6]).length;
  const parts = [
    `Round of ${seconds(round.s)}`,
    `${round.rows.length} rows in ${round.calls} calls${skipped ? `, ${skipped} without guidance` : ""}`,
    `network ${seconds(round.unet)}`,
    round.chunks.length ? `${round.chunks.length} chunks, decoder ${seconds(round.decode)}` : null,
    `${round.waiting} waiting`,
    round.reason ? `held ${REASONS[round.reason] ?? round.reason}` : null,
  ];
  return parts.filter(Boolean).join(" · ");
}

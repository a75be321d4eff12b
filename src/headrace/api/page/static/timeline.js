// Rounds as columns over time: above a block a row of the network, below one a decoder chunk, coloured by request.

import { surface, theme, tint } from "./canvas.js";

const LEFT = 58;
const AXIS = 22;

/** Draws the last `span` seconds before `until`; `small` leaves out everything but the blocks. */
export function drawTimeline(canvas, feed, { span, until, small = false, chosen = null }) {
  const found = surface(canvas);
  if (!found) return null;
  const { context, width, height } = found;
  const area = areas(width, height, small);
  const rounds = feed.since(span, until);
  const x = (at) => area.left + ((at - until + span) / span) * (width - area.left);
  if (!small) grid(context, area, { width, height, span, until, x });
  const most = scaleOf(rounds, small ? 4 : 8);
  context.save();
  context.beginPath();
  context.rect(area.left, 0, width - area.left, height);
  context.clip();
  for (const round of rounds) {
    const from = x(round.at);
    const wide = Math.max(1, x(round.at + round.s) - from - (span <= 20 ? 0.75 : 0));
    stack(context, round.rows, { from, wide, area: area.rows, most: most.rows, feed, skipped: (row) => row[6] });
    stack(context, round.chunks, { from, wide, area: area.chunks, most: most.chunks, feed, skipped: () => false });
    if (round === chosen) frame(context, from, wide, area);
  }
  context.restore();
  if (!small && rounds.length === 0) idle(context, area, width);
  return { rounds, at: (position) => until - span + ((position - area.left) / (width - area.left)) * span };
}

function areas(width, height, small) {
  if (small) {
    const split = Math.round(height * 0.7);
    return { left: 0, rows: [0, split - 2], chunks: [split + 1, height] };
  }
  const base = height - AXIS;
  const split = Math.round(base * 0.72);
  return { left: width < 480 ? 0 : LEFT, rows: [8, split - 5], chunks: [split + 5, base - 2] };
}

function scaleOf(rounds, least) {
  let rows = least;
  let chunks = Math.max(2, least / 2);
  for (const round of rounds) {
    rows = Math.max(rows, round.rows.length);
    chunks = Math.max(chunks, round.chunks.length);
  }
  return { rows, chunks };
}

function stack(context, blocks, { from, wide, area, most, feed, skipped }) {
  const tall = (area[1] - area[0]) / most;
  const gap = tall > 4 ? 1 : 0;
  for (let index = 0; index < blocks.length; index += 1) {
    const block = blocks[index];
    const top = area[1] - (index + 1) * tall;
    const colour = feed.colour(block[0]);
    context.fillStyle = tint(colour, skipped(block) ? 0.35 : 1);
    context.fillRect(from, top, wide, Math.max(1, tall - gap));
    if (skipped(block) && wide > 3) {
      context.strokeStyle = tint(colour);
      context.lineWidth = 1;
      context.strokeRect(from + 0.5, top + 0.5, wide - 1, Math.max(1, tall - gap - 1));
    }
  }
}

function grid(context, area, { width, height, span, until, x }) {
  const colours = theme();
  context.font = `11px ${colours.font}`;
  context.textBaseline = "middle";
  for (const [top, bottom] of [area.rows, area.chunks]) {
    context.fillStyle = colours.sunken;
    context.fillRect(area.left, top, width - area.left, bottom - top);
  }
  if (area.left) {
    context.fillStyle = colours.faint;
    context.textAlign = "left";
    context.fillText("rows", 0, (area.rows[0] + area.rows[1]) / 2);
    context.fillText("decoder", 0, (area.chunks[0] + area.chunks[1]) / 2);
  }
  const step = span <= 5 ? 1 : span <= 20 ? 5 : 10;
  context.textAlign = "center";
  for (let ago = 0; ago <= span; ago += step) {
    const at = x(until - ago);
    context.fillStyle = colours.line;
    context.fillRect(Math.min(at, width - 1), area.rows[0], 1, area.chunks[1] - area.rows[0]);
    context.fillStyle = colours.faint;
    context.textAlign = ago === 0 ? "right" : at < area.left + 16 ? "left" : "center";
    context.fillText(ago === 0 ? "now" : `−${ago} s`, at, height - 8);
  }
}

function frame(context, from, wide, area) {
  context.strokeStyle = theme().ink;
  context.lineWidth = 1.5;
  context.strokeRect(from - 1.5, area.rows[0], wide + 3, area.chunks[1] - area.rows[0]);
}

function idle(context, area, width) {
  const colours = theme();
  context.fillStyle = colours.faint;
  context.font = `13px ${colours.font}`;
  context.textAlign = "center";
  context.fillText("Idle: no rounds in this time", (area.left + width) / 2, (area.rows[0] + area.rows[1]) / 2);
}

// One quantity over the last minute.

import { surface, theme } from "./canvas.js";

const SPAN_S = 60;
const BIN_S = 1;

/** Bins of the last minute, each made of the rounds that ended in it. */
export function bins(feed, make) {
  const until = Math.floor(feed.now() / BIN_S) * BIN_S;
  const found = Array.from({ length: SPAN_S / BIN_S }, () => []);
  for (const round of feed.since(SPAN_S + BIN_S)) {
    const place = Math.floor((round.at + round.s - (until - SPAN_S)) / BIN_S);
    if (place >= 0 && place < found.length) found[place].push(round);
  }
  return found.map((rounds) => make(rounds, BIN_S));
}

export function drawChart(canvas, values, unit) {
  const found = surface(canvas);
  if (!found) return;
  const { context, width, height } = found;
  const colours = theme();
  const base = height - 18;
  const most = nice(Math.max(...values.map((value) => value ?? 0), 0));
  context.font = `11px ${colours.font}`;
  context.textBaseline = "middle";
  for (const part of [0, 0.5, 1]) {
    const y = base - part * (base - 10);
    context.fillStyle = colours.line;
    context.fillRect(0, Math.round(y), width, 1);
    if (part && most) {
      context.fillStyle = colours.faint;
      context.textAlign = "left";
      context.fillText(`${label(most * part)} ${unit}`, 2, y - 7 > 6 ? y - 7 : y + 8);
    }
  }
  const x = (index) => (index / (values.length - 1)) * width;
  const y = (value) => base - (value / (most || 1)) * (base - 10);
  for (const [from, to] of stretches(values)) stroke(context, values, { from, to, x, y, base });
  context.fillStyle = colours.faint;
  context.textAlign = "left";
  context.fillText("−60 s", 0, height - 7);
  context.textAlign = "right";
  context.fillText("now", width, height - 7);
}

/** [from, to] of values that follow one another without a gap. */
function stretches(values) {
  const found = [];
  values.forEach((value, index) => {
    if (value === null) return;
    const last = found.at(-1);
    if (last && last[1] === index - 1) last[1] = index;
    else found.push([index, index]);
  });
  return found;
}

function stroke(context, values, { from, to, x, y, base }) {
  const { accent } = theme();
  context.beginPath();
  for (let index = from; index <= to; index += 1) context.lineTo(x(index), y(values[index]));
  if (from === to) context.lineTo(x(to) + 2, y(values[to]));
  context.strokeStyle = accent;
  context.lineWidth = 2;
  context.lineJoin = context.lineCap = "round";
  context.stroke();
  context.lineTo(x(to), base);
  context.lineTo(x(from), base);
  const fill = context.createLinearGradient(0, 0, 0, base);
  fill.addColorStop(0, `color-mix(in srgb, ${accent} 30%, transparent)`);
  fill.addColorStop(1, `color-mix(in srgb, ${accent} 2%, transparent)`);
  context.fillStyle = fill;
  context.fill();
}

function nice(value) {
  if (value <= 0) return 0;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * unit).find((one) => one >= value);
}

const label = (value) => (value >= 1000 ? `${value / 1000}k` : String(Number(value.toPrecision(3))));

// Elements, numbers and small messages.

export const $ = (id) => document.getElementById(id);

/** An element: h("p", {class: "hint", onclick: f}, "text", child). Attributes that are null or false are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const ICONS = {
  reuse: "M4 12a8 8 0 0 1 13.7-5.600L20 8.500M20 4v4.500h-4.500M20 12a8 8 0 0 1-13.700 5.600L4 15.500M4 20v-4.500h4.500",
  download: "M12 4v11m-4.500-4.500L12 15l4.500-4.500M5 19.500h14",
  remove: "M5 7h14M10 7V4.500h4V7m-7 0 .800 12h8.400L17 7",
  stop: "M7 7h10v10H7z",
  close: "m6 6 12 12M18 6 6 18",
};

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", ICONS[name]);
  drawing.append(path);
  return drawing;
}

export function seconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value < 0.0995) return `${Math.max(1, Math.round(value * 1000))} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 99.5) return `${Math.round(value)} s`;
  return `${Math.round(value / 60)} min`;
}

export function bytes(value) {
  if (!value) return "–";
  return value >= 1e9 ? `${(value / 1e9).toFixed(1)} GB` : `${Math.round(value / 1e6)} MB`;
}

export function compact(value) {
  if (!Number.isFinite(value)) return "–";
  if (value >= 9950) return `${(value / 1000).toFixed(0)}k`;
  if (Number.isInteger(value)) return String(value);
  return value >= 99.5 ? String(Math.round(value)) : value >= 9.95 ? value.toFixed(0) : value.toFixed(1);
}

export function times(value) {
  return `${value >= 9.95 ? Math.round(value) : value.toFixed(value >= 1 ? 1 : 2).replace(/\.0$/, "")}×`;
}

/** A message that goes by itself. */
export function toast(text, kind = "note") {
  const element = h("div", { class: "toast", "data-kind": kind }, text);
  $("toasts").append(element);
  setTimeout(() => element.remove(), kind === "bad" ? 8000 : 3500);
}

/** Tells a screen reader. */
export function announce(text) {
  $("announce").textContent = text;
}

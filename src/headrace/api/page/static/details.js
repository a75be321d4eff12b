// One picture: what it was made with, and where its time went.

import { $, h, icon, seconds } from "./dom.js";

const PARTS = { queued: "waiting", denoising: "network", decoding: "decoder", encoding: "file" };

export function showDetails(picture, { title, url, filename, reuse, remove }) {
  const sheet = $("details");
  const close = () => sheet.close();
  const and = (work) => () => {
    sheet.close();
    work();
  };
  const image = h("img", { src: url, alt: title });
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= 64));
  sheet.replaceChildren(h("div", { class: "details" },
    h("div", { class: "sheet-picture" }, image),
    h("div", { class: "sheet-text" },
      h("header", {}, h("h2", { id: "details-title" }, title),
        h("button", { type: "button", class: "icon-button", "aria-label": "Close", onclick: close }, icon("close"))),
      h("section", {}, h("h3", { class: "section-title" }, "Settings"), facts(settingsOf(picture))),
      h("section", {}, h("h3", { class: "section-title" }, "How it was made"), facts(makingOf(picture))),
      timing(picture.settings?.times_ms),
      h("div", { class: "sheet-buttons" },
        h("button", { type: "button", class: "primary", onclick: and(reuse) }, "Use these settings"),
        h("a", { class: "quiet button", href: url, download: filename }, "Download"),
        h("button", { type: "button", class: "quiet danger", onclick: and(remove) }, "Delete")))));
  sheet.onclick = (event) => event.target === sheet && close();
  sheet.showModal();
}

function settingsOf({ request, settings = {}, created }) {
  return [
    ["Away from", request.negative_prompt],
    ["Seed", settings.seed],
    ["Steps", settings.steps],
    ["Guidance", settings.guidance_scale],
    ["Size", settings.width ? `${settings.width} × ${settings.height}` : null],
    ["Solver", settings.solver],
    ["Model", settings.model],
    ["Made", new Date(created).toLocaleString()],
  ];
}

function makingOf({ settings = {} }) {
  const unguided = settings.unguided_rows?.length ?? 0;
  const fused = settings.fusion_rows?.filter((factor) => factor > 1).length ?? 0;
  const several = settings.attempts > 1 ? `${settings.attempts}, after the engine was lost` : null;
  return [
    ["Acceleration", settings.acceleration ?? "none: plain sampling"],
    ["Rows", settings.rows],
    ["Guidance left out", unguided ? `in ${unguided} of ${settings.rows} rows` : null],
    ["Rows shared", fused ? `${fused} with other pictures` : null],
    ["Attempts", several],
  ];
}

function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, ...known.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));
}

function timing(times) {
  if (!times) return null;
  const known = Object.entries(PARTS).filter(([name]) => typeof times[name] === "number");
  const bar = h("div", { class: "timing", "aria-hidden": "true" });
  for (const [name] of known) {
    const part = h("i", { class: name });
    part.style.flexGrow = String(Math.max(times[name], 0.001));
    bar.append(part);
  }
  return h("section", {}, h("h3", { class: "section-title" }, `Time: ${seconds(times.total / 1000)}`), bar,
    h("div", { class: "timing-key" }, ...known.map(([name, word]) => h("span", { class: name }, `${word} ${seconds(times[name] / 1000)}`))));
}

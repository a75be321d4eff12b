// Cards of pictures: on their way, made, or failed; kept by the browser until they are deleted.

import { announce, $, h, icon, seconds, toast } from "./dom.js";
import { make } from "./making.js";
import { forget, forgetAll, keep, kept } from "./pictures.js";
import { showDetails } from "./details.js";

export class Gallery {
  constructor(reuse) {
    this.reuse = reuse;
    this.cards = new Map();
    this.sure = 0;
    $("clear-gallery").addEventListener("click", () => this.clear());
  }

  async restore() {
    for (const picture of (await kept()).reverse()) this.show(new Card(this, picture));
    this.count();
  }

  /** Has a request made; `refused` hears an error that came before anything was begun. */
  start(body, label, refused) {
    const cards = Array.from({ length: body.n ?? 1 }, (_, index) =>
      new Card(this, { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, created: Date.now() + index / 1000, request: body, label }));
    for (const card of cards) this.show(card);
    const work = make(body, (event) => cards[event.picture ?? 0]?.hear(event, cards));
    for (const card of cards) card.stop = () => work.stop();
    this.count();
    announce(cards.length === 1 ? "The picture is being made." : `${cards.length} pictures are being made.`);
    work.finished.catch((error) => {
      const open = cards.filter((card) => !card.picture.blob);
      if (error.name === "AbortError") {
        for (const card of open) this.remove(card);
      } else if (error.status >= 400 && error.status < 500) {
        for (const card of open) this.remove(card);
        refused(error);
      } else {
        for (const card of open) card.fail(error);
        announce(`It failed: ${error.message}`);
      }
    });
  }

  show(card) {
    this.cards.set(card.picture.id, card);
    $("gallery").prepend(card.element);
  }

  remove(card) {
    this.cards.delete(card.picture.id);
    card.element.remove();
    card.release();
    forget(card.picture.id);
    this.count();
  }

  clear() {
    const button = $("clear-gallery");
    clearTimeout(this.sure);
    if (!button.classList.contains("danger")) {
      button.classList.add("danger");
      button.textContent = `Delete all ${this.cards.size}?`;
      this.sure = setTimeout(() => this.unsure(), 4000);
      return;
    }
    this.unsure();
    for (const card of [...this.cards.values()]) {
      if (!card.picture.blob) card.stop?.();
      card.element.remove();
      card.release();
    }
    this.cards.clear();
    forgetAll();
    this.count();
    toast("All pictures were deleted.");
  }

  unsure() {
    $("clear-gallery").classList.remove("danger");
    $("clear-gallery").textContent = "Delete all";
  }

  count() {
    const many = this.cards.size;
    $("empty").hidden = many > 0;
    $("clear-gallery").hidden = many === 0;
    $("gallery-count").textContent = many ? String(many) : "";
  }
}

class Card {
  constructor(gallery, picture) {
    this.gallery = gallery;
    this.picture = picture;
    this.stop = null;
    this.url = null;
    this.element = h("li", { class: "card" });
    if (picture.blob) this.showDone();
    else this.showWaiting();
  }

  hear(event, all) {
    if (event.kind === "started") for (const card of all) card.note("In the engine");
    if (event.kind === "preview") this.showPreview(event);
    if (event.kind === "done") {
      Object.assign(this.picture, { blob: event.blob, settings: event.settings });
      this.showDone();
      keep(this.picture);
      announce("A picture is done.");
    }
  }

  showWaiting() {
    this.waiting = h("span", { class: "wait" }, "Waiting for a slot");
    this.bar = h("i");
    this.frame = h("div", { class: "picture" }, this.waiting,
      h("span", { class: "progress", role: "progressbar", "aria-label": "Rows done" }, this.bar));
    const stop = h("button", { type: "button", class: "remove", "aria-label": "Stop", title: "Stop", onclick: () => this.stop?.() }, icon("stop"));
    this.element.dataset.state = "making";
    this.element.replaceChildren(this.frame, this.text("on its way"), h("div", { class: "card-buttons" }, stop));
  }

  note(text) {
    if (this.waiting) this.waiting.textContent = text;
  }

  showPreview({ blob, row, rows }) {
    const before = this.url;
    this.url = null;
    const image = this.image(blob, `Preview after ${row} of ${rows} rows`);
    image.classList.add("preview");
    this.bar.style.width = `${(100 * row) / rows}%`;
    const swap = () => {
      if (before) URL.revokeObjectURL(before);
      if (this.element.dataset.state !== "making") return;
      for (const old of this.frame.querySelectorAll("img, .badge, .wait")) old.remove();
      this.frame.prepend(image, h("span", { class: "badge" }, `row ${row} of ${rows}`));
    };
    image.decode().then(swap, swap); // nothing flickers in between
  }

  showDone() {
    const { settings = {}, blob } = this.picture;
    const title = this.title();
    const image = this.image(blob, title);
    const open = h("button", { type: "button", class: "picture", "aria-label": `${title}: details`, onclick: () => this.details() }, image);
    const facts = [
      settings.times_ms ? seconds(settings.times_ms.total / 1000) : null,
      settings.rows ? `${settings.rows} rows` : null,
      settings.acceleration ?? "plain",
    ];
    this.element.dataset.state = "done";
    this.element.replaceChildren(open, this.text(facts.filter(Boolean).join(" · ")), this.buttons());
  }

  buttons() {
    const button = (name, label, onclick) => h("button", { type: "button", class: name, "aria-label": label, title: label, onclick }, icon(name));
    return h("div", { class: "card-buttons" },
      button("reuse", "Use these settings again", () => this.reuse()),
      h("a", { href: this.url, download: this.filename(), "aria-label": "Download", title: "Download" }, icon("download")),
      button("remove", "Delete", () => this.gallery.remove(this)));
  }

  fail(error) {
    this.release();
    this.element.dataset.state = "failed";
    const again = () => {
      this.gallery.remove(this);
      this.gallery.start({ ...this.picture.request, n: 1 }, this.picture.label, (problem) => toast(problem.message, "bad"));
    };
    this.element.replaceChildren(
      h("div", { class: "picture" }, h("span", { class: "failure", role: "alert" }, error.message)),
      this.text("failed"),
      h("div", { class: "card-buttons" },
        h("button", { type: "button", "aria-label": "Try again", title: "Try again", onclick: again }, icon("reuse")),
        h("button", { type: "button", class: "remove", "aria-label": "Delete", title: "Delete", onclick: () => this.gallery.remove(this) }, icon("remove"))));
  }

  details() {
    showDetails(this.picture, { title: this.title(), url: this.url, filename: this.filename(), reuse: () => this.reuse(), remove: () => this.gallery.remove(this) });
  }

  reuse() {
    this.gallery.reuse(this.picture.request, this.picture.settings ?? {});
  }

  text(facts) {
    return h("div", { class: "card-text" }, h("span", { class: "card-title" }, this.title()), h("span", { class: "card-facts" }, facts));
  }

  title() {
    const { request, label } = this.picture;
    if (request.prompt) return request.prompt;
    if (request.class_label !== undefined) return label ?? `Class ${request.class_label}`;
    return "Drawn freely";
  }

  filename() {
    const words = this.title().toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 48);
    const kind = this.picture.blob?.type.split("/")[1] ?? "png";
    return `${words || "picture"}-${this.picture.settings?.seed ?? 0}.${kind}`;
  }

  image(blob, alt) {
    this.release();
    this.url = URL.createObjectURL(blob);
    const image = h("img", { src: this.url, alt });
    image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= 64));
    return image;
  }

  release() {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = null;
  }
}

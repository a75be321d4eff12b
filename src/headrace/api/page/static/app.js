// Puts the page together.

import { ApiError, json, setKey } from "./api.js";
import { Composer } from "./composer.js";
import { $, toast } from "./dom.js";
import { EngineView } from "./engine.js";
import { Feed } from "./feed.js";
import { Gallery } from "./gallery.js";

const STATES = {
  ready: "Ready", starting: "Starting", restarting: "Restarting", draining: "Draining", stopped: "Stopped", lost: "Not reachable",
  locked: "Key needed",
};

const feed = new Feed();
const engine = new EngineView(feed);
const gallery = new Gallery((request, settings) => {
  location.hash = "#studio";
  composer.fill(request, settings);
  toast("Settings taken over.");
});
const composer = new Composer((body) => {
  const label = document.querySelector("input[name=class_label]:checked")?.closest("label")?.textContent;
  gallery.start(body, label, (error) => composer.showError(error));
});

function showView() {
  const view = location.hash === "#engine" ? "engine" : "studio";
  for (const name of ["studio", "engine"]) $(name).hidden = name !== view;
  for (const link of document.querySelectorAll("[data-view-link]")) {
    if (link.dataset.viewLink === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = view === "engine" ? "Engine · Headrace" : "Headrace";
  scrollTo(0, 0);
  if (view === "engine" && feed.status) engine.tell();
}

function showState(name) {
  $("state").dataset.state = name;
  $("state-text").textContent = STATES[name] ?? name;
  $("generate").disabled = ["draining", "stopped"].includes(name);
  if (name === "ready" && !composer.model) loadModel();
}

let loading = false;

async function loadModel() {
  if (loading) return;
  loading = true;
  try {
    const [model] = (await json("v1/models")).data;
    $("model-name").textContent = model.id;
    $("model-name").hidden = false;
    composer.serve(model);
    engine.serve(model);
    $("composer").inert = false;
    $("empty-title").textContent = "Nothing here yet";
    $("empty-text").textContent = {
      prompt: "Describe a picture and press Generate. It appears here while it is being made.",
      class: "Choose a class and press Generate. The picture appears here while it is being made.",
    }[model.headrace.conditioning] ?? "Press Generate. The picture appears here while it is being made.";
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    // Once the engine is ready, its events tell.
    if (error.status !== 401 && error.status !== 503) setTimeout(loadModel, 3000);
  } finally {
    loading = false;
  }
}

function theme() {
  const root = document.documentElement;
  const apply = (name) => {
    root.dataset.theme = name;
    $("theme-button").setAttribute("aria-pressed", String(name === "dark"));
  };
  apply(root.dataset.theme);
  $("theme-button").addEventListener("click", () => {
    const name = root.dataset.theme === "dark" ? "light" : "dark";
    apply(name);
    try {
      localStorage.setItem("headrace.theme", name);
    } catch {
      // It lasts as long as the page then.
    }
    if (feed.status) engine.tell();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    let chosen = null;
    try {
      chosen = localStorage.getItem("headrace.theme");
    } catch {
      // Nothing was chosen.
    }
    if (!chosen) apply(event.matches ? "dark" : "light");
  });
}

function keys() {
  const dialog = $("key-dialog");
  let tried = false; // both the model and the events may be refused, in either order
  addEventListener("headrace:key", () => {
    $("key-button").hidden = false;
    $("key-error").hidden = !tried;
    $("key-error").textContent = "The server does not know this key.";
    if (!dialog.open) dialog.showModal();
  });
  $("key-button").addEventListener("click", () => dialog.showModal());
  $("key-cancel").addEventListener("click", () => dialog.close());
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!$("key").value.trim()) {
      $("key").focus();
      return;
    }
    tried = true;
    setKey($("key").value);
    $("key").value = "";
    dialog.close();
    loadModel();
    feed.listen();
  });
}

theme();
keys();
$("composer").inert = true;
addEventListener("hashchange", showView);
showView();
feed.addEventListener("state", (event) => showState(event.detail));
gallery.restore();
loadModel();
feed.start();

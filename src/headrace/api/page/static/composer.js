// The form: what may be asked of the served model, what it costs, and the body that is sent.

import { ApiError, json } from "./api.js";
import { $, compact, h, seconds, times } from "./dom.js";

const FIELDS = {
  prompt: "prompt", class_label: "class-field", negative_prompt: "negative", steps: "steps-number", n: "count",
  guidance_scale: "guidance-number", size: "size", seed: "seed", solver: "solver", acceleration: "acceleration-field",
};

export class Composer {
  constructor(submit) {
    this.submit = submit;
    this.model = null;
    this.asking = null;
    this.timer = 0;
    const form = $("composer");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    form.addEventListener("input", () => this.changed());
    form.addEventListener("change", () => this.changed());
    addEventListener("keydown", (event) => {
      const elsewhere = $("studio").hidden || document.querySelector("dialog[open]");
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !elsewhere) {
        event.preventDefault();
        this.send();
      }
    });
    pair("steps", "steps-number");
    pair("guidance", "guidance-number");
    const step = (by) => () => {
      const most = Number($("count").max);
      $("count").value = Math.min(most, Math.max(1, Number($("count").value) + by));
      this.changed();
    };
    $("fewer").addEventListener("click", step(-1));
    $("more").addEventListener("click", step(1));
    $("new-seed").addEventListener("click", () => {
      $("seed").value = String(Math.floor(Math.random() * 2 ** 32));
      this.changed();
    });
  }

  /** Shows what `model`, as /v1/models describes it, takes. */
  serve(model) {
    const can = model.headrace;
    this.model = model;
    $("prompt-field").hidden = can.conditioning !== "prompt";
    $("class-field").hidden = can.conditioning !== "class";
    $("free-note").hidden = Boolean(can.conditioning);
    $("negative-field").hidden = can.conditioning !== "prompt" || !can.guided;
    $("guidance-field").hidden = !can.guided;
    $("classes").replaceChildren(...(can.conditioning === "class" ? classChips(can) : []));
    $("acceleration-field").hidden = can.accelerations.length === 0;
    $("accelerations").replaceChildren(...choices(can));
    $("steps").max = String(Math.min(can.max_steps, Math.max(50, 2 * can.default_steps)));
    $("steps-number").max = String(can.max_steps);
    $("count").max = String(can.max_pictures);
    $("solver").replaceChildren(
      h("option", { value: "" }, `${can.default_solver} (default)`),
      ...can.solvers.filter((name) => name !== can.default_solver).map((name) => h("option", { value: name }, name)),
    );
    $("size").replaceChildren(...sizes(can));
    for (const id of ["width", "height"]) {
      $(id).step = $(id).min = String(can.size_multiple);
    }
    [$("height").value, $("width").value] = can.default_size.map(String);
    set("steps", can.default_steps);
    set("guidance", can.default_guidance);
    this.followAcceleration();
    $("accelerations").addEventListener("change", () => this.followAcceleration());
    this.changed();
  }

  /** An acceleration brings its own settings along. */
  followAcceleration() {
    const can = this.model.headrace;
    const name = document.querySelector("input[name=acceleration]:checked")?.value ?? "none";
    const defaults = can.accelerations.find((one) => one.name === name)?.defaults ?? {};
    set("steps", defaults.steps ?? can.default_steps);
    if (can.guided) set("guidance", defaults.guidance_scale ?? can.default_guidance);
    $("solver").value = defaults.solver && defaults.solver !== can.default_solver ? defaults.solver : "";
  }

  body() {
    const can = this.model.headrace;
    const body = { model: this.model.id, n: Number($("count").value), steps: Number($("steps-number").value) };
    if (can.conditioning === "prompt") body.prompt = $("prompt").value.trim();
    if (can.conditioning === "class") {
      const label = document.querySelector("input[name=class_label]:checked, #class-number")?.value ?? "";
      if (label !== "") body.class_label = Number(label);
    }
    const negative = $("negative").value.trim();
    if (negative && !$("negative-field").hidden) body.negative_prompt = negative;
    if (can.guided) body.guidance_scale = Number($("guidance-number").value);
    const size = $("size").value;
    if (size === "custom") body.size = `${$("width").value}x${$("height").value}`;
    else if (size) body.size = size;
    const seed = $("seed").value.trim();
    if (seed) body.seed = Number(seed);
    if ($("solver").value) body.solver = $("solver").value;
    const acceleration = document.querySelector("input[name=acceleration]:checked")?.value;
    if (acceleration) body.acceleration = acceleration;
    const previews = Number($("previews").value);
    if (previews) body.partial_images = previews;
    return body;
  }

  /** Fills the form with the settings that a picture was made with. */
  fill(request, settings) {
    const can = this.model.headrace;
    if (request.prompt !== undefined) $("prompt").value = request.prompt;
    $("negative").value = request.negative_prompt ?? "";
    const acceleration = settings.acceleration ?? "none";
    const choice = document.querySelector(`input[name=acceleration][value="${CSS.escape(acceleration)}"]`);
    if (choice) choice.checked = true;
    const label = document.querySelector(`input[name=class_label][value="${Number(request.class_label)}"]`);
    if (label) label.checked = true;
    if ($("class-number") && request.class_label !== undefined) $("class-number").value = request.class_label;
    set("steps", settings.steps ?? request.steps);
    set("guidance", settings.guidance_scale ?? can.default_guidance);
    const solver = can.solvers.includes(settings.solver) ? settings.solver : (request.solver ?? "");
    $("solver").value = solver === can.default_solver ? "" : solver;
    $("seed").value = settings.seed === undefined ? "" : String(settings.seed);
    $("count").value = "1";
    const size = `${settings.width}x${settings.height}`;
    const known = [...$("size").options].some((option) => option.value === size);
    const usual = settings.height === can.default_size[0] && settings.width === can.default_size[1];
    $("size").value = usual ? "" : known ? size : "custom";
    [$("width").value, $("height").value] = [String(settings.width), String(settings.height)];
    this.changed();
    ($("prompt-field").hidden ? $("generate") : $("prompt")).focus();
  }

  send() {
    if (!this.model) return;
    this.clearError();
    const body = this.body();
    const problem = this.problem(body);
    if (problem) this.showError(problem);
    else {
      this.submit(body);
      if (matchMedia("(max-width: 780px)").matches) document.querySelector(".results").scrollIntoView();
    }
  }

  /** What can be told without asking the server. */
  problem(body) {
    const can = this.model.headrace;
    const wrong = (param, message) => new ApiError(422, { param, message });
    if (can.conditioning === "prompt" && !body.prompt) return wrong("prompt", "Say what the picture should show.");
    if (can.conditioning === "class" && body.class_label === undefined) return wrong("class_label", "Choose a class.");
    if (!/^[0-9]*$/.test($("seed").value.trim())) return wrong("seed", "A seed is a whole number, or nothing.");
    if (body.seed > Number.MAX_SAFE_INTEGER) return wrong("seed", "This seed is too large: at most 9007199254740991.");
    return null;
  }

  showError(error) {
    $("form-error").textContent = error.message;
    $("form-error").hidden = false;
    const field = $(FIELDS[error.param] ?? "");
    if (!field) return;
    field.closest("details")?.setAttribute("open", "");
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", "form-error");
    (field.matches("fieldset") ? field.querySelector("input") : field)?.focus();
  }

  clearError() {
    $("form-error").hidden = true;
    for (const id of Object.values(FIELDS)) {
      $(id)?.removeAttribute("aria-invalid");
      $(id)?.removeAttribute("aria-describedby");
    }
  }

  changed() {
    if (!this.model) return;
    for (const id of ["steps", "guidance"]) paint($(id));
    $("custom-size").hidden = $("size").value !== "custom";
    this.clearError();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.estimate(), 120);
  }

  async estimate() {
    this.asking?.abort();
    this.asking = new AbortController();
    const { partial_images: _, ...body } = this.body();
    if (body.prompt === "") delete body.prompt;
    try {
      this.showCost(await json("v1/engine/costs", { body, signal: this.asking.signal }));
    } catch (error) {
      if (error.name === "AbortError") return;
      for (const id of ["estimate-time", "estimate-rows", "estimate-work"]) $(id).textContent = "–";
      if (error.status === 422) $("form-error").textContent = error.message;
      $("form-error").hidden = error.status !== 422;
    }
  }

  showCost(cost) {
    const can = this.model.headrace;
    const alone = cost.seconds === null ? null : cost.seconds + cost.wait_seconds;
    $("estimate-time").textContent = alone === null ? "–" : `≈ ${seconds(alone)}`;
    $("estimate-time").title = alone === null ? "Known after the first picture" : cost.wait_seconds > 0.05 ? `of it ${seconds(cost.wait_seconds)} in the queue` : "";
    $("estimate-rows").textContent = compact(cost.network_rows);
    $("estimate-work").textContent = times(cost.relative);
    const each = cost.seconds === null ? null : cost.seconds / cost.pictures / cost.steps;
    $("steps-cost").textContent = each === null ? `${cost.rows} rows` : `${seconds(each)} each`;
    $("guidance-cost").textContent = cost.guided ? "doubles the rows" : "off: half the rows";
    const [height, width] = can.default_size;
    const [w, h2] = ($("size").value === "custom" ? `${$("width").value}x${$("height").value}` : $("size").value || `${width}x${height}`)
      .split("x").map(Number);
    $("size-cost").textContent = `${times((w * h2) / (width * height))} the pixels`;
  }
}

function pair(range, number) {
  $(range).addEventListener("input", () => ($(number).value = $(range).value));
  $(number).addEventListener("input", () => ($(range).value = $(number).value));
}

function set(id, value) {
  $(`${id}-number`).value = String(value);
  $(id).value = String(value);
  paint($(id));
}

function paint(range) {
  const [least, most, value] = [Number(range.min), Number(range.max), Number(range.value)];
  range.style.setProperty("--fill", `${(100 * (value - least)) / (most - least || 1)}%`);
}

function classChips(can) {
  if (can.classes > 100) {
    const most = String(can.classes - 1);
    return [h("input", { type: "number", id: "class-number", min: "0", max: most, value: "0", "aria-label": "Class" })];
  }
  return Array.from({ length: can.classes }, (_, label) =>
    h("label", { class: "class-chip" },
      h("input", { type: "radio", name: "class_label", value: String(label), checked: label === 0 }),
      can.class_names[label] ?? String(label)));
}

function choices(can) {
  const usual = can.default_acceleration ?? "none";
  const plain = { name: "none", techniques: "Every row evaluated in full: the model's own pictures.", speedup: 1 };
  return [...can.accelerations, plain].map((one) => {
    const quality = typeof one.quality === "number" ? ` · ${one.metric ?? "quality"} ${Number(one.quality.toPrecision(3))}` : "";
    return h("label", { class: "choice" },
      h("input", { type: "radio", name: "acceleration", value: one.name, checked: one.name === usual }),
      h("strong", {}, one.name === "none" ? "Plain" : one.name),
      h("span", { class: "times" }, typeof one.speedup === "number" ? times(one.speedup) : ""),
      h("small", {}, `${one.techniques}${quality}`));
  });
}

function sizes(can) {
  const [height, width] = can.default_size;
  const offered = [[0.5, "half"], [1.5, "1½ of each side"], [2, "double"]]
    .map(([factor, name]) => [round(width * factor, can), round(height * factor, can), name])
    .filter(([w, h2]) => w * h2 <= can.max_pixels && w >= 8 && h2 >= 8 && (w !== width || h2 !== height));
  const options = [h("option", { value: "" }, `${width} × ${height} (the model's own)`)];
  options.push(...offered.map(([w, h2, name]) => h("option", { value: `${w}x${h2}` }, `${w} × ${h2} (${name})`)));
  options.push(h("option", { value: "custom" }, "Another size"));
  return options;
}

const round = (value, can) => Math.max(can.size_multiple, Math.round(value / can.size_multiple) * can.size_multiple);

// Requests on their way: a few streams at once, the others wait their turn.

import { ApiError, events } from "./api.js";

const AT_ONCE = 4; // browsers open six connections to one server
const waiting = [];
let running = 0;

/**
 * Makes pictures of a request's body. `told` hears {kind: "started"}, {kind: "preview", picture, row, rows, blob},
 * {kind: "done", picture, blob, settings}. Returns {finished, stop}: `finished` rejects with ApiError.
 */
export function make(body, told) {
  const control = new AbortController();
  const finished = new Promise((resolve, reject) => {
    waiting.push(() => run(body, told, control.signal).then(resolve, reject));
  });
  next();
  return { finished, stop: () => control.abort() };
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    waiting.shift()().finally(() => {
      running -= 1;
      next();
    });
  }
}

async function run(body, told, signal) {
  signal.throwIfAborted();
  told({ kind: "started" });
  let left = body.n ?? 1;
  for await (const { kind, data } of events("v1/images/generations", { body: { ...body, stream: true }, signal })) {
    if (kind === "image_generation.partial_image") {
      const { picture = 0, row = 0, rows = 0 } = data.headrace ?? {};
      told({ kind: "preview", picture, row, rows, blob: blob(data) });
    } else if (kind === "image_generation.completed") {
      left -= 1;
      told({ kind: "done", picture: data.headrace?.picture ?? 0, settings: data.headrace ?? {}, blob: blob(data) });
    } else if (kind === "error") {
      throw new ApiError(500, data.error ?? data);
    }
  }
  if (left > 0) throw new ApiError(0, { message: "The stream ended before all pictures were there." });
}

function blob(data) {
  const text = atob(data.b64_json);
  const content = Uint8Array.from(text, (character) => character.charCodeAt(0));
  return new Blob([content], { type: `image/${data.output_format ?? "png"}` });
}

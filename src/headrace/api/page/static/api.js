// The server: JSON, errors as it words them, and streams of events.

const KEY = "headrace.key";

function storage(use) {
  try {
    return use(localStorage);
  } catch {
    return null;
  }
}

let key = storage((kept) => kept.getItem(KEY)) ?? "";

export const hasKey = () => key !== "";

export function setKey(value) {
  key = value.trim();
  storage((kept) => (key ? kept.setItem(KEY, key) : kept.removeItem(KEY)));
}

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail.message ?? `The server answered with ${status}.`);
    this.status = status;
    this.code = detail.code ?? null;
    this.param = detail.param ?? null;
  }
}

/** An answer that is no error. Raises ApiError; where the server cannot be reached, one of status 0. */
export async function ask(path, { body, signal } = {}) {
  const headers = { Accept: "application/json, text/event-stream" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    const content = body === undefined ? undefined : JSON.stringify(body);
    answer = await fetch(path, { method: content === undefined ? "GET" : "POST", headers, body: content, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The server cannot be reached. It may be restarting." });
  }
  if (answer.ok) return answer;
  const detail = await answer.json().then((said) => said.error ?? {}, () => ({}));
  if (answer.status === 401) dispatchEvent(new CustomEvent("headrace:key"));
  throw new ApiError(answer.status, detail);
}

export const json = async (path, options) => (await ask(path, options)).json();

/** The events of a stream, as {kind, data}. */
export async function* events(path, options) {
  const answer = await ask(path, options);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      let end;
      while ((end = text.indexOf("\n\n")) >= 0) {
        const found = parsed(text.slice(0, end));
        text = text.slice(end + 2);
        if (found) yield found;
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The connection was lost before the end." });
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(block) {
  let kind = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  return data.length ? { kind, data: JSON.parse(data.join("\n")) } : null;
}

// The node's HTTP API.

import { events } from "./sse.js";

const KEY = "exo.key";

/** Something that the node, or the way to it, refused. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "" } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }
}

let askForKey = async () => null;

/** Who asks the user for the node's key, told whether the last one was wrong; gives `null` if there is none. */
export function onKeyWanted(ask) {
  let asking = null;
  // However many calls want it, the user is asked once.
  askForKey = (wrong) => {
    asking ??= ask(wrong).finally(() => { asking = null; });
    return asking;
  };
}

let refusals = 0;
let waiting = [];

/** Comes when the node took a key that the user gave. */
export const untilKey = () => new Promise((resolve) => { waiting.push(resolve); });

async function send(path, key, { method = "GET", body, signal } = {}) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The node cannot be reached", { code: "unreachable" });
  }
}

async function open(path, options) {
  // Kept for as long as this tab lives, and sent to this node only.
  let key = sessionStorage.getItem(KEY);
  const before = refusals;
  let response = await send(path, key, options);
  while (response.status === 401) {
    let known = sessionStorage.getItem(KEY);
    // Another call may have had an answer meanwhile.
    if (!known || known === key) {
      sessionStorage.removeItem(KEY);
      // The user may have said no while this was under way.
      known = refusals === before ? await askForKey(Boolean(key)) : null;
      if (known === null) {
        refusals += 1;
        throw await failure(response);
      }
      sessionStorage.setItem(KEY, known);
    }
    key = known;
    response = await send(path, key, options);
  }
  if (key) {
    waiting.forEach((resolve) => resolve());
    waiting = [];
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function failure(response) {
  let error = {};
  try {
    const body = await response.json();
    error = typeof body.error === "string" ? { message: body.error } : body.error ?? {};
  } catch {
    // A proxy may answer in its own way.
  }
  const message = error.message || `The node answers ${response.status}`;
  const code = error.code || (response.status === 401 ? "unauthorized" : "");
  return new ApiError(String(message), { status: response.status, code });
}

async function json(path, options) {
  const response = await open(path, options);
  return response.status === 204 ? null : response.json();
}

/** The models that can be asked. */
export const models = async () => (await json("v1/models")).data ?? [];

/** Downloads of models, its own and those of its peers; `null` where the node has no such thing. */
export async function downloads() {
  try {
    const { downloads = [], ring = [] } = await json("v1/downloads");
    return { own: downloads, ring };
  } catch (error) {
    if (error.status === 404 || error.status === 405) return null;
    throw error;
  }
}

const path = (id) => id.split("/").map(encodeURIComponent).join("/");

export const startDownload = (model) => json("v1/downloads", { method: "POST", body: { model } });
export const cancelDownload = (id) => open(`v1/downloads/${path(id)}`, { method: "DELETE" });
export const removeModel = (id) => open(`v1/models/${path(id)}`, { method: "DELETE" });

/** What the ring looks like, whenever that changes, until `signal`. */
export async function* views(signal) {
  const response = await open("v1/events", { signal });
  for await (const { event, data } of events(response.body)) {
    if (event === "view") yield JSON.parse(data);
  }
}

/**
 * An answer as it comes: yields `{text}` pieces, then `{finish}`, and `{usage}` if it is told.
 * Aborting `signal` hangs up, which ends the request in the whole ring.
 */
export async function* chat(body, signal) {
  const request = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await open("v1/chat/completions", { method: "POST", body: request, signal });
  let finished = false;
  for await (const { data } of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) {
      const { message, code } = chunk.error;
      throw new ApiError(String(message ?? "The answer failed"), { status: 500, code });
    }
    if (chunk.usage) yield { usage: chunk.usage, model: chunk.model };
    const choice = chunk.choices?.[0];
    if (!choice) continue;
    if (typeof choice.delta?.content === "string" && choice.delta.content !== "") {
      yield { text: choice.delta.content, model: chunk.model };
    }
    if (choice.finish_reason) {
      finished = true;
      yield { finish: choice.finish_reason, model: chunk.model };
    }
  }
  if (!finished && !signal.aborted) {
    throw new ApiError("The answer broke off", { code: "cut" });
  }
}

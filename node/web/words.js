// Numbers and mishaps as people read them.

/** Bytes: `7.2 MiB`. */
export function bytes(count) {
  if (typeof count !== "number" || !Number.isFinite(count) || count < 0) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${count < 10 && unit > 0 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

/** `1 node`, `2 nodes`. */
export const counted = (count, one, more = `${one}s`) => `${count} ${count === 1 ? one : more}`;

/** Milliseconds: `0.21 s`, `12 s`. */
export const seconds = (ms) => `${ms < 10_000 ? (ms / 1000).toFixed(2) : Math.round(ms / 1000)} s`;

/** Tokens per second: `45.2`, `702`. */
export const rate = (value) => (value < 100 ? value.toFixed(1) : String(Math.round(value)));

/** In milliseconds: shorter times between the first and the last token are no measure. */
const SPAN = 50;

/** What an answer took, from its figures. */
export function figures(stats) {
  const parts = [];
  if (stats.tokens > 0) parts.push(counted(stats.tokens, "token"));
  if (stats.tokens > 1) {
    // What came all at once, from a proxy that collects, says nothing of the time between two.
    const span = stats.last - stats.first;
    const each = span > SPAN ? (stats.tokens - 1) / span : stats.tokens / stats.last;
    parts.push(`${rate(1000 * each)} tokens/s`);
  }
  if (stats.first > 0) parts.push(`first after ${seconds(stats.first)}`);
  return parts.join(" · ");
}

/** What helps, by the code of an error. */
const HELP = {
  unreachable: "Is exo-node still running there? Start it again, then retry.",
  invalid_api_key: "Retry to enter the key.",
  unauthorized: "This node wants a key: retry to enter it.",
  insufficient_memory: "Start exo-node on one more machine, or choose a smaller model.",
  context_length_exceeded: "Begin a new chat, or shorten the earlier messages.",
  model_not_found: "Choose another model at the top.",
  model_broken: "exo-node models verify tells what is wrong with its files.",
  busy: "Retry in a moment.",
  queue_full: "Retry in a moment.",
  too_many_requests: "Retry in a moment.",
  too_many_connections: "Close other pages of this node, then retry.",
  timeout: "A node is slow or hangs. Retry: the layers are placed anew.",
  peer_lost: "Retry: its layers go to the nodes that are left.",
  stage_failed: "Retry: the layers are placed anew.",
  unrecoverable: "No nodes that are left can hold the model. Start one more, then retry.",
  leaving: "Ask another node of the ring.",
  stopping: "Ask another node of the ring, or start this one again.",
  cut: "The connection ended in the middle. Retry.",
};

/** An error in words, with what to do. */
export function explain(error) {
  const known = Object.hasOwn(HELP, error.code) ? HELP[error.code] : null;
  const help = known ?? (error.status >= 500 ? "Retry; the node's log tells more." : "");
  return { what: sentence(error.message || "Something went wrong"), help };
}

function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

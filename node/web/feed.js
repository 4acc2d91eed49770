// The ring as it changes. A page that nobody sees does not look.

import { untilKey, views } from "./api.js";

const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;

/** Calls `seen` with each view and `state` with `live`, `lost`, `locked` or `paused`, for ever. */
export function follow({ seen, state }) {
  let current = null;

  async function run() {
    let wait = FIRST_WAIT;
    while (!document.hidden) {
      current = new AbortController();
      try {
        for await (const view of views(current.signal)) {
          wait = FIRST_WAIT;
          state("live");
          seen(view);
        }
      } catch (error) {
        if (error.name === "AbortError") break;
        if (error.status === 401) {
          // The user has no key now; what the user does next asks for it again.
          state("locked");
          await untilKey();
          continue;
        }
      }
      state("lost");
      await new Promise((resolve) => { setTimeout(resolve, wait); });
      wait = Math.min(2 * wait, LONGEST_WAIT);
    }
    current = null;
  }

  let running = null;
  const begin = () => {
    running ??= run().finally(() => {
      running = null;
      // It may have come back while the old look ended.
      if (!document.hidden) begin();
    });
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) {
      begin();
      return;
    }
    state("paused");
    current?.abort();
  });
  begin();
}

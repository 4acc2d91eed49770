// The conversation that is open, and answers that are on their way.

import { chat as ask, ApiError } from "./api.js";
import { byId, replace } from "./dom.js";
import { MessageView } from "./message.js";
import { fresh } from "./store.js";

/** So close to its end a conversation follows what is written. */
const NEAR = 80;

export class Chat {
  /** `wishes()` gives the fields of a request that the user chose; `changed()` hears of all. */
  constructor(store, { wishes, changed, announce, forgot }) {
    Object.assign(this, { store, wishes, changed, announce, forgot });
    this.log = byId("log");
    this.list = byId("messages");
    this.views = [];
    /** Answers on their way, by conversation. */
    this.runs = new Map();
    this.current = fresh();
    this.follows = true;
    this.log.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.log;
      this.follows = scrollHeight - scrollTop - clientHeight < NEAR;
    });
  }

  get running() {
    return this.runs.has(this.current.id);
  }

  /** Opens a conversation, or a new one. */
  open(chat = fresh()) {
    this.current = chat;
    this.follows = true;
    this.draw();
    this.changed();
  }

  draw() {
    const { messages } = this.current;
    this.views = messages.map((message, at) => new MessageView(message, this.acts(message, at)));
    replace(this.list, this.views.map((view) => view.node));
    byId("welcome").hidden = messages.length > 0;
    if (this.running) this.views.at(-1)?.show(true);
    this.scroll();
  }

  acts(message, at) {
    return message.role === "user"
      ? { edit: (text) => this.edit(at, text) }
      : { retry: () => this.retry(at) };
  }

  scroll() {
    if (this.follows) this.log.scrollTop = this.log.scrollHeight;
  }

  /** Says something and asks for an answer. */
  send(text) {
    if (this.running || text.trim() === "") return;
    this.current.messages.push({ role: "user", content: text.trim() });
    this.answer();
  }

  /** Asks again for the answer at `at`; what came behind it goes. */
  retry(at) {
    if (this.running) return;
    this.current.messages.splice(at);
    this.answer();
  }

  /** Says something else at `at` and goes on from there. */
  edit(at, text) {
    this.stop();
    this.current.messages.splice(at);
    this.current.messages.push({ role: "user", content: text });
    this.answer();
  }

  editLast() {
    const at = this.current.messages.findLastIndex((message) => message.role === "user");
    this.views[at]?.edit();
  }

  /** Stops the answer that is on its way; what came stays. */
  stop() {
    this.runs.get(this.current.id)?.abort();
    this.runs.delete(this.current.id);
  }

  /** Forgets a conversation that was deleted. */
  gone(id) {
    this.runs.get(id)?.abort();
    this.runs.delete(id);
    if (this.current.id === id) this.open();
  }

  async answer() {
    const chat = this.current;
    const { system, ...wishes } = this.wishes();
    const messages = turns(chat.messages);
    if (system) messages.unshift({ role: "system", content: system });
    const message = { role: "assistant", content: "", model: wishes.model ?? "", stats: {} };
    chat.messages.push(message);
    const run = new AbortController();
    this.runs.set(chat.id, run);
    this.keep(chat);
    this.follows = true;
    this.draw();
    this.changed();
    try {
      await this.listen(chat, message, ask({ ...wishes, messages }, run.signal));
    } catch (error) {
      if (run.signal.aborted) message.stopped = true;
      else message.error = told(error);
    }
    if (this.runs.get(chat.id) === run) this.runs.delete(chat.id);
    // The conversation may have been deleted, or gone on from an earlier message.
    if (!this.store.get(chat.id) || !chat.messages.includes(message)) return;
    this.keep(chat);
    if (this.current === chat) {
      this.views.at(-1)?.show();
      this.scroll();
      this.announce(message.error ? "The answer failed" : message.stopped ? "Stopped" : "The answer is there");
    }
    this.changed();
  }

  async listen(chat, message, pieces) {
    const begun = performance.now();
    const { stats } = message;
    let drawn = 0;
    for await (const piece of pieces) {
      if (piece.model) message.model = piece.model;
      if (piece.usage) stats.tokens = piece.usage.completion_tokens;
      if (piece.finish) message.finish = piece.finish;
      if (!piece.text) continue;
      stats.last = performance.now() - begun;
      stats.first ??= stats.last;
      // Each piece is a token, or a few; the usage at the end tells exactly.
      stats.tokens = (stats.tokens ?? 0) + 1;
      message.content += piece.text;
      if (this.current === chat && drawn === 0) {
        drawn = requestAnimationFrame(() => {
          drawn = 0;
          if (this.current !== chat || !chat.messages.includes(message) || !this.running) return;
          this.views.at(-1)?.show(true);
          this.scroll();
        });
      }
    }
  }

  keep(chat) {
    const gone = this.store.put(chat);
    if (gone > 0) this.forgot(gone);
  }
}

/** What was said so far. Models want turns: two messages in a row, where an answer failed, are one. */
function turns(said) {
  const turns = [];
  for (const { role, content } of said) {
    if (content === "") continue;
    const last = turns.at(-1);
    if (last?.role === role) last.content += `\n\n${content}`;
    else turns.push({ role, content });
  }
  return turns;
}

function told(error) {
  if (error instanceof ApiError) {
    return { message: error.message, code: error.code, status: error.status };
  }
  // Such as a connection that broke while the body came.
  return { message: "The answer broke off", code: "cut", status: 0 };
}

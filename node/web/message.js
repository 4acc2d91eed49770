// One message of a conversation on the page.

import { copy, el, iconButton } from "./dom.js";
import { render } from "./markdown.js";
import { explain, figures } from "./words.js";

/** What a model thinks before it answers stands between these. */
const THINK = /^\s*<think>\n?/;
const THOUGHT = "</think>";

export class MessageView {
  /** `acts`: what can be done with the message, `retry` or `edit`. */
  constructor(message, acts) {
    this.message = message;
    this.acts = acts;
    this.body = el("div", { class: "body" });
    this.foot = el("div", { class: "foot" });
    const mine = message.role === "user";
    this.node = el("article", { class: `message ${mine ? "mine" : "theirs"}` },
      el("h2", { class: "who", text: mine ? "You" : message.model || "Answer" }), this.body, this.foot);
    this.waiting = false;
    this.show();
  }

  /** Shows the message as it is now. */
  show(running = false) {
    const { message, node } = this;
    node.classList.toggle("running", running);
    // Those who listen hear the answer when it is whole, not letter by letter.
    node.setAttribute("aria-busy", String(running));
    if (message.role === "user") {
      this.body.textContent = message.content;
    } else {
      node.querySelector(".who").textContent = message.model || "Answer";
      this.answer(message.content, running);
    }
    this.trouble();
    this.footer(running);
  }

  answer(content, running) {
    let text = content;
    let thought = null;
    const begin = THINK.exec(content);
    if (begin) {
      const end = content.indexOf(THOUGHT);
      thought = content.slice(begin[0].length, end < 0 ? undefined : end);
      text = end < 0 ? "" : content.slice(end + THOUGHT.length);
    }
    if (thought !== null && thought.trim() !== "") {
      this.thinking ??= this.thoughts();
      this.thinking.querySelector("summary").textContent =
        running && text === "" ? "Thinking…" : "Thoughts";
      render(this.thinking.lastChild, thought);
    } else if (this.thinking) {
      this.thinking.remove();
      this.thinking = undefined;
    }
    this.text ??= this.body.appendChild(el("div", { class: "markdown" }));
    this.text.classList.toggle("waiting", running && content === "");
    render(this.text, text);
  }

  thoughts() {
    const box = el("details", { class: "thoughts" }, el("summary"), el("div", { class: "markdown" }));
    this.body.prepend(box);
    return box;
  }

  trouble() {
    this.error?.remove();
    this.error = undefined;
    if (!this.message.error) return;
    const { what, help } = explain(this.message.error);
    this.error = el("div", { class: "trouble", role: "alert" },
      el("p", { text: what }), help ? el("p", { class: "help", text: help }) : null);
    this.body.append(this.error);
  }

  footer(running) {
    const { message, acts } = this;
    // Only what changed is made anew, or whoever is about to press a button would lose it.
    const words = running ? figures(message.stats ?? {}) : this.figures();
    if (this.shown === running && this.foot.firstChild) {
      this.foot.firstChild.textContent = words;
      return;
    }
    this.shown = running;
    const stats = el("span", { class: "stats", text: words });
    const buttons = [];
    if (!running) {
      if (message.content) {
        const button = iconButton("copy", "Copy", () => copy(message.content, button));
        buttons.push(button);
      }
      if (acts.edit) buttons.push(iconButton("edit", "Edit and go on from here", () => this.edit()));
      if (acts.retry) buttons.push(iconButton("retry", "Retry", acts.retry));
    }
    this.foot.replaceChildren(stats, el("span", { class: "acts" }, buttons));
  }

  figures() {
    const parts = [];
    if (this.message.stats) parts.push(figures(this.message.stats));
    if (this.message.stopped) parts.push("stopped");
    if (this.message.finish === "length") parts.push("cut off at the length that was asked for");
    return parts.filter(Boolean).join(" · ");
  }

  /** Lets the user change the message. */
  edit() {
    if (this.editor) return;
    const area = el("textarea", { class: "edit", "aria-label": "Edit the message", value: this.message.content });
    const close = () => {
      this.editor.remove();
      this.editor = undefined;
      this.node.classList.remove("editing");
    };
    const save = () => {
      const text = area.value.trim();
      if (text === "") return;
      close();
      this.acts.edit(text);
    };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        save();
      } else if (event.key === "Escape") {
        event.stopPropagation();
        close();
        this.node.querySelector(".acts button")?.focus();
      }
    });
    this.editor = el("div", { class: "editor" }, area, el("div", { class: "row" },
      el("button", { type: "button", class: "button", text: "Cancel", on: { click: close } }),
      el("button", { type: "button", class: "button primary", text: "Send", on: { click: save } })));
    this.node.classList.add("editing");
    this.body.after(this.editor);
    area.rows = Math.min(12, this.message.content.split("\n").length + 1);
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

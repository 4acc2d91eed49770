// The list of conversations.

import { toast } from "./dialogs.js";
import { byId, download, el, iconButton, replace } from "./dom.js";
import { fileName, toMarkdown } from "./store.js";

const DAY = 86_400_000;

/** In which group a conversation stands. */
function when(time) {
  const today = new Date().setHours(0, 0, 0, 0);
  if (time >= today) return "Today";
  if (time >= today - DAY) return "Yesterday";
  if (time >= today - 6 * DAY) return "This week";
  return "Earlier";
}

export class Sidebar {
  constructor(store, { open, removed, current }) {
    Object.assign(this, { store, open, removed, current });
    this.renaming = null;
    store.addEventListener("change", () => this.draw());
    byId("export-all").addEventListener("click", () => this.exportAll());
  }

  draw() {
    // A name that is being written stays where it is.
    if (this.renaming) return;
    const groups = new Map();
    for (const chat of this.store.list()) {
      const name = when(chat.changed);
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(this.row(chat));
    }
    replace(byId("chats"), groups.size === 0
      ? [el("p", { class: "empty", text: "Conversations stay in this browser." })]
      : [...groups].flatMap(([name, rows]) => [el("h2", { text: name }), el("ul", {}, rows)]));
  }

  row(chat) {
    const title = chat.title || "New chat";
    const current = this.current() === chat.id;
    const row = el("li", { class: current ? "chat-row current" : "chat-row" },
      el("button", {
        type: "button", class: "chat-open", text: title, title, "aria-current": current ? "true" : undefined,
        on: { click: () => this.open(chat.id) },
      }),
      el("span", { class: "chat-acts" },
        iconButton("edit", `Rename ${title}`, () => this.rename(chat, row)),
        iconButton("save", `Export ${title}`, () => this.export(chat)),
        iconButton("trash", `Delete ${title}`, () => this.remove(chat))));
    return row;
  }

  rename(chat, row) {
    const field = el("input", { class: "field", "aria-label": "Name of the conversation", value: chat.title, maxlength: 80 });
    this.renaming = field;
    const end = (keep) => {
      if (this.renaming !== field) return;
      this.renaming = null;
      const name = field.value.trim();
      if (keep && name !== chat.title) {
        chat.named = name !== "";
        chat.title = name;
        this.store.put(chat, false);
      }
      this.draw();
    };
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.stopPropagation();
      end(event.key === "Enter");
    });
    field.addEventListener("blur", () => end(true));
    replace(row, field);
    field.select();
  }

  export(chat) {
    download(`${fileName(chat.title)}.md`, "text/markdown", toMarkdown(chat));
  }

  exportAll() {
    const all = this.store.list();
    download("exo-conversations.json", "application/json", JSON.stringify(all, null, 2));
  }

  remove(chat) {
    this.store.remove(chat.id);
    this.removed(chat.id);
    const undo = () => this.store.put(chat, false);
    toast("The conversation is deleted.", { label: "Undo", click: undo });
  }
}

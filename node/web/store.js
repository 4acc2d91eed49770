// Conversations, kept in this browser and nowhere else.

const PREFIX = "exo.chat.";
/** More conversations are not kept: the one that was not touched for longest goes. */
export const MOST_CHATS = 200;
/** Browsers give a site about 5 million characters. */
const MOST_CHARACTERS = 4_000_000;
const TITLE = 60;

/** A conversation without words. */
export function fresh() {
  const now = Date.now();
  return { id: newId(), title: "", named: false, created: now, changed: now, messages: [] };
}

function newId() {
  const random = crypto.getRandomValues(new Uint32Array(2));
  return Date.now().toString(36) + random[0].toString(36) + random[1].toString(36);
}

/** What stands in storage may be anything: another version wrote it, or a hand. */
function understood(text) {
  let chat;
  try {
    chat = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof chat?.id !== "string" || !Array.isArray(chat.messages)) return null;
  const good = (message) =>
    ["user", "assistant"].includes(message?.role) && typeof message.content === "string";
  return {
    id: chat.id,
    title: typeof chat.title === "string" ? chat.title : "",
    named: chat.named === true,
    created: Number(chat.created) || 0,
    changed: Number(chat.changed) || 0,
    messages: chat.messages.filter(good),
  };
}

export class Store extends EventTarget {
  constructor(storage = localStorage) {
    super();
    this.storage = storage;
    this.chats = new Map();
    this.read();
    // Another tab of the same node.
    addEventListener("storage", (event) => {
      if (event.key !== null && !event.key.startsWith(PREFIX)) return;
      this.read();
      this.tell();
    });
  }

  read() {
    const before = this.chats;
    this.chats = new Map();
    for (let at = 0; at < this.storage.length; at += 1) {
      const key = this.storage.key(at);
      if (!key?.startsWith(PREFIX)) continue;
      const chat = understood(this.storage.getItem(key));
      if (!chat || key !== PREFIX + chat.id) continue;
      // Whoever holds a conversation goes on with the same object.
      const known = before.get(chat.id);
      this.chats.set(chat.id, known && known.changed >= chat.changed ? known : chat);
    }
  }

  tell() {
    this.dispatchEvent(new Event("change"));
  }

  /** All of them, the one that was touched last first. */
  list() {
    return [...this.chats.values()].sort((a, b) => b.changed - a.changed);
  }

  get(id) {
    return this.chats.get(id);
  }

  /** Keeps a conversation as it is now; gives how many old ones had to go for it. */
  put(chat, touched = true) {
    if (touched) chat.changed = Date.now();
    if (!chat.named) {
      const first = chat.messages.find((message) => message.role === "user");
      const words = first?.content.trim().replace(/\s+/g, " ") ?? "";
      chat.title = words.length > TITLE ? `${words.slice(0, TITLE - 1)}…` : words;
    }
    this.chats.set(chat.id, chat);
    const gone = this.write(chat);
    this.tell();
    return gone;
  }

  write(chat) {
    const text = JSON.stringify(chat);
    let gone = 0;
    for (;;) {
      try {
        if (this.chats.size > MOST_CHATS || this.size(chat.id) + text.length > MOST_CHARACTERS) {
          throw new RangeError("full");
        }
        this.storage.setItem(PREFIX + chat.id, text);
        return gone;
      } catch {
        const oldest = this.list().findLast((other) => other.id !== chat.id);
        // One that is too large alone stays for as long as the page does.
        if (!oldest) return gone;
        this.drop(oldest.id);
        gone += 1;
      }
    }
  }

  size(without) {
    let sum = 0;
    for (let at = 0; at < this.storage.length; at += 1) {
      const key = this.storage.key(at);
      if (key?.startsWith(PREFIX) && key !== PREFIX + without) sum += this.storage.getItem(key).length;
    }
    return sum;
  }

  drop(id) {
    this.chats.delete(id);
    this.storage.removeItem(PREFIX + id);
  }

  remove(id) {
    this.drop(id);
    this.tell();
  }
}

/** A conversation for people and other programs. */
export function toMarkdown(chat) {
  const said = chat.messages.map((message) => {
    const who = message.role === "user" ? "You" : message.model || "Assistant";
    return `## ${who}\n\n${message.content.trim()}\n`;
  });
  return `# ${chat.title || "Conversation"}\n\n${said.join("\n")}`;
}

/** A file's name out of a title. */
export function fileName(title) {
  const plain = title.normalize("NFKD").replace(/[^\w]+/g, "-").replace(/^-+|-+$/g, "");
  return plain.slice(0, 50).toLowerCase() || "conversation";
}

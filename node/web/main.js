// Puts the page together.

import { onKeyWanted } from "./api.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { askForKey, showKeys, toast } from "./dialogs.js";
import { byId, el, replace } from "./dom.js";
import { follow } from "./feed.js";
import { Models } from "./models.js";
import { Ring } from "./ring.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Store } from "./store.js";
import { counted } from "./words.js";

const IDEAS = [
  "Tell me a story about a fox.",
  "Why is the sky blue?",
  "Write a haiku about two computers.",
];

/** Panels on narrow screens lie over the page. */
const NARROW = matchMedia("(max-width: 1080px)");

onKeyWanted(askForKey);

const store = new Store();
const settings = new Settings();
const models = new Models({ changed: () => kinds() });
const composer = new Composer({ send: (text) => chat.send(text), stop: () => chat.stop() });
const chat = new Chat(store, {
  wishes: () => ({ model: models.chosen, ...settings.wishes() }),
  changed: () => changed(),
  announce: (words) => { byId("announce").textContent = words; },
  forgot: (count) => toast(`This browser keeps no more: ${counted(count, "old conversation")} had to go.`),
});
const sidebar = new Sidebar(store, {
  open: (id) => {
    chat.open(store.get(id));
    panel(null);
    composer.focus();
  },
  removed: (id) => chat.gone(id),
  current: () => chat.current.id,
});
const ring = new Ring();

function changed() {
  composer.show(chat.running);
  sidebar.draw();
  document.title = chat.current.title ? `${chat.current.title} · exo-node` : "exo-node";
}

function kinds() {
  // Pictures are offered where the model takes them. None does yet, so nothing sends them.
  byId("kinds").textContent = models.seesPictures ? "" : "This model takes text, no pictures.";
}

/** On narrow screens one panel at a time is open, or none; on wide ones each is shown or not. */
function panel(name) {
  const { classList } = byId("app");
  if (NARROW.matches) {
    for (const each of ["sidebar", "ring"]) classList.toggle(`show-${each}`, each === name && !classList.contains(`show-${each}`));
  } else if (name) {
    classList.toggle(`hide-${name}`);
  }
  for (const each of ["sidebar", "ring"]) {
    const shown = NARROW.matches ? classList.contains(`show-${each}`) : !classList.contains(`hide-${each}`);
    byId(`toggle-${each}`).setAttribute("aria-expanded", String(shown));
    if (shown && each === name && NARROW.matches) byId(each).focus();
  }
}

function newChat() {
  chat.open();
  panel(null);
  composer.focus();
}

const actions = {
  KeyN: newChat,
  KeyM: () => models.open(),
  KeyS: () => settings.show(),
  KeyR: () => panel("ring"),
  KeyB: () => panel("sidebar"),
  KeyE: () => chat.editLast(),
};

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const writing = event.target.matches?.("input, textarea, select");
  if (event.altKey && !event.ctrlKey && !event.metaKey && actions[event.code]) {
    event.preventDefault();
    actions[event.code]();
  } else if (event.key === "Escape") {
    if (chat.running) chat.stop();
    else panel(null);
  } else if (!writing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    if (event.key === "/") {
      event.preventDefault();
      composer.focus();
    } else if (event.key === "?") {
      showKeys();
    }
  }
});

const clicks = {
  "new-chat": newChat,
  "open-models": actions.KeyM,
  "open-settings": actions.KeyS,
  "open-help": showKeys,
  "toggle-ring": actions.KeyR,
  "close-ring": () => panel(null),
  "toggle-sidebar": actions.KeyB,
  "close-sidebar": () => panel(null),
  shade: () => panel(null),
};
for (const [id, click] of Object.entries(clicks)) byId(id).addEventListener("click", click);
NARROW.addEventListener("change", () => panel(null));

replace(byId("ideas"), IDEAS.map((words) => el("button", {
  type: "button", class: "idea", text: words, on: { click: () => chat.send(words) },
})));

const STATES = { live: "live", lost: "connecting again", locked: "wants a key", paused: "paused" };
follow({
  seen: (view) => {
    ring.show(view);
    const up = (view.nodes ?? []).filter((node) => node.state !== "down").length;
    byId("welcome-words").textContent = up > 1
      ? `Answers come from ${up} of your own machines.` : "Answers come from your own machine.";
  },
  state: (state) => {
    byId("live").textContent = STATES[state];
    byId("live").dataset.state = state;
    // What it can be asked may be another thing after a node came back.
    if (state === "live" && models.list.length === 0) models.refresh();
  },
});

chat.open();
panel(null);
models.refresh();
composer.focus();

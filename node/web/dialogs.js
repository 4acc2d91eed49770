// Windows over the page, and short words at its edge.

import { byId, el, iconButton } from "./dom.js";

/** Shows a dialog with a title; `close()` of what it gives ends it. */
export function dialog(title, content, { wide = false, onClose } = {}) {
  const box = el("dialog", { class: wide ? "dialog wide" : "dialog", "aria-label": title });
  const close = () => box.close();
  box.append(
    el("div", { class: "dialog-head" }, el("h2", { text: title }), iconButton("close", "Close", close)),
    el("div", { class: "dialog-body" }, content));
  // A press beside it closes it.
  box.addEventListener("pointerdown", (event) => {
    if (event.target !== box) return;
    const { left, right, top, bottom } = box.getBoundingClientRect();
    const { clientX: x, clientY: y } = event;
    if (x < left || x > right || y < top || y > bottom) close();
  });
  box.addEventListener("close", () => {
    box.remove();
    // The focus came back while the page was still inert: Chromium puts no caret there then, and
    // loses what is typed.
    const { activeElement: field } = document;
    if (field?.matches("textarea")) field.setSelectionRange(field.selectionStart, field.selectionEnd);
    onClose?.();
  });
  document.body.append(box);
  box.showModal();
  return { box, close };
}

/** Asks for the node's key; `null` if the user has none. `wrong`: the last one was none. */
export function askForKey(wrong) {
  return new Promise((resolve) => {
    let key = null;
    // The signs that keys have; a browser sends no others.
    const field = el("input", {
      type: "password", id: "api-key", class: "field", autocomplete: "off", required: true,
      pattern: "\\s*[!-~]+\\s*", title: "ASCII letters, digits and signs, without spaces",
    });
    const form = el("form", { class: "stack" },
      wrong ? el("p", { class: "help bad", role: "alert", text: "This node has no such key." }) : null,
      el("p", { text: "This node answers only those who have its key (exo-node --api-key). It is kept until this tab is closed." }),
      el("label", { for: "api-key", text: "Key" }), field,
      el("div", { class: "row" }, el("button", { class: "button primary", type: "submit", text: "Use this key" })));
    const shown = dialog("Key", form, { onClose: () => resolve(key) });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      key = field.value.trim() || null;
      shown.close();
    });
    field.focus();
  });
}

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const ALT = MAC ? "⌥" : "Alt";

/** Everything that the keyboard does: keys, words. */
const KEYS = [
  [["Enter"], "send"],
  [["Shift", "Enter"], "begin a new line"],
  [["Esc"], "stop the answer"],
  [["/"], "go to the message"],
  [[ALT, "N"], "new chat"],
  [[ALT, "M"], "choose a model"],
  [[ALT, "S"], "settings"],
  [[ALT, "R"], "show or hide the ring"],
  [[ALT, "B"], "show or hide the conversations"],
  [[ALT, "E"], "edit the last message"],
  [["?"], "this list"],
];

/** Shows what the keyboard does. */
export function showKeys() {
  const rows = KEYS.map(([keys, words]) => el("tr", {},
    el("td", {}, keys.map((key) => el("kbd", { text: key }))), el("td", { text: words })));
  dialog("Shortcuts", el("table", { class: "keys" }, el("tbody", {}, rows)));
}

/** Says something for a while; with `act` there is a button. */
export function toast(words, act) {
  const node = el("div", { class: "toast" }, el("span", { text: words }));
  const end = () => node.remove();
  if (act) {
    const click = () => {
      act.click();
      end();
    };
    node.append(el("button", { type: "button", class: "button", text: act.label, on: { click } }));
  }
  byId("toasts").append(node);
  while (byId("toasts").childElementCount > 3) byId("toasts").firstChild.remove();
  setTimeout(end, 8_000);
}

// What the user wants of answers and of the page.

import { dialog } from "./dialogs.js";
import { el } from "./dom.js";

const KEPT = "exo.settings";

/** Numbers of a request: name, label, from, to, step, what it means. */
const NUMBERS = [
  ["temperature", "Temperature", 0, 2, 0.05, "0 always takes the likeliest word; higher is more surprising."],
  ["top_p", "Top p", 0, 1, 0.05, "Only the likeliest words that come to this share are taken."],
  ["max_tokens", "Longest answer", 1, 1_000_000, 1, "In tokens. Empty: as long as the model likes."],
  ["seed", "Seed", 0, 9_007_199_254_740_991, 1, "The same seed tells the same answer. Empty: another one each time."],
];

const THEMES = [["auto", "As the system"], ["light", "Light"], ["dark", "Dark"]];

export class Settings {
  constructor() {
    this.values = { system: "", theme: "auto" };
    try {
      this.take(JSON.parse(localStorage.getItem(KEPT)));
    } catch {
      // Nothing, or something else's.
    }
    this.paint();
  }

  take(values) {
    if (typeof values !== "object" || values === null) return;
    if (typeof values.system === "string") this.values.system = values.system;
    if (THEMES.some(([name]) => name === values.theme)) this.values.theme = values.theme;
    for (const [name, , from, to] of NUMBERS) {
      const value = values[name];
      if (typeof value === "number" && value >= from && value <= to) this.values[name] = value;
    }
  }

  keep() {
    localStorage.setItem(KEPT, JSON.stringify(this.values));
    this.paint();
  }

  paint() {
    document.documentElement.dataset.theme = this.values.theme;
  }

  /** The fields of a request that the user chose; `system` is a message. */
  wishes() {
    const { theme, system, ...numbers } = this.values;
    return { ...numbers, system: system.trim() };
  }

  show() {
    const system = el("textarea", {
      class: "field", id: "setting-system", rows: 4, value: this.values.system,
      placeholder: "You are a helpful assistant.",
    });
    system.addEventListener("input", () => {
      this.values.system = system.value;
      this.keep();
    });
    const theme = el("select", { class: "field", id: "setting-theme" },
      THEMES.map(([name, words]) => el("option", { value: name, text: words })));
    theme.value = this.values.theme;
    theme.addEventListener("change", () => {
      this.values.theme = theme.value;
      this.keep();
    });
    const again = el("button", { type: "button", class: "button", text: "Back to the model's own" });
    const form = el("form", { class: "stack", on: { submit: (event) => event.preventDefault() } },
      el("label", { for: "setting-system", text: "System prompt" }), system,
      el("p", { class: "help", text: "Stands before every conversation." }),
      el("div", { class: "numbers" }, NUMBERS.map((number) => this.number(number))),
      el("label", { for: "setting-theme", text: "Look" }), theme,
      el("div", { class: "row" }, again));
    const shown = dialog("Settings", form);
    system.focus();
    again.addEventListener("click", () => {
      this.values = { system: "", theme: this.values.theme };
      this.keep();
      shown.close();
      this.show();
    });
  }

  number([name, label, from, to, step, words]) {
    const id = `setting-${name}`;
    const field = el("input", {
      class: "field", id, type: "number", min: from, max: to, step, placeholder: "model's own",
      inputmode: "decimal", value: this.values[name] ?? "", "aria-describedby": `${id}-help`,
    });
    field.addEventListener("input", () => {
      const value = field.value === "" ? undefined : Number(field.value);
      const good = value === undefined || (value >= from && value <= to && (step < 1 || Number.isInteger(value)));
      field.setAttribute("aria-invalid", String(!good));
      if (!good) return;
      if (value === undefined) delete this.values[name];
      else this.values[name] = value;
      this.keep();
    });
    return el("div", { class: "number" }, el("label", { for: id, text: label }), field,
      el("p", { class: "help", id: `${id}-help`, text: words }));
  }
}

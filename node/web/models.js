// Which model answers; models that can be had, and those that come.

import * as api from "./api.js";
import { dialog, toast } from "./dialogs.js";
import { become, byId, el, iconButton } from "./dom.js";
import { bytes, counted, explain } from "./words.js";

const KEPT = "exo.model";
/** How often downloads are looked at while somebody looks. */
const LOOK = 1_000;
/** Fewer models need no search. */
const SEARCH = 8;

const here = (model) => !["remote", "partial"].includes(model.exo?.state);
const size = (model) => model.exo?.bytes ?? model.bytes;

/** How far a download is. */
const far = ({ bytes: done, total, bytes_per_second: speed }) =>
  (total > 0 ? `${bytes(done)} of ${bytes(total)}` : bytes(done)) + (speed > 0 ? ` · ${bytes(speed)}/s` : "");

const STATES = { loaded: "loaded", local: "here", partial: "in part", remote: "on the hub" };

export class Models {
  constructor({ changed }) {
    this.changed = changed;
    this.list = [];
    this.downloads = null;
    this.wanted = localStorage.getItem(KEPT);
    this.filter = "";
  }

  /** The model that answers. */
  get chosen() {
    const there = this.list.filter(here);
    const by = (test) => there.find(test)?.id;
    return by((model) => model.id === this.wanted) ?? by((model) => model.exo?.state === "loaded")
      ?? there[0]?.id;
  }

  async refresh() {
    try {
      this.list = (await api.models()).filter((model) => typeof model?.id === "string");
      // A node that tells nothing of where models are has no downloads either.
      const tells = this.list.some((model) => model.exo !== undefined);
      this.downloads = tells ? await api.downloads() : null;
    } catch (error) {
      this.trouble(error);
      // The user has no key: asking again every second would not help.
      if (error.status === 401) this.shown?.close();
    }
    this.show();
  }

  trouble(error) {
    const { what, help } = explain(error);
    if (this.body) toast(`${what} ${help}`.trim());
  }

  /** Whether the chosen model takes pictures: it says so itself. */
  get seesPictures() {
    const model = this.list.find(({ id }) => id === this.chosen);
    const inputs = model?.exo?.inputs ?? model?.input_modalities;
    return Array.isArray(inputs) && inputs.includes("image");
  }

  show() {
    byId("model-name").textContent = this.chosen ?? "no model";
    this.changed();
    if (this.body) this.draw();
  }

  choose(id) {
    this.wanted = id;
    localStorage.setItem(KEPT, id);
    this.show();
  }

  open() {
    if (this.body) return;
    const search = el("input", {
      type: "search", class: "field", placeholder: "Search", "aria-label": "Search models", value: this.filter,
    });
    search.addEventListener("input", () => {
      this.filter = search.value;
      this.draw();
    });
    this.search = search;
    this.body = el("div", { class: "models" });
    this.shown = dialog("Models", [search, this.body], {
      wide: true,
      onClose: () => {
        this.body = undefined;
        clearTimeout(this.timer);
      },
    });
    this.draw();
    this.body.querySelector(".chosen .model-pick")?.focus();
    this.follow();
  }

  async follow() {
    await this.refresh();
    clearTimeout(this.timer);
    if (this.body) this.timer = setTimeout(() => this.follow(), LOOK);
  }

  draw() {
    const focused = this.body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.search.hidden = this.list.length < SEARCH;
    const words = this.filter.trim().toLowerCase();
    const found = this.list.filter((model) => model.id.toLowerCase().includes(words));
    const group = (title, models) => models.length === 0 ? [] : [
      el("h3", { text: title }),
      el("ul", { class: "model-list" }, models.map((model) => this.row(model))),
    ];
    const rest = found.filter((model) => !here(model));
    become(this.body, el("div", { class: "models" },
      group("Here", found.filter(here)),
      group("To be had", rest),
      found.length === 0 ? [el("p", { class: "help", text: "There is no such model." })] : [],
      el("p", { class: "help", text: this.downloads === null
        ? "More models: exo-node models pull NAME, or --models-dir DIR."
        : "What is downloaded stays on this node and is shared with its peers." })));
    if (focused) this.body.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  row(model) {
    const { id } = model;
    const chosen = id === this.chosen;
    const facts = [
      STATES[model.exo?.state] ?? "here",
      size(model) > 0 ? bytes(size(model)) : "",
      model.layers > 0 ? counted(model.layers, "layer") : "",
      model.exo?.context > 0 ? `${model.exo.context} tokens of context` : "",
    ].filter(Boolean).join(" · ");
    const elsewhere = (this.downloads?.ring ?? [])
      .filter((download) => download.model === id && download.state === "downloading")
      .map((download) => el("span", { class: "model-facts", text: `${download.node_id}: ${far(download)}` }));
    const words = [
      el("span", { class: "model-id", text: id }), el("span", { class: "model-facts", text: facts }), ...elsewhere];
    const pick = () => {
      this.choose(id);
      this.shown.close();
    };
    const main = here(model)
      ? el("button", {
        type: "button", class: "model-pick", "aria-pressed": String(chosen), "data-key": `pick ${id}`,
        on: { click: pick },
      }, words)
      : el("div", { class: "model-pick" }, words);
    return el("li", { class: chosen ? "model chosen" : "model" }, main, this.actions(model));
  }

  actions(model) {
    if (this.downloads === null) return [];
    const { id } = model;
    const coming = this.downloads.own.findLast((download) => download.model === id);
    const act = (call) => async () => {
      try {
        await call(id);
      } catch (error) {
        this.trouble(error);
      }
      await this.refresh();
    };
    if (coming?.state === "downloading") {
      return [el("div", { class: "coming" },
        el("progress", { max: coming.total || 1, value: coming.bytes ?? 0, "aria-label": `Download of ${id}` }),
        el("span", { class: "model-facts", text: far(coming) }),
        iconButton("close", `Cancel the download of ${id}`, act(api.cancelDownload), { "data-key": `cancel ${id}` }))];
    }
    const sure = () => dialog(`Remove ${id}?`, [
      el("p", { text: `Its files go from this node's disk${size(model) > 0 ? ` (${bytes(size(model))})` : ""}.` }),
      el("div", { class: "row" }, el("button", {
        type: "button", class: "button danger", text: "Remove",
        on: { click: (event) => { event.target.closest("dialog").close(); act(api.removeModel)(); } },
      }))]);
    const remove = model.exo?.removable === true
      ? [iconButton("trash", `Remove ${id}`, sure, { "data-key": `remove ${id}` })] : [];
    const failed = coming?.state === "failed" && !here(model)
      ? [el("p", { class: "help bad", text: String(coming.error ?? "The download failed") })] : [];
    if (here(model)) return remove;
    return [...failed, ...remove, el("button", {
      type: "button", class: "button", text: model.exo?.state === "partial" ? "Go on" : "Download",
      "data-key": `get ${id}`, "aria-label": `Download ${id}`, on: { click: act(api.startDownload) },
    })];
  }
}

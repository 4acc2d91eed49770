// Where messages are written.

import { byId } from "./dom.js";

/** As a part of the window, a message that is being written is not higher. */
const HIGHEST = 0.4;

export class Composer {
  constructor({ send, stop }) {
    this.area = byId("prompt");
    this.button = byId("send");
    this.running = false;
    const submit = () => {
      if (this.running) {
        stop();
      } else if (this.area.value.trim() !== "") {
        const text = this.area.value;
        this.area.value = "";
        this.fit();
        send(text);
      }
    };
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      submit();
    });
    this.area.addEventListener("keydown", (event) => {
      // Enter that ends the input of a letter is not the user's wish to send.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (!this.running) submit();
    });
    this.area.addEventListener("input", () => this.fit());
    addEventListener("resize", () => this.fit());
    this.show(false);
  }

  /** As high as what is written. */
  fit() {
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(this.area.scrollHeight, innerHeight * HIGHEST)}px`;
    this.button.disabled = !this.running && this.area.value.trim() === "";
  }

  /** Whether an answer is on its way. */
  show(running) {
    this.running = running;
    byId("send-icon").setAttribute("href", running ? "#i-stop" : "#i-send");
    this.button.setAttribute("aria-label", running ? "Stop" : "Send");
    this.button.title = running ? "Stop (Esc)" : "Send (Enter)";
    this.button.classList.toggle("stopping", running);
    this.fit();
  }

  focus() {
    this.area.focus();
  }
}

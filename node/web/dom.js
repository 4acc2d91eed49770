// Builds pages out of elements and texts. Nothing here, and nothing that uses it, reads HTML: what a
// peer or a model says can only ever become text.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "text") {
      node.textContent = value;
    } else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden") {
      node[name] = value;
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** An element: `el("p", {class: "x", on: {click}}, "text", child)`. */
export const el = (tag, props = {}, ...children) => fill(document.createElement(tag), props, children);

/** The same for parts of a drawing. */
export const svg = (tag, props = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), props, children);

/** One of the icons of the page. */
export const icon = (name) =>
  svg("svg", { "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));

/** A button with an icon, named for those who do not see it. */
export const iconButton = (name, label, click, extra = {}) =>
  el("button", {
    type: "button", class: "icon-button", "aria-label": label, title: label, on: { click }, ...extra,
  }, icon(name));

/** Puts `children` in the place of what was there. */
export const replace = (node, ...children) => node.replaceChildren(...children.flat());

/**
 * Makes `node` what `wanted` is, and keeps those parts that are the same: a button that somebody is
 * pressing must not be exchanged under the pointer, or the click goes nowhere. Parts with listeners
 * have a `data-key`; where that is another one, the part is.
 */
export function become(node, wanted) {
  if (node.nodeName !== wanted.nodeName || node.dataset?.key !== wanted.dataset?.key) {
    node.replaceWith(wanted);
    return;
  }
  if (node.nodeType === Node.TEXT_NODE) {
    if (node.data !== wanted.data) node.data = wanted.data;
    return;
  }
  for (const { name } of [...node.attributes]) {
    if (!wanted.hasAttribute(name)) node.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  const now = [...node.childNodes];
  const then = [...wanted.childNodes];
  now.slice(then.length).forEach((child) => child.remove());
  then.forEach((child, at) => (at < now.length ? become(now[at], child) : node.append(child)));
}

/** Copies a text, and shows on the button that it did. */
export async function copy(text, button) {
  if (!(await toClipboard(text))) return;
  const use = button.querySelector("use");
  use.setAttribute("href", "#i-check");
  button.classList.add("done");
  setTimeout(() => {
    use.setAttribute("href", "#i-copy");
    button.classList.remove("done");
  }, 1500);
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Plain http to another machine: browsers keep the clipboard to themselves but for this way.
    const area = el("textarea", { class: "visually-hidden", value: text });
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

/** Gives the user a file. */
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// What stands within a paragraph: emphasis, code, links. Linear in the length of the text, whatever
// stands in it.

import { el } from "./dom.js";

const DEEPEST = 6;
/** Links are shorter. */
const LONGEST_LINK = 2_000;
const ESCAPED = "\\`*_{}[]()#+-.!~|<>";

const isWord = (letter) => letter !== undefined && /[\p{L}\p{N}_]/u.test(letter);
const isSpace = (letter) => letter === undefined || /\s/.test(letter);

/** Appends `text` to `into`, and gives that. */
export function inline(text, into, depth = 0) {
  // Ends that are not to be found behind here, so that nobody looks for them again and again.
  const missing = new Set();
  let plain = "";
  let at = 0;
  const flush = () => {
    if (plain !== "") into.append(plain);
    plain = "";
  };
  const put = (node, next) => {
    flush();
    into.append(node);
    at = next;
  };
  while (at < text.length) {
    const letter = text[at];
    if (letter === "\\" && ESCAPED.includes(text[at + 1] ?? " ")) {
      plain += text[at + 1];
      at += 2;
      continue;
    }
    if (letter === "\n") {
      plain = plain.trimEnd();
      put(el("br"), at + 1);
      continue;
    }
    const found = depth < DEEPEST ? special(text, at, missing, depth) : null;
    if (found) {
      put(found.node, found.next);
    } else {
      // A run of marks that mean nothing is passed as one.
      const run = "*_~`".includes(letter) ? runLength(text, at) : 1;
      plain += text.slice(at, at + run);
      at += run;
    }
  }
  flush();
  return into;
}

function special(text, at, missing, depth) {
  switch (text[at]) {
    case "`":
      return code(text, at, missing);
    case "*":
    case "_":
    case "~":
      return emphasis(text, at, missing, depth);
    case "!":
      // Pictures of strangers are not fetched: they would tell them who reads this.
      return text[at + 1] === "[" ? link(text, at + 1, missing, depth) : null;
    case "[":
      return link(text, at, missing, depth);
    case "<":
    case "h":
      return address(text, at);
    default:
      return null;
  }
}

function runLength(text, at) {
  let end = at + 1;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

function code(text, at, missing) {
  const run = runLength(text, at);
  const mark = text.slice(at, at + run);
  if (missing.has(mark)) return null;
  let end = text.indexOf(mark, at + run);
  while (end >= 0) {
    const length = runLength(text, end);
    if (length === run) {
      let inner = text.slice(at + run, end).replaceAll("\n", " ");
      if (inner.startsWith(" ") && inner.endsWith(" ") && inner.trim() !== "") inner = inner.slice(1, -1);
      return { node: el("code", { text: inner }), next: end + run };
    }
    end = text.indexOf(mark, end + length);
  }
  missing.add(mark);
  return null;
}

function emphasis(text, at, missing, depth) {
  const letter = text[at];
  const run = runLength(text, at);
  const mark = letter.repeat(Math.min(run, 2));
  if (run > 3 || (letter === "~" && run !== 2) || missing.has(mark)) return null;
  if (isSpace(text[at + mark.length]) || (letter === "_" && isWord(text[at - 1]))) return null;
  let end = at + mark.length;
  for (;;) {
    end = text.indexOf(mark, end);
    if (end < 0) {
      missing.add(mark);
      return null;
    }
    const length = runLength(text, end);
    const after = text[end + length];
    const closes = !isSpace(text[end - 1]) && !(letter === "_" && isWord(after));
    if (closes && (length === mark.length || length === 3)) {
      // Of three marks the outer ones are those that close.
      if (length > mark.length) end += mark.length === 2 ? 1 : 2;
      break;
    }
    end += length;
  }
  const tag = letter === "~" ? "del" : mark.length === 2 ? "strong" : "em";
  const inner = text.slice(at + mark.length, end);
  return { node: inline(inner, el(tag), depth + 1), next: end + mark.length };
}

function link(text, at, missing, depth) {
  if (missing.has("](")) return null;
  const middle = text.indexOf("](", at);
  if (middle < 0) {
    missing.add("](");
    return null;
  }
  const words = text.slice(at + 1, middle);
  if (words.length > LONGEST_LINK || words.includes("[") || words.includes("\n\n")) return null;
  let end = middle + 2;
  let open = 1;
  for (; end < text.length && end - middle < LONGEST_LINK; end += 1) {
    if (text[end] === "(") open += 1;
    if (text[end] === ")" && (open -= 1) === 0) break;
  }
  if (open !== 0) return null;
  const target = text.slice(middle + 2, end).trim().split(/\s/)[0].replace(/^<|>$/g, "");
  const node = anchor(target);
  return node && { node: inline(words || target, node, depth + 1), next: end + 1 };
}

/** A bare address, or one in `<>`. */
function address(text, at) {
  const framed = text[at] === "<";
  if (!framed && isWord(text[at - 1])) return null;
  const begin = framed ? at + 1 : at;
  if (!text.startsWith("http://", begin) && !text.startsWith("https://", begin)) return null;
  let end = begin;
  while (end < text.length && end - begin < LONGEST_LINK && !/[\s<>"`]/.test(text[end])) end += 1;
  if (framed) {
    if (text[end] !== ">") return null;
  } else {
    while (/[.,;:!?'*_)\]]/.test(text[end - 1])) {
      // A bracket that was opened within belongs to it.
      if (text[end - 1] === ")" && text.slice(begin, end).includes("(")) break;
      end -= 1;
    }
  }
  const target = text.slice(begin, end);
  const node = anchor(target);
  if (!node) return null;
  node.append(target);
  return { node, next: framed ? end + 1 : end };
}

/** Leads out to the web and nowhere else: no scripts, no files, no pages of this node. */
function anchor(target) {
  let url;
  try {
    url = new URL(target);
  } catch {
    return null;
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return null;
  return el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", title: url.href });
}

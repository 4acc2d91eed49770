// Markdown as models write it, into elements. What is not understood stays the text it was.

import { copy, el, icon } from "./dom.js";
import { highlight } from "./highlight.js";
import { inline } from "./inline.js";

/** Quotes and lists in each other; deeper ones are text. */
const DEEPEST = 8;
/** Longer texts are not looked at closely. */
const LONGEST = 300_000;

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\n]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const MARKER = /^( *)([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;
const COLUMN = /^:?-+:?$/;

/**
 * Makes `container` show `text`. Blocks that are as before stay the elements they are, so that a
 * text that grows costs what is new, and nobody's selection is lost.
 */
export function render(container, text) {
  const blocks = text.length > LONGEST
    ? [{ kind: "paragraph", raw: text, text, plain: true }]
    : parse(text.split("\n"), 0);
  const known = container.markdown ?? [];
  let same = 0;
  while (same < known.length && same < blocks.length && known[same] === key(blocks[same])) same += 1;
  while (container.childNodes.length > same) container.lastChild.remove();
  for (const block of blocks.slice(same)) container.append(build(block));
  container.markdown = blocks.map(key);
}

const key = (block) => `${block.kind}\n${block.raw}`;
const blank = (line) => line.trim() === "";
const indent = (line) => line.length - line.trimStart().length;

function isRule(line) {
  const marks = line.replace(/[ \t]/g, "");
  return marks.length >= 3 && "-*_".includes(marks[0]) && marks === marks[0].repeat(marks.length);
}

/** Whether a paragraph ends before this line. */
function begins(line) {
  return FENCE.test(line) || HEADING.test(line) || isRule(line) || /^ {0,3}>/.test(line)
    || /^ {0,3}([-*+]|1[.)])[ \t]+\S/.test(line);
}

/** The blocks of some lines. */
export function parse(lines, depth) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (blank(lines[at])) {
      at += 1;
      continue;
    }
    const from = at;
    const [block, next] = take(lines, at, depth);
    at = Math.max(next, from + 1);
    block.raw = lines.slice(from, at).join("\n");
    blocks.push(block);
  }
  return blocks;
}

function take(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return takeCode(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    const text = line.slice(heading[0].length).trim().replace(/(^|[ \t])#+$/, "");
    return [{ kind: "heading", level: heading[1].length, text }, at + 1];
  }
  if (isRule(line)) return [{ kind: "rule" }, at + 1];
  if (depth < DEEPEST) {
    if (/^ {0,3}>/.test(line)) return takeQuote(lines, at, depth);
    if (MARKER.test(line) && !blank(line.replace(MARKER, ""))) return takeList(lines, at, depth);
  }
  if (line.includes("|") && at + 1 < lines.length) {
    const table = takeTable(lines, at);
    if (table) return table;
  }
  return takeParagraph(lines, at);
}

function takeCode(lines, at, fence) {
  const [, mark, info] = fence;
  const lead = indent(lines[at]);
  const code = [];
  let next = at + 1;
  for (; next < lines.length; next += 1) {
    const end = lines[next].trim();
    if (end.length >= mark.length && end === mark[0].repeat(end.length)) {
      next += 1;
      break;
    }
    code.push(lines[next].slice(Math.min(lead, indent(lines[next]))));
  }
  const language = info.trim().split(/\s+/)[0].slice(0, 30);
  return [{ kind: "code", language, text: code.join("\n") }, next];
}

function takeQuote(lines, at, depth) {
  const inner = [];
  let next = at;
  while (next < lines.length && /^ {0,3}>/.test(lines[next])) {
    inner.push(lines[next].replace(/^ {0,3}> ?/, ""));
    next += 1;
  }
  return [{ kind: "quote", blocks: parse(inner, depth + 1) }, next];
}

function takeList(lines, at, depth) {
  const first = MARKER.exec(lines[at]);
  const lead = first[1].length;
  const ordered = /\d/.test(first[2]);
  const items = [];
  let width = 0;
  let loose = false;
  let next = at;
  for (; next < lines.length; next += 1) {
    const line = lines[next];
    const marker = MARKER.exec(line);
    const sibling = marker && Math.abs(marker[1].length - lead) < 2
      && /\d/.test(marker[2]) === ordered;
    if (sibling && !isRule(line)) {
      if (next > at && blank(lines[next - 1])) loose = true;
      width = marker[0].length;
      items.push([line.slice(width)]);
    } else if (blank(line)) {
      const after = lines.slice(next + 1, next + 20).find((other) => !blank(other));
      if (after === undefined) break;
      const again = MARKER.exec(after);
      const more = again && Math.abs(again[1].length - lead) < 2 && /\d/.test(again[2]) === ordered;
      if (!more && indent(after) < lead + 2) break;
      items.at(-1).push("");
    } else if (indent(line) >= lead + 2) {
      items.at(-1).push(line.slice(Math.min(width, indent(line))));
    } else if (!blank(lines[next - 1]) && !begins(line) && !marker) {
      items.at(-1).push(line);
    } else {
      break;
    }
  }
  const parsed = items.map((item) => parse(item, depth + 1));
  const start = ordered ? Number.parseInt(first[2], 10) : 1;
  return [{ kind: "list", ordered, start, loose, items: parsed }, next];
}

function cells(line) {
  const row = line.trim().replace(/^\|/, "").replace(/\\\|/g, "\0").replace(/\|$/, "");
  return row.split("|").map((cell) => cell.replaceAll("\0", "|").trim());
}

function takeTable(lines, at) {
  const head = cells(lines[at]);
  const columns = cells(lines[at + 1]);
  if (!lines[at + 1].includes("-") || head.length !== columns.length) return null;
  if (!columns.every((column) => COLUMN.test(column))) return null;
  const align = columns.map((column) => {
    const right = column.endsWith(":");
    return right && column.startsWith(":") ? "middle" : right ? "right" : "left";
  });
  const rows = [];
  let next = at + 2;
  while (next < lines.length && lines[next].includes("|") && !blank(lines[next])) {
    rows.push(cells(lines[next]).slice(0, head.length));
    next += 1;
  }
  return [{ kind: "table", head, align, rows }, next];
}

function takeParagraph(lines, at) {
  let next = at + 1;
  while (next < lines.length && !blank(lines[next]) && !begins(lines[next])) next += 1;
  return [{ kind: "paragraph", text: lines.slice(at, next).map((line) => line.trimStart()).join("\n") },
    next];
}

function build(block) {
  switch (block.kind) {
    case "code":
      return code(block);
    case "heading":
      // The page has the first two levels.
      return inline(block.text, el(`h${Math.min(6, block.level + 2)}`));
    case "rule":
      return el("hr");
    case "quote":
      return el("blockquote", {}, block.blocks.map(build));
    case "list":
      return list(block);
    case "table":
      return table(block);
    default:
      return block.plain ? el("p", { text: block.text }) : inline(block.text, el("p"));
  }
}

function code({ language, text }) {
  const button = el("button", {
    type: "button", class: "icon-button", "aria-label": "Copy this code", title: "Copy",
    on: { click: () => copy(text, button) },
  }, icon("copy"));
  const pre = el("pre", { tabindex: "0" }, highlight(text, language, el("code")));
  return el("div", { class: "code" },
    el("div", { class: "code-head" }, el("span", { text: language || "text" }), button), pre);
}

function list({ ordered, start, loose, items }) {
  const item = (blocks) => {
    const entry = el("li");
    for (const block of blocks) {
      if (block.kind === "paragraph" && !loose) inline(block.text, entry);
      else entry.append(build(block));
    }
    return entry;
  };
  const props = ordered && start !== 1 ? { start } : {};
  return el(ordered ? "ol" : "ul", props, items.map(item));
}

function table({ head, align, rows }) {
  const cell = (tag) => (text, column) =>
    inline(text, el(tag, { class: `to-${align[column]}`, scope: tag === "th" ? "col" : undefined }));
  return el("div", { class: "table", tabindex: "0" },
    el("table", {},
      el("thead", {}, el("tr", {}, head.map(cell("th")))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell("td")))))));
}

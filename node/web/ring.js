// The ring as a picture, and its nodes as a list for those who read.

import { byId, el, replace, svg } from "./dom.js";
import { counted, rate } from "./words.js";

const WIDTH = 320;
/** One and two nodes stand in a row, more of them around. */
const ROW = { middle: 72, height: 150 };
const ROUND = { middle: 116, height: 246 };
/** What nodes outside the ring take below it. */
const BELOW = 48;
const LETTERS = 16;

const short = (text) => (text.length > LETTERS ? `${text.slice(0, LETTERS - 1)}…` : text);

export class Ring {
  constructor() {
    this.drawn = "";
    this.groups = new Map();
  }

  /** Shows what the node told. Everything in it may be a stranger's word, so all of it is text. */
  show(view) {
    const nodes = view.nodes ?? [];
    const stages = view.ring ?? [];
    const up = nodes.filter((node) => node.state !== "down");
    byId("figure-nodes").textContent = String(up.length);
    byId("figure-layers").textContent = stages[0] ? String(stages[0].layers) : "–";
    byId("figure-rate").textContent = typeof view.tokens_per_s === "number" ? rate(view.tokens_per_s) : "–";
    byId("ring-short").textContent = counted(up.length, "node");
    byId("panel-foot").textContent = `${view.title} · exo-node ${view.version}`;
    this.picture(nodes, stages);
    this.tasks(view.tasks ?? []);
    replace(byId("nodes"), nodes.map(row));
  }

  picture(nodes, stages) {
    const known = new Map(nodes.map((node) => [node.node_id, node]));
    // Without a ring so far all nodes stand in it, and have no layers.
    const ring = stages.length > 0 ? stages : nodes.map(({ node_id }) => ({ node_id }));
    const outside = nodes.filter(({ node_id }) => !ring.some((stage) => stage.node_id === node_id));
    const links = nodes.map((node) => [node.node_id, node.round_trip, node.bandwidth, node.here]);
    // Only a ring that is another one is drawn anew; what moves in it goes on.
    const key = JSON.stringify([ring, outside.map(({ node_id }) => node_id), links]);
    if (key !== this.drawn) {
      this.drawn = key;
      this.draw(ring, outside, known, stages.length > 0);
    }
    const states = ring.map(({ node_id }) => known.get(node_id)?.state ?? "down");
    const busy = stages.length > 0 && states.some((state) => state === "busy" || state === "computing");
    byId("picture").classList.toggle("turning", busy);
    for (const [id, group] of this.groups) {
      group.setAttribute("class", `node ${known.get(id)?.state ?? "down"}`);
    }
    const words = ring.map((stage, at) => `${stage.node_id}${layers(stage)}, ${states[at]}`);
    byId("picture").setAttribute("aria-label", `The ring: ${words.join("; ")}`);
  }

  draw(ring, outside, known, whole) {
    const { middle: y, height } = ring.length <= 2 ? ROW : ROUND;
    const places = around(ring.length, y);
    const radius = ring.length <= 2 ? 33 : ring.length <= 3 ? 29 : ring.length <= 6 ? 23 : ring.length <= 10 ? 17 : 11;
    const parts = [svg("defs", {}, svg("marker", {
      id: "arrow", viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto",
    }, svg("path", { d: "M0 0 8 4 0 8z", class: "arrow" })))];
    const labels = [];
    if (ring.length > 1) {
      const edges = whole ? ring.map((_, at) => [at, (at + 1) % ring.length]) : spokes(ring, known);
      const told = new Set();
      for (const [from, to] of edges) {
        const { path, middle } = edge(places[from], places[to], radius, bow(ring.length, whole));
        parts.push(svg("path", { d: path, class: "edge", "marker-end": whole ? "url(#arrow)" : undefined }));
        if (whole) parts.push(pulse(path, from, ring.length));
        const pair = [from, to].sort((a, b) => a - b).join(" ");
        const at = ring.length === 2 ? { x: WIDTH / 2, y: whole ? y : y - 14 } : middle;
        if (!told.has(pair)) labels.push(...label(known, ring[from], ring[to], at));
        told.add(pair);
      }
    }
    this.groups = new Map();
    ring.forEach((stage, at) => {
      const group = node(stage, places[at], radius, known.get(stage.node_id));
      this.groups.set(stage.node_id, group);
      parts.push(group);
    });
    outside.slice(0, 8).forEach(({ node_id }, at, all) => {
      const place = { x: (WIDTH * (at + 0.5)) / all.length, y: height + 12 };
      const letters = Math.min(LETTERS - 1, WIDTH / all.length / 8);
      const group = node({ node_id }, place, 8, known.get(node_id), letters);
      this.groups.set(node_id, group);
      parts.push(group);
    });
    const tall = height + (outside.length > 0 ? BELOW : 0);
    byId("picture").setAttribute("viewBox", `0 0 ${WIDTH} ${tall}`);
    replace(byId("picture"), parts, labels);
  }

  tasks(tasks) {
    replace(byId("tasks"), tasks.map((task) => el("li", { class: "task" },
      el("span", { class: "task-what", text: task.what }),
      el("span", { class: "task-far", text: task.how_far }),
      typeof task.thousandths === "number"
        ? el("progress", { max: 1000, value: task.thousandths, "aria-label": task.what }) : null)));
  }
}

const layers = (stage) => (typeof stage.start === "number" ? ` has layers ${stage.start} to ${stage.end}` : "");

/** Places on the ring, the first one at the left of two and at the top of more. */
function around(count, y) {
  const middle = { x: WIDTH / 2, y };
  if (count === 1) return [middle];
  const first = count === 2 ? Math.PI : -Math.PI / 2;
  const tall = count === 2 ? 0 : 72;
  return Array.from({ length: count }, (_, at) => {
    const angle = first + (2 * Math.PI * at) / count;
    return { x: middle.x + 104 * Math.cos(angle), y: middle.y + tall * Math.sin(angle) };
  });
}

/** Without a ring: from this node to each peer. */
function spokes(ring, known) {
  const here = Math.max(0, ring.findIndex(({ node_id }) => known.get(node_id)?.here));
  return ring.map((_, at) => [here, at]).filter(([from, to]) => from !== to);
}

/** How far the ways between nodes bend outwards, for their length. */
const bow = (count, whole) => (length) => (!whole ? 0 : count === 2 ? 84 : Math.min(26, length / 5));

/** A way between two nodes that ends at their rims. */
function edge(from, to, radius, bends) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const bend = bends(length);
  // Outwards: the ring turns to the right.
  const control = { x: (from.x + to.x) / 2 + (dy / length) * bend, y: (from.y + to.y) / 2 - (dx / length) * bend };
  const rim = (node, more) => {
    const [x, y] = [control.x - node.x, control.y - node.y];
    const far = (radius + more) / (Math.hypot(x, y) || 1);
    return { x: node.x + x * far, y: node.y + y * far };
  };
  const [a, b] = [rim(from, 4), rim(to, 7)];
  const round = (value) => value.toFixed(1);
  return {
    path: `M${round(a.x)} ${round(a.y)}Q${round(control.x)} ${round(control.y)} ${round(b.x)} ${round(b.y)}`,
    // Beside the way: words are wider than they are high.
    middle: {
      x: (a.x + 2 * control.x + b.x) / 4 + (36 * dy) / length,
      y: (a.y + 2 * control.y + b.y) / 4 - (14 * dx) / length,
    },
  };
}

/** What travels from stage to stage while tokens are made. */
function pulse(path, at, count) {
  const each = 0.5;
  const common = { dur: `${each * count}s`, begin: "0s", repeatCount: "indefinite" };
  // Before its turn it waits at the beginning, after it at the end, and is not seen.
  const [begin, end] = [at / count, (at + 1) / count];
  const [first, last] = [at === 0, at === count - 1];
  return svg("circle", { r: 3.5, class: "pulse" },
    svg("animateMotion", {
      ...common, path, calcMode: "linear",
      keyPoints: [0, ...(first ? [] : [0]), 1, ...(last ? [] : [1])].join(";"),
      keyTimes: [0, ...(first ? [] : [begin]), end, ...(last ? [] : [1])].join(";"),
    }),
    svg("animate", {
      ...common, attributeName: "opacity", calcMode: "discrete",
      values: [...(first ? [] : [0]), 1, ...(last ? [] : [0])].join(";"),
      keyTimes: [0, ...(first ? [] : [begin]), ...(last ? [] : [end])].join(";"),
    }));
}

/** How far it is between two nodes, where this node measured it. */
function label(known, from, to, at) {
  const [a, b] = [known.get(from.node_id), known.get(to.node_id)];
  const far = a?.here ? b : b?.here ? a : null;
  const words = [far?.round_trip, far?.bandwidth].filter(Boolean);
  const first = at.y + 4 - 7 * (words.length - 1);
  return words.map((text, line) => svg("text", { x: at.x, y: first + 14 * line, class: "link", text }));
}

function node(stage, { x, y }, radius, facts, letters = LETTERS) {
  const group = svg("g", { class: "node" });
  const name = stage.node_id;
  const here = facts?.here ? ", this node" : "";
  group.append(svg("title", { text: `${name}${here}${layers(stage)}. ${facts?.engine ?? ""} ${facts?.memory ?? ""}` }));
  group.append(svg("circle", { cx: x, cy: y, r: radius, class: "disc" }));
  const has = typeof stage.start === "number" && stage.layers > 0;
  if (has) group.append(share(stage, x, y, radius));
  if (facts?.here) group.append(svg("circle", { cx: x, cy: y, r: radius + 4, class: "here" }));
  if (has && radius > 15) {
    const range = stage.start === stage.end ? String(stage.start) : `${stage.start}–${stage.end}`;
    group.append(svg("text", { x, y: y + 4.5, class: "range", text: range }));
  }
  if (radius > 15 || letters < LETTERS) {
    const text = letters < LETTERS && name.length > letters + 5 ? `${name.slice(0, letters + 4)}…` : short(name);
    group.append(svg("text", { x, y: y + radius + 17, class: "name", text }));
  }
  return group;
}

/** The part of the model's layers that a node has, as a part of its rim. */
function share(stage, x, y, radius) {
  const rim = 2 * Math.PI * (radius - 3.5);
  const part = (stage.end - stage.start + 1) / stage.layers;
  return svg("circle", {
    cx: x, cy: y, r: radius - 3.5, class: "share", transform: `rotate(-90 ${x} ${y})`,
    "stroke-dasharray": `${rim * part} ${rim}`, "stroke-dashoffset": (-rim * stage.start) / stage.layers,
  });
}

const STATES = { down: "not reached", idle: "idle", busy: "at work", computing: "computing" };

function row(node) {
  const fact = (name, text) => (text ? [el("dt", { text: name }), el("dd", { text })] : []);
  return el("li", { class: `row-node ${node.state}` },
    el("div", { class: "row-head" }, el("span", { class: "dot", "aria-hidden": "true" }),
      el("span", { class: "row-name", text: node.node_id, title: node.node_id }),
      node.here ? el("span", { class: "tag", text: "here" }) : null,
      el("span", { class: "row-state", text: STATES[node.state] ?? "" })),
    el("dl", {}, fact("layers", node.layers), fact("engine", node.engine), fact("memory", node.memory),
      fact("round trip", node.round_trip), fact("bandwidth", node.bandwidth)));
}

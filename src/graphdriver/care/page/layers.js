"use strict";
// Everything that is shown is set as text, never as HTML: the names come from images of strangers.

const data = JSON.parse(document.getElementById("data").textContent);
const layers = data.layers;
const byId = (id) => document.getElementById(id);

const ROWS = [34, 54]; // the least and the greatest height of a row
const MIN_WIDTH = 1.5;
const SEEN_WIDTH = 12; // of a layer that a search or a link leads to
const ABOVE_SHOWN = 3; // of the layers that a zoomed one stands on
const SPREAD = 0.15; // the part of the width that all layers share evenly, so that small ones can be seen
const ROWS_AT_ONCE = 500;
const PATHS_AT_ONCE = 200;
const KINDS = [["changed", "~", "Changed"], ["added", "+", "Added"], ["deleted", "−", "Deleted"]];
const GROUPS = [
  ["image", "Images"], ["container", "Containers"], ["cache", "Build cache"], ["snapshot", "Snapshots"],
  ["nobody", "Needed by nothing"], ["unknown", "Owner unknown"],
];
const STATES = [["mounted", "Mounted"], ["unfinished", "Unfinished"], ["damaged", "Damaged"]];

// --- the data ---------------------------------------------------------------------------------------

function groupOf(layer) {
  if (layer.owners === null) return "unknown";
  const kinds = new Set(layer.owners.map(([kind]) => data.kinds[kind]));
  if (kinds.has("image")) return "image";
  if (kinds.has("container")) return "container";
  if (kinds.has("build cache")) return "cache";
  return kinds.has("snapshot") ? "snapshot" : "nobody";
}

// The first of an image's names is better than its digest.
function names(owners) {
  const all = owners.map(([, , name]) => (/^sha256:[0-9a-f]{64}$/.test(name) ? name.slice(0, 19) : name));
  const first = [...all.filter((name) => !name.startsWith("sha256:")), ...all][0];
  return all.length > 1 ? `${first} +${all.length - 1}` : first;
}

layers.forEach((layer, number) => {
  layer.number = number;
  layer.children = [];
  layer.depth = 0;
  // Nobody has counted a layer that is still written to; its files are known all the same.
  layer.isCounted = layer.own !== null;
  const [paths, size] = [0, 1].map((at) => layer.totals.reduce((sum, total) => sum + total[at], 0));
  if (!layer.isCounted && !layer.problem && (size || !paths)) layer.own = size;
  layer.total = layer.own ?? 0;
  layer.count = 1;
  layer.group = groupOf(layer);
  layer.damaged = layer.damage !== "";
});
for (const layer of layers) { // parents come before their children
  if (layer.parent === null) continue;
  const parent = layers[layer.parent];
  parent.children.push(layer.number);
  layer.depth = parent.depth + 1;
  layer.below = parent.own === null || parent.below === null ? null : parent.own + parent.below;
}
for (const layer of layers) {
  // An image or a container is named at its topmost layer.
  const key = ([kind, id]) => `${kind} ${id}`;
  const owners = (layer.owners ?? []).sort((one, other) => one[0] - other[0]); // images first
  const higher = new Set(layer.children.flatMap((child) => (layers[child].owners ?? []).map(key)));
  const topmost = owners.filter((owner) => !higher.has(key(owner)));
  layer.isTop = topmost.length > 0 || !owners.length;
  layer.label = topmost.length ? names(topmost) : owners.length ? `in ${names(owners)}` : short(layer.id);
}
for (const layer of [...layers].reverse()) {
  if (layer.parent !== null) {
    layers[layer.parent].total += layer.total;
    layers[layer.parent].count += layer.count;
  }
}
for (const layer of layers) layer.children.sort((one, other) => layers[other].total - layers[one].total);
const roots = layers.filter((layer) => layer.parent === null)
  .sort((one, other) => other.total - one.total).map((layer) => layer.number);

const state = {
  chosen: null, zoomed: null, view: "graph", filters: new Set(), query: "", matches: null,
  sort: ["own", -1], rows: ROWS_AT_ONCE, kind: null, paths: PATHS_AT_ONCE, pathQuery: "",
};

// --- how things are written -------------------------------------------------------------------------

function short(id) {
  return /^[0-9a-f]{32,}/.test(id) ? id.slice(0, 12) : id;
}

function brief(label) {
  return label.includes("/") && label.includes(":") ? label.slice(label.lastIndexOf("/") + 1) : label;
}

function bytes(n) {
  if (n === null) return "unknown";
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let at = 0;
  while (n >= 999.5 && at < units.length - 1) { n /= 1000; at += 1; }
  return `${at && n < 99.95 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}

function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

function withOthers(layer) {
  return layer.count > 1 ? ` with ${count(layer.count - 1, "layer")} on it` : "";
}

function time(seconds) {
  return new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 16) + " UTC";
}

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function marked(text, query) {
  const at = query ? text.toLowerCase().indexOf(query) : -1;
  if (at < 0) return [text];
  const end = at + query.length;
  return [text.slice(0, at), element("mark", {}, text.slice(at, end)), text.slice(end)];
}

function dot(layer) {
  return element("span", { className: `dot ${layer.group}` });
}

function link(layer, ...shown) {
  const made = element("button", { type: "button", className: "link", title: layer.id },
    ...(shown.length ? shown : [layer.label]));
  made.addEventListener("click", () => choose(layer.number, { reveal: true }));
  return made;
}

// --- search and filters -----------------------------------------------------------------------------

function isShown(layer) {
  if (state.filters.size) {
    const groups = GROUPS.filter(([name]) => state.filters.has(name));
    if (groups.length && !state.filters.has(layer.group)) return false;
    if (STATES.some(([name]) => state.filters.has(name) && !layer[name])) return false;
  }
  return !state.matches || state.matches.has(layer.number);
}

function search() {
  const query = state.query;
  state.matches = null;
  if (query) {
    state.matches = new Set();
    for (const layer of layers) {
      const found = layer.id.toLowerCase().includes(query)
        || (layer.owners ?? []).some(([, id, name]) =>
          id.toLowerCase().includes(query) || name.toLowerCase().includes(query))
        || layer.changes.some(([, , path]) => path.toLowerCase().includes(query));
      if (found) state.matches.add(layer.number);
    }
  }
  byId("found").textContent = query ? count(state.matches.size, "layer") : "";
  for (const id of ["previous", "next"]) {
    byId(id).hidden = !query;
    byId(id).disabled = !state.matches?.size;
  }
}

function step(by) {
  const found = layers.filter(isShown).map((layer) => layer.number);
  if (!found.length) return;
  const at = found.indexOf(state.chosen);
  const next = at < 0 ? (by > 0 ? 0 : found.length - 1) : (at + by + found.length) % found.length;
  choose(found[next], { reveal: true });
}

function drawFilters() {
  const make = (name, title, members) => {
    const size = members.reduce((sum, layer) => sum + (layer.own ?? 0), 0);
    const made = element("button", { type: "button", "aria-pressed": String(state.filters.has(name)) },
      element("span", { className: `dot ${name}` }), element("span", {}, title),
      element("span", {}, `${members.length.toLocaleString("en")} · ${bytes(size)}`));
    made.dataset.filter = name;
    made.addEventListener("click", () => {
      if (!state.filters.delete(name)) state.filters.add(name);
      state.rows = ROWS_AT_ONCE;
      drawFilters();
      draw();
      document.querySelector(`[data-filter="${name}"]`).focus();
    });
    return made;
  };
  const groups = GROUPS.map(([name, title]) => [name, title, layers.filter((one) => one.group === name)]);
  const states = STATES.map(([name, title]) => [name, title, layers.filter((one) => one[name])]);
  byId("filters").replaceChildren(
    ...[...groups, ...states].filter(([, , members]) => members.length).map((one) => make(...one)));
}

// --- the graph --------------------------------------------------------------------------------------

function above(number) {
  const chain = [];
  for (let at = number; at !== null; at = layers[at].parent) chain.push(at);
  return chain;
}

function placed(width) {
  // Layers stand below their parents. Each is as wide as all bytes of it and of the layers on it; the
  // first part of it is its own.
  const shown = state.zoomed === null ? roots : [state.zoomed];
  const size = shown.reduce((sum, number) => sum + layers[number].total, 0);
  const many = shown.reduce((sum, number) => sum + layers[number].count, 0);
  const spread = size ? (size * SPREAD) / many : 1;
  const scale = width / (size + spread * many);
  const boxes = [];
  let small = 0;
  const path = state.zoomed === null ? [] : above(state.zoomed).slice(1, 1 + ABOVE_SHOWN).reverse();
  path.forEach((number, row) => boxes.push({ number, row, left: 0, width, own: 0 }));
  const waiting = [];
  let left = 0;
  for (const number of shown) {
    waiting.push([number, left, path.length]);
    left += (layers[number].total + spread * layers[number].count) * scale;
  }
  while (waiting.length) {
    const [number, start, row] = waiting.pop();
    const layer = layers[number];
    const wide = (layer.total + spread * layer.count) * scale;
    if (wide < MIN_WIDTH) { small += layer.count; continue; }
    const own = ((layer.own ?? 0) + spread) * scale;
    boxes.push({ number, row, left: start, width: wide, own: own / wide });
    let next = start + own;
    for (const child of layer.children) {
      waiting.push([child, next, row + 1]);
      next += (layers[child].total + spread * layers[child].count) * scale;
    }
  }
  return { boxes, small };
}

function drawGraph() {
  const graph = byId("graph");
  const { clientWidth, clientHeight } = byId("graph-view");
  const { boxes, small } = placed(clientWidth - 24);
  const depth = Math.max(1, ...boxes.map((box) => box.row + 1));
  const height = Math.max(ROWS[0], Math.min(ROWS[1], Math.floor((clientHeight - 24) / depth)));
  const chain = new Set(state.chosen === null ? [] : above(state.chosen));
  const reached = boxes.some((box) => box.number === state.chosen) ? state.chosen : boxes[0]?.number;
  const hadFocus = graph.contains(document.activeElement);
  boxes.sort((one, other) => one.number - other.number);
  graph.replaceChildren(...boxes.map((box) => {
    const layer = layers[box.number];
    const name = layer.isTop ? brief(layer.label) : "";
    const node = element("div", {
      className: `node ${layer.group}`, role: "treeitem", tabIndex: box.number === reached ? 0 : -1,
      title: `${layer.label}\n${layer.id}\n${bytes(layer.own)} of its own${layer.count > 1 ? `, ${bytes(layer.total)}${withOthers(layer)}` : ""}`,
      "aria-selected": String(box.number === state.chosen), "aria-level": String(box.row + 1),
      "aria-label": `${layer.label}, ${bytes(layer.own)}`,
    });
    node.dataset.number = box.number;
    node.classList.toggle("thin", box.width < 6);
    node.classList.toggle("narrow", box.width < 14);
    node.classList.toggle("above", chain.has(box.number) && box.number !== state.chosen);
    node.classList.toggle("unfinished-state", layer.unfinished);
    node.classList.toggle("damaged-state", layer.damaged);
    node.classList.toggle("dim", !isShown(layer));
    Object.assign(node.style, {
      left: `${box.left}px`, top: `${box.row * height}px`, width: `${Math.max(box.width - 1, 1)}px`,
      height: `${height - 4}px`,
    });
    if (box.width >= 6) {
      const own = element("div", { className: "own" });
      own.style.width = `${100 * box.own}%`;
      node.append(own);
    }
    if (box.width > 44) {
      const label = element("div", { className: "label" }, ...(name ? [element("b", {}, name)] : []),
        ...(!name || box.width > 130 ? [element("i", {}, bytes(layer.own))] : []));
      label.style.lineHeight = `${height - 6}px`;
      node.append(label);
    }
    return node;
  }));
  graph.style.height = `${depth * height}px`;
  if (hadFocus) graph.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  byId("hint").textContent = [
    small ? `${count(small, "layer is", "layers are")} too small to draw here: zoom in, or see the list.` : "",
    "Width: bytes of a layer (dark) and of all layers on it. Arrow keys move, Enter zooms in, Escape zooms out.",
  ].filter(Boolean).join(" ");
}

function drawCrumbs() {
  const whole = element("button", { type: "button" }, "All layers");
  whole.addEventListener("click", () => zoom(null));
  if (state.zoomed === null) {
    const size = roots.reduce((sum, number) => sum + layers[number].total, 0);
    byId("crumbs").replaceChildren(element("b", {}, "All layers"), element("span", {}, bytes(size)));
  } else {
    const layer = layers[state.zoomed];
    byId("crumbs").replaceChildren(whole, element("span", {}, "›"), element("b", {}, layer.label),
      element("span", {}, bytes(layer.total) + withOthers(layer)));
  }
}

function zoom(number) {
  state.zoomed = number;
  draw();
}

function reveal(number) {
  if (state.zoomed !== null && !above(number).includes(state.zoomed)) state.zoomed = null;
  const isSeen = () => placed(byId("graph-view").clientWidth - 24).boxes
    .some((box) => box.number === number && box.width >= SEEN_WIDTH);
  if (!isSeen()) {
    for (const at of above(number).reverse()) {
      state.zoomed = at;
      if (isSeen()) break;
    }
  }
  drawGraph();
  drawCrumbs();
  byId("graph").querySelector(`[data-number="${number}"]`)?.scrollIntoView({ block: "nearest" });
}

function moved(key) {
  const layer = layers[state.chosen ?? roots[0]];
  const beside = layer.parent === null ? roots : layers[layer.parent].children;
  const at = beside.indexOf(layer.number);
  if (key === "ArrowDown") return layer.children[0];
  if (key === "ArrowUp") return layer.parent;
  if (key === "ArrowLeft") return beside[at - 1];
  if (key === "ArrowRight") return beside[at + 1];
  return undefined;
}

byId("graph").addEventListener("click", (event) => {
  const node = event.target.closest(".node");
  if (node) choose(Number(node.dataset.number));
});
byId("graph").addEventListener("dblclick", (event) => {
  const node = event.target.closest(".node");
  if (node) zoom(Number(node.dataset.number));
});
byId("graph").addEventListener("keydown", (event) => {
  if (event.key.startsWith("Arrow")) {
    event.preventDefault();
    const next = state.chosen === null ? roots[0] : moved(event.key);
    if (next !== undefined && next !== null) choose(next, { reveal: true, focus: true });
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    const number = Number(event.target.dataset.number);
    if (state.chosen === number && event.key === "Enter") zoom(number);
    else choose(number, { focus: true });
  } else if (event.key === "Escape" && state.zoomed !== null) {
    event.stopPropagation();
    zoom(layers[state.zoomed].parent);
  }
});

// --- the list ---------------------------------------------------------------------------------------

const COLUMNS = [
  ["label", "Belongs to", (layer) => layer.label, "wide"],
  ["id", "Layer", (layer) => short(layer.id), "mono"],
  ["own", "Own", (layer) => bytes(layer.own), "right"],
  ["below", "Below", (layer) => bytes(layer.below), "right"],
  ["inodes", "Files", (layer) => layer.inodes?.toLocaleString("en") ?? "", "right"],
  ["gets", "Gets", (layer) => layer.gets?.toLocaleString("en") ?? "", "right"],
  ["created", "Made", (layer) => (layer.created === null ? "" : time(layer.created)), ""],
];

function drawList() {
  const [by, direction] = state.sort;
  byId("columns").replaceChildren(...COLUMNS.map(([name, title, , look]) => {
    const button = element("button", { type: "button" },
      title + (name === by ? (direction < 0 ? " ↓" : " ↑") : ""));
    button.addEventListener("click", () => {
      state.sort = [name, name === by ? -direction : name === "label" || name === "id" ? 1 : -1];
      drawList();
      byId("columns").querySelectorAll("button")[COLUMNS.findIndex((one) => one[0] === name)].focus();
    });
    const heading = element("th", { className: look === "right" ? look : "", scope: "col" }, button);
    if (name === by) heading.setAttribute("aria-sort", direction < 0 ? "descending" : "ascending");
    return heading;
  }));
  const found = layers.filter(isShown).sort((one, other) => {
    const [a, b] = [one[by], other[by]];
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (a < b ? -1 : a > b ? 1 : 0);
  });
  byId("rows").replaceChildren(...found.slice(0, state.rows).map((layer) => {
    const row = element("tr", { tabIndex: 0, title: layer.id, "aria-selected": String(layer.number === state.chosen) },
      ...COLUMNS.map(([name, , value, look]) =>
        element("td", { className: look }, ...(name === "label" ? [dot(layer)] : []), value(layer))));
    row.dataset.number = layer.number;
    return row;
  }));
  byId("more-rows").hidden = found.length <= state.rows;
  byId("more-rows").textContent = `Show more: ${count(found.length - state.rows, "layer")} left`;
  byId("hint").textContent = `${count(found.length, "layer")}, ${
    bytes(found.reduce((sum, layer) => sum + (layer.own ?? 0), 0))}`;
}

byId("more-rows").addEventListener("click", () => { state.rows += ROWS_AT_ONCE; drawList(); });
byId("rows").addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row) choose(Number(row.dataset.number));
});
byId("rows").addEventListener("keydown", (event) => {
  const row = event.target.closest("tr");
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    const { number } = row.dataset;
    choose(Number(number));
    byId("rows").querySelector(`[data-number="${number}"]`)?.focus();
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    (event.key === "ArrowDown" ? row.nextElementSibling : row.previousElementSibling)?.focus();
  }
});

// --- the details ------------------------------------------------------------------------------------

function card(value, title) {
  return element("div", { className: "card" }, element("b", {}, value), element("span", {}, title));
}

function facts(pairs) {
  const list = element("dl");
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(element("dt", {}, name), element("dd", {}, ...[value].flat()));
  }
  return list;
}

function bars(rows) {
  const most = Math.max(1, ...rows.map(([, size]) => size));
  return element("ul", { className: "places" }, ...rows.map(([shown, size]) => {
    const bar = element("div");
    bar.style.width = `${(100 * size) / most}%`;
    return element("li", {}, shown, element("div", { className: "track" }, bar),
      element("span", { className: "right" }, bytes(size)));
  }));
}

function overview() {
  const owners = new Map(layers.flatMap((layer) => layer.owners ?? []).map((one) => [`${one[0]} ${one[1]}`, one]));
  const of = (kind) => [...owners.values()].filter((one) => data.kinds[one[0]] === kind).length;
  const size = layers.reduce((sum, layer) => sum + (layer.own ?? 0), 0);
  const largest = [...layers].filter((layer) => layer.own).sort((one, other) => other.own - one.own).slice(0, 12);
  const free = layers.filter((layer) => layer.group === "nobody").sort((one, other) => (other.own ?? 0) - (one.own ?? 0));
  const wrong = layers.filter((layer) => layer.damaged || layer.unfinished);
  const parts = [
    element("h2", {}, "This home"),
    element("p", { className: "caption" }, "Choose a layer to see what it is and what it changed."),
    element("div", { className: "cards" },
      card(bytes(size), "on disk"), card(layers.length.toLocaleString("en"), layers.length === 1 ? "layer" : "layers"),
      card(Math.max(0, ...layers.map((layer) => layer.depth + 1)).toLocaleString("en"), "layers in the longest chain"),
      card(of("image").toLocaleString("en"), "images"), card(of("container").toLocaleString("en"), "containers"),
      card(free.length.toLocaleString("en"), free.length
        ? `needed by nothing, ${bytes(free.reduce((sum, one) => sum + (one.own ?? 0), 0))}` : "needed by nothing")),
  ];
  if (wrong.length) {
    parts.push(element("h3", {}, "Needs attention"), element("ul", { className: "owners" }, ...wrong.slice(0, 50).map((layer) =>
      element("li", {}, link(layer), element("small", {}, layer.damage || "unfinished")))));
  }
  parts.push(element("h3", {}, "Largest layers"), bars(largest.map((layer) => [link(layer), layer.own])));
  if (free.length) {
    parts.push(element("h3", {}, "Needed by nothing"), bars(free.slice(0, 12).map((layer) => [link(layer), layer.own ?? 0])));
  }
  return parts;
}

function detailsOf(layer) {
  const parts = [
    element("h2", {}, dot(layer), layer.label),
    element("p", { className: "id mono" }, layer.id),
  ];
  if (layer.damage) parts.push(element("p", { className: "state damaged" }, `Damaged: ${layer.damage}.`));
  if (layer.unfinished) {
    parts.push(element("p", { className: "state unfinished" },
      "Unfinished: its transfer did not end. The layer cannot be used, only removed."));
  }
  parts.push(element("div", { className: "cards" },
    card(bytes(layer.own), layer.isCounted ? "its own" : "its own, by its files"), card(bytes(layer.below), "in the layers below"),
    card(layer.inodes?.toLocaleString("en") ?? "unknown", "files and directories")));
  const parent = layer.parent === null
    ? (layer.parentId === null ? "unknown" : layer.parentId && `${layer.parentId} (gone)`) : link(layers[layer.parent]);
  parts.push(facts([
    ["Made", layer.created === null ? null : time(layer.created)],
    ["Applied", layer.applied === null ? null : time(layer.applied)],
    ["Gets", layer.gets === null ? null : layer.gets.toLocaleString("en")
      + (layer.lastGet === null ? "" : `, the last ${time(layer.lastGet)}${layer.gotBy ? ` by ${layer.gotBy}` : ""}`)],
    ["Mounted", layer.mounted === null ? null
      : (layer.mounted ? "yes" : "no") + (layer.references ? `, ${count(layer.references, "Get")} without a Put` : "")],
    ["Parent", parent],
    ["Directory", layer.path && element("code", {}, layer.path)],
  ]));

  const chain = above(layer.number).reverse();
  if (chain.length > 1) {
    const sum = chain.reduce((all, number) => all + (layers[number].own ?? 0), 0);
    const bar = element("div", { className: "chain" }, ...chain.map((number) => {
      const one = layers[number];
      const part = element("button", { type: "button", className: one.group, title: `${one.label}\n${bytes(one.own)}`,
        "aria-label": `${one.label}, ${bytes(one.own)}` });
      part.setAttribute("aria-current", String(number === layer.number));
      part.style.flex = `${sum ? (one.own ?? 0) / sum : 1} 1 0`;
      part.addEventListener("click", () => choose(number, { reveal: true }));
      return part;
    }));
    parts.push(element("h3", {}, "Its chain"), bar, element("p", { className: "caption" },
      `${count(chain.length, "layer")}, ${bytes(sum)}; the lowest on the left.`));
  }
  if (layer.children.length) {
    const on = layer.children.slice(0, 10).map((number) => [link(layers[number]), layers[number].total]);
    parts.push(element("h3", {}, `${count(layer.children.length, "layer")} on it`), bars(on));
    if (layer.children.length > on.length) {
      parts.push(element("p", { className: "caption" }, `and ${count(layer.children.length - on.length, "smaller one")}`));
    }
  }
  parts.push(element("h3", {}, "Needed by"));
  if (layer.owners === null) parts.push(element("p", { className: "empty" }, "Unknown: the engine's records were not read."));
  else if (!layer.owners.length) parts.push(element("p", { className: "empty" }, "Nothing in the engine's records."));
  else {
    parts.push(element("ul", { className: "owners" }, ...layer.owners.slice(0, 50).map(([kind, id, name]) =>
      element("li", { title: id }, element("small", {}, data.kinds[kind]), element("span", {}, ...marked(name, state.query))))));
    if (layer.owners.length > 50) parts.push(element("p", { className: "caption" }, `and ${count(layer.owners.length - 50, "other")}`));
  }
  parts.push(element("h3", {}, "What it changed"), element("div", { className: "paths", id: "changes" }));
  return parts;
}

function drawDetails() {
  const layer = state.chosen === null ? null : layers[state.chosen];
  byId("details").replaceChildren(...(layer ? detailsOf(layer) : overview()));
  byId("details").scrollTop = 0;
  if (layer) drawChanges(layer);
}

function places(changes) {
  // The directories that the bytes are in: a directory that holds nearly all is opened.
  const sums = new Map();
  for (const [, size, path] of changes) {
    const names = path.split("/");
    for (let deep = 1; deep <= Math.min(3, names.length - 2); deep += 1) {
      const key = names.slice(0, deep + 1).join("/") + "/";
      sums.set(key, (sums.get(key) ?? 0) + size);
    }
  }
  const all = [...sums].filter(([, size]) => size > 0).sort((one, other) => other[1] - one[1]);
  const isOpened = ([path, size]) => all.some(([other, inner]) => other !== path && other.startsWith(path) && inner > 0.8 * size);
  const chosen = [];
  for (const one of all) {
    if (chosen.length === 6) break;
    if (!isOpened(one) && !chosen.some(([path]) => one[0].startsWith(path))) chosen.push(one);
  }
  return chosen;
}

function drawChanges(layer) {
  const box = byId("changes");
  if (layer.problem) {
    box.replaceChildren(element("p", { className: "empty" }, `Unknown: ${layer.problem}.`));
    return;
  }
  const sums = layer.totals.map(([paths, size], kind) => [KINDS[kind], paths, size, kind]);
  const order = [sums[1], sums[0], sums[2]];
  if (order.every(([, paths]) => !paths)) {
    box.replaceChildren(element("p", { className: "empty" }, "Nothing."));
    return;
  }
  const kinds = element("div", { className: "kinds", role: "group", "aria-label": "Kinds of changes" },
    ...order.map(([[, sign, title], paths, size, kind]) => {
      const made = element("button", { type: "button", disabled: !paths, "aria-pressed": String(state.kind === kind) },
        `${sign} ${title} ${paths.toLocaleString("en")}${size ? ` · ${bytes(size)}` : ""}`);
      made.dataset.kind = kind;
      made.addEventListener("click", () => {
        state.kind = state.kind === kind ? null : kind;
        state.paths = PATHS_AT_ONCE;
        drawChanges(layer);
        box.querySelector(`[data-kind="${kind}"]`).focus();
      });
      return made;
    }));
  const hasSizes = layer.totals.some(([, size]) => size); // a plugin that was asked tells none
  const where = places(layer.changes);
  const filter = element("input", { type: "search", id: "path-query", placeholder: "Only paths that contain …",
    value: state.pathQuery, "aria-label": "Only paths that contain", spellcheck: false, autocomplete: "off" });
  const list = element("ul", { id: "path-list" });
  const more = element("button", { type: "button", className: "more" });
  const left = element("p", { className: "caption" });
  const fill = () => {
    const query = state.pathQuery.toLowerCase();
    const found = layer.changes.filter(([kind, , path]) =>
      (state.kind === null || state.kind === kind) && (!query || path.toLowerCase().includes(query)));
    list.replaceChildren(...found.slice(0, state.paths).map(([kind, size, path]) => {
      const [name, sign, title] = KINDS[kind];
      return element("li", { className: `path ${name}` },
        element("span", { className: "sign", title, role: "img", "aria-label": title }, sign),
        element("code", {}, ...marked(path, query)),
        element("span", { className: "right" },
          path.endsWith("/") || kind === 2 || !hasSizes ? "" : bytes(size)));
    }));
    more.hidden = found.length <= state.paths;
    more.textContent = `Show more: ${count(found.length - state.paths, "path")} left`;
    left.textContent = [
      query || state.kind !== null ? `${count(found.length, "path")} found.` : "",
      layer.unlisted ? `${count(layer.unlisted, "smaller change was", "smaller changes were")} counted and not listed.` : "",
    ].join(" ");
  };
  filter.addEventListener("input", () => { state.pathQuery = filter.value; state.paths = PATHS_AT_ONCE; fill(); });
  more.addEventListener("click", () => { state.paths += 5 * PATHS_AT_ONCE; fill(); });
  fill();
  box.replaceChildren(kinds, ...(where.length > 1 ? [bars(where.map(([path, size]) => {
    const shown = element("button", { type: "button", className: "link" }, element("code", {}, path));
    shown.addEventListener("click", () => { filter.value = state.pathQuery = path; state.paths = PATHS_AT_ONCE; fill(); });
    return [shown, size];
  }))] : []), filter, list, more, left);
}

// --- the page ---------------------------------------------------------------------------------------

// A search that found a path of a layer goes on in the layer's own list.
function foundIn(layer) {
  const { query } = state;
  return query && layer.changes.some(([, , path]) => path.toLowerCase().includes(query)) ? query : "";
}

function choose(number, { reveal: isRevealed = false, focus = false } = {}) {
  state.chosen = number;
  state.kind = null;
  state.paths = PATHS_AT_ONCE;
  const layer = number === null ? null : layers[number];
  state.pathQuery = layer ? foundIn(layer) : "";
  history.replaceState(null, "", layer ? `#${encodeURIComponent(layer.id)}` : "#");
  if (state.view === "graph" && isRevealed && layer) reveal(number);
  draw();
  drawDetails();
  if (focus) byId("graph").querySelector(`[data-number="${number}"]`)?.focus({ preventScroll: true });
  if (state.view === "list") byId("rows").querySelector("[aria-selected='true']")?.scrollIntoView({ block: "nearest" });
}

function draw() {
  if (state.view === "graph") drawGraph();
  else drawList();
  drawCrumbs();
}

function show(view) {
  state.view = view;
  byId("graph-view").hidden = view !== "graph";
  byId("list-view").hidden = view !== "list";
  byId("as-graph").setAttribute("aria-pressed", String(view === "graph"));
  byId("as-list").setAttribute("aria-pressed", String(view === "list"));
  draw();
}

byId("as-graph").addEventListener("click", () => show("graph"));
byId("as-list").addEventListener("click", () => show("list"));
byId("query").addEventListener("input", (event) => {
  state.query = event.target.value.trim().toLowerCase();
  state.rows = ROWS_AT_ONCE;
  search();
  draw();
  if (state.chosen !== null) {
    state.pathQuery = foundIn(layers[state.chosen]);
    drawChanges(layers[state.chosen]);
  }
});
byId("query").addEventListener("keydown", (event) => {
  if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
});
byId("next").addEventListener("click", () => step(1));
byId("previous").addEventListener("click", () => step(-1));
document.addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof HTMLInputElement;
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    byId("query").select();
    byId("query").focus();
  } else if (event.key === "Escape" && !isTyping && state.chosen !== null) {
    choose(null);
  }
});
window.addEventListener("resize", () => draw());
window.addEventListener("hashchange", openHash);

function openHash() {
  let id = "";
  try { id = decodeURIComponent(location.hash.slice(1)); } catch { /* not one of ours */ }
  const layer = layers.find((one) => one.id === id);
  if (layer && layer.number !== state.chosen) choose(layer.number, { reveal: true });
}

byId("home").textContent = data.home || "Layers of a running plugin";
byId("about").textContent = [
  data.driver && `driver ${data.driver}`, data.engine, `graphdriver ${data.version}`, `as of ${time(data.written)}`,
].filter(Boolean).join(" · ");
byId("notes").hidden = !data.notes.length;
byId("notes").append(...data.notes.map((note) => element("li", {}, note)));
drawFilters();
draw();
drawDetails();
openHash();

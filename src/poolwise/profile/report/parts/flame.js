// flame.js: the flame graph, callers on top. Only frames that are wide enough to be seen exist as
// elements; they are made anew at each zoom.

const ROW_PX = 18;
const LEAST_PX = 1.5;
const WHOSE = ["own", "library", "standard", "leaf"];
const WHOSE_TEXT = ["the program", "installed packages", "standard library", "what was allocated"];

const flame = {
  box: byId("flame-graph"),
  callers: data.flame.caller,
  totals: {},
  callees: [],
  sought: [],
  zoomed: 0,
  focused: 0,
  shown: new Map(),
};

flame.totals = Object.fromEntries(Object.entries(data.flame.self).map(([mode, own]) => {
  const totals = Float64Array.from(own);
  for (let frame = totals.length - 1; frame > 0; frame -= 1) totals[flame.callers[frame]] += totals[frame];
  return [mode, totals];
}));
flame.callers.forEach((caller, frame) => {
  flame.callees.push([]);
  if (frame) flame.callees[caller].push(frame);
  const [name, file] = data.flame.names[data.flame.name[frame]];
  flame.sought.push(`${name}\n${data.flame.files[file]}`.toLowerCase());
});

function frameName(frame) {
  const [name, file, line, whose] = data.flame.names[data.flame.name[frame]];
  return { name: frame ? name : "all", path: data.flame.files[file], line, whose };
}

function frameText(frame) {
  const { name, path, line, whose } = frameName(frame);
  if (frame === 0) return ["all", MODES[state.mode].text(flame.totals[state.mode][0])];
  if (name === "<module>") return [fileText(path), "module"];
  if (whose === 3) return [name, line ? `line ${line}` : ""];
  return [functionText(name), path && `${fileText(path)}:${line}`];
}

const flameDepth = (frame) => {
  let depth = 0;
  for (; frame; frame = flame.callers[frame]) depth += 1;
  return depth;
};

/** [frame, depth, left, width] of all that can be seen; left and width are shares of the box. */
function flameLayout(least) {
  const totals = flame.totals[state.mode];
  const placed = [];
  const above = [];
  for (let frame = flame.zoomed; frame; frame = flame.callers[frame]) above.unshift(flame.callers[frame]);
  above.forEach((frame, depth) => placed.push([frame, depth, 0, 1]));
  const todo = [[flame.zoomed, above.length, 0, 1]];
  while (todo.length) {
    const place = todo.pop();
    placed.push(place);
    const [frame, depth, left, width] = place;
    let at = left;
    const inside = flame.callees[frame].slice().sort((a, b) => totals[b] - totals[a]);
    for (const callee of inside) {
      const part = totals[frame] ? (width * totals[callee]) / totals[frame] : 0;
      if (part < least) break;
      todo.push([callee, depth + 1, at, part]);
      at += part;
    }
  }
  return placed;
}

function drawFlame() {
  const width = flame.box.clientWidth || 1200;
  const placed = flameLayout(LEAST_PX / width);
  const depths = Math.max(...placed.map(([, depth]) => depth)) + 1;
  const total = flame.totals[state.mode];
  flame.shown.clear();
  const above = new Set(placed.slice(0, flameDepth(flame.zoomed)).map(([frame]) => frame));
  const elements = placed.map(([frame, depth, left, part]) => {
    const [name, where] = frameText(frame);
    const { whose } = frameName(frame);
    const found = state.search && frame && matches(flame.sought[frame]);
    const element = el("div", {
      class: ["frame", frame ? WHOSE[whose] : "root", above.has(frame) && "above", found && "found"].filter(Boolean).join(" "),
      role: "treeitem",
      tabindex: -1,
      "aria-level": depth + 1,
      "aria-label": `${name}, ${MODES[state.mode].text(total[frame])}, ${shareText(total[0] ? total[frame] / total[0] : 0)} of all`,
      "data-frame": frame,
      style: {
        left: `${100 * left}%`, width: `${100 * part}%`, top: `${depth * ROW_PX}px`,
      },
    }, part * width > 24 ? el("span", { text: name }) : null,
    part * width > 160 && where ? el("small", { text: where }) : null);
    flame.shown.set(frame, element);
    return element;
  });
  flame.box.classList.toggle("searched", Boolean(state.search));
  flame.box.replaceChildren(el("div", { class: "rows", style: { height: `${depths * ROW_PX}px` } }, elements));
  if (total[0] === 0) flame.box.replaceChildren(el("p", { class: "empty", text: "Nothing was alive at the end." }));
  if (!flame.shown.has(flame.focused)) flame.focused = flame.zoomed;
  flame.shown.get(flame.focused)?.setAttribute("tabindex", "0");
  byId("zoom-out").disabled = flame.zoomed === 0;
}

function zoomFlame(frame) {
  flame.zoomed = frame;
  flame.focused = frame;
  hideTip();
  drawFlame();
}

function focusFrame(frame) {
  const next = flame.shown.get(frame);
  if (!next) return;
  flame.shown.get(flame.focused)?.setAttribute("tabindex", "-1");
  flame.focused = frame;
  next.setAttribute("tabindex", "0");
  next.focus();
}

/** The share of all that frames found by the search make up, each counted once. */
function foundShare() {
  const totals = flame.totals[state.mode];
  const inside = new Uint8Array(totals.length);
  let sum = 0;
  for (let frame = 1; frame < totals.length; frame += 1) {
    inside[frame] = inside[flame.callers[frame]];
    if (!inside[frame] && matches(flame.sought[frame])) {
      inside[frame] = 1;
      sum += totals[frame];
    }
  }
  return totals[0] ? sum / totals[0] : 0;
}

function tipOfFrame(element, x, y) {
  const frame = Number(element.dataset.frame);
  const { name, path, line, whose } = frameName(frame);
  const place = path ? `${path}${line ? `:${line}` : ""}` : "";
  const whole = (mode) => flame.totals[mode][0] || 1;
  showTip(x, y, name, frame ? `${place} (${WHOSE_TEXT[whose]})` : "", Object.entries(MODES).map(([mode, { label, text }]) => {
    const value = flame.totals[mode][frame];
    return [label, `${text(value)}  ${shareText(value / whole(mode))}`, mode === state.mode];
  }));
}

function flameKeys(event) {
  const frame = flame.focused;
  const caller = flame.callers[frame];
  const beside = [...flame.shown.keys()].filter((other) => other && flame.callers[other] === caller)
    .sort((a, b) => flame.totals[state.mode][b] - flame.totals[state.mode][a]);
  const below = [...flame.shown.keys()].filter((other) => other && flame.callers[other] === frame)
    .sort((a, b) => flame.totals[state.mode][b] - flame.totals[state.mode][a]);
  const at = beside.indexOf(frame);
  const steps = {
    ArrowUp: () => focusFrame(caller),
    ArrowDown: () => below.length && focusFrame(below[0]),
    ArrowLeft: () => at > 0 && focusFrame(beside[at - 1]),
    ArrowRight: () => at + 1 < beside.length && focusFrame(beside[at + 1]),
    Enter: () => { zoomFlame(frame); focusFrame(frame); },
    " ": () => { zoomFlame(frame); focusFrame(frame); },
    Escape: () => { zoomFlame(0); focusFrame(0); },
  };
  if (event.key in steps) {
    event.preventDefault();
    event.stopPropagation();
    steps[event.key]();
  }
}

function startFlame() {
  choice(byId("modes"), "mode", Object.entries(MODES).map(([mode, { label }]) => [mode, label]), state.mode,
    (mode) => change({ mode }));
  byId("flame-legend").append(...WHOSE.map((whose, at) => [el("i", { class: `key ${whose}` }), `${WHOSE_TEXT[at]} `]).flat());
  byId("zoom-out").addEventListener("click", () => zoomFlame(0));
  flame.box.addEventListener("click", (event) => {
    const frame = event.target.closest(".frame");
    if (frame) zoomFlame(Number(frame.dataset.frame));
  });
  flame.box.addEventListener("pointermove", (event) => {
    const frame = event.target.closest(".frame");
    if (frame) tipOfFrame(frame, event.clientX, event.clientY);
    else hideTip();
  });
  flame.box.addEventListener("pointerleave", hideTip);
  flame.box.addEventListener("keydown", flameKeys);
  flame.box.addEventListener("focusin", (event) => {
    if (!event.target.matches(".frame:focus-visible")) return;
    const { left, bottom } = event.target.getBoundingClientRect();
    tipOfFrame(event.target, left, bottom);
  });
  flame.box.addEventListener("focusout", hideTip);
  onChange(["mode", "search"], drawFlame);
  window.addEventListener("resize", drawFlame);
  drawFlame();
}

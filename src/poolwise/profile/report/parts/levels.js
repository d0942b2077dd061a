// levels.js: how much is alive over time: all sites stacked, then the largest each on its own.

const STACKED = 6;
const STRIPS = 12;
const level = { weight: "bytes" };
const seconds = data.summary.seconds;
const intervals = data.level.intervals;

const mean = (values) => values.reduce(add, 0) / (values.length || 1);
const heldSites = () => sites.filter((site) => site.isMemory && matches(site.sought))
  .map((site) => [site, mean(site.level[level.weight])])
  .filter(([, held]) => held > 0)
  .sort((a, b) => b[1] - a[1])
  .map(([site]) => site);

/** An area between two rows of values, in a box of `intervals` by 1. */
function areaPath(top, bottom, most) {
  const up = (values) => values.map((value, at) => `${at + 0.5} ${(1 - value / most).toFixed(4)}`);
  return `M${up(top).join("L")}L${up(bottom).reverse().join("L")}Z`;
}

/** Round marks from 0 to at most `most`: in steps of 1, 2 or 5, or of powers of two for bytes. */
function roundMarks(most, bytes) {
  let step;
  if (bytes) step = 2 ** Math.ceil(Math.log2(most / 4));
  else {
    const power = 10 ** Math.floor(Math.log10(most / 4));
    step = power * [1, 2, 5, 10].find((times) => power * times >= most / 4);
  }
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, at) => at * step);
}

function timeAxis() {
  const below = Array.from({ length: 8 }, (_, at) => [1, 2, 5].map((times) => times * 10 ** (at - 7))).flat();
  const steps = [...below, 10, 20, ...[1, 2, 5, 10, 20, 60, 120, 360, 720, 1440].map((minutes) => 60 * minutes)];
  const step = steps.find((each) => seconds / each <= 9) ?? seconds / 4;
  const marks = Array.from({ length: Math.floor(seconds / step) + 1 }, (_, at) => at * step);
  return el("div", { class: "axis" }, marks.filter((at) => at < 0.97 * seconds).map((at) => (
    el("span", { text: at ? roundText(timeText(at * 1e9)) : "0", style: { left: `${(100 * at) / seconds}%` } }))));
}

function drawLevels() {
  const { weight } = level;
  const { text } = WEIGHTS[weight];
  const all = data.level[weight];
  const most = Math.max(...all) * 1.02 || 1;
  const largest = heldSites();
  const stacked = largest.slice(0, STACKED);
  let bottom = new Array(intervals).fill(0);
  const areas = stacked.map((site, at) => {
    const top = bottom.map((value, number) => value + site.level[weight][number]);
    const path = svg("path", { class: `series-${at}`, d: areaPath(top, bottom, most) });
    bottom = top;
    return path;
  });
  const rest = svg("path", { class: "series-rest", d: areaPath(all, bottom.map((value, at) => Math.min(value, all[at])), most) });
  const marks = roundMarks(most, weight === "bytes");
  const plot = el("div", { class: "plot" },
    marks.map((mark) => el("div", { class: "mark", style: { bottom: `${(100 * mark) / most}%` } }, el("span", { text: text(mark) }))),
    svg("svg", { viewBox: `0 0 ${intervals} 1`, preserveAspectRatio: "none", role: "img",
      "aria-label": `All ${WEIGHTS[weight].label} alive over time: mean ${text(mean(all))}, at most ${text(Math.max(...all))}` }, areas, rest),
    el("div", { class: "cursor", hidden: true }));
  plot.addEventListener("pointermove", (event) => levelTip(event, plot, stacked));
  plot.addEventListener("pointerleave", () => { plot.querySelector(".cursor").hidden = true; hideTip(); });
  const entry = (className, name, where, values, site) => el("tr", {
    "data-site": site?.number, onclick: site ? () => change({ site: site.number }) : null },
  el("td", {}, el("i", { class: `key ${className}` })),
  el("th", { scope: "row" }, el("b", { text: name }), " ", el("small", { text: where })),
  el("td", { class: "number", text: text(mean(values)) }), el("td", { class: "number", text: text(Math.max(...values)) }));
  const others = all.map((value, at) => Math.max(0, value - bottom[at]));
  byId("level-chart").replaceChildren(el("div", { class: "level" }, el("div", {}, plot, timeAxis()),
    el("table", { class: "series" },
      el("thead", {}, el("tr", {}, el("th"), el("th", { text: "alive" }), el("th", { class: "number", text: "mean" }), el("th", { class: "number", text: "most" }))),
      el("tbody", {}, entry("series-all", "all", "", all),
        stacked.map((site, at) => entry(`series-${at}`, site.short, site.spot, site.level[weight], site)),
        entry("series-rest", "all others", "", others)))));
  byId("level-strips").replaceChildren(...largest.slice(0, STRIPS).map(levelStrip));
}

function levelStrip(site) {
  const values = site.level[level.weight];
  const most = Math.max(...values) || 1;
  return el("div", { class: "heat-row", "data-site": site.number, tabindex: 0, role: "button",
    "aria-label": `${site.function} ${site.where}: at most ${WEIGHTS[level.weight].text(most)} alive`,
    onclick: () => change({ site: site.number }),
    onkeydown: (event) => { if (event.key === "Enter") change({ site: site.number }); } },
  el("span", { class: "heat-name" }, siteLabel(site)),
  levelPicture(values, most),
  el("span", { class: "heat-sum", text: WEIGHTS[level.weight].text(most), title: "the most: the full height of this strip" }));
}

function levelPicture(values, most) {
  return svg("svg", { class: "strip", viewBox: `0 0 ${intervals} 1`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { d: areaPath(values, values.map(() => 0), most) }));
}

function levelTip(event, plot, stacked) {
  const { left, width } = plot.getBoundingClientRect();
  const at = Math.min(intervals - 1, Math.max(0, Math.floor(((event.clientX - left) / width) * intervals)));
  const cursor = plot.querySelector(".cursor");
  cursor.hidden = false;
  cursor.style.left = `${(100 * (at + 0.5)) / intervals}%`;
  const { text } = WEIGHTS[level.weight];
  const from = (1e9 * seconds * at) / intervals;
  showTip(event.clientX, event.clientY, `at ${timeText(from)}`, `mean over ${timeText((1e9 * seconds) / intervals)}`, [
    ["all", text(data.level[level.weight][at]), true],
    ...stacked.map((site) => [`${site.short} ${site.spot}`, text(site.level[level.weight][at])]),
  ]);
}

function startLevels() {
  byId("alive-lead").textContent = `What is alive, as the mean over each ${timeText((1e9 * seconds) / intervals)}. Above, the sites that hold most on top of each other; below, each on a scale of its own.`;
  const weights = Object.entries(WEIGHTS).map(([weight, { label }]) => [weight, label]).reverse();
  choice(byId("level-weights"), "level-weight", weights, level.weight, (weight) => { level.weight = weight; drawLevels(); });
  onChange(["search"], drawLevels);
  drawLevels();
}

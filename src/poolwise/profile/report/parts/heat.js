// heat.js: site by lifetime; the darker a cell, the more of the site's weight lies in it.

const HEAT_ROWS = 30;
const heat = { weight: "objects", scale: "site" };

function drawHeat() {
  const range = cellRange(state.clock);
  const [first, last] = range;
  const columns = last - first + 1;
  const rows = sitesInOrder().filter((site) => site.life[state.clock][heat.weight]).slice(0, HEAT_ROWS);
  const sums = rows.map((site) => site.life[state.clock][heat.weight]);
  const largest = Math.max(0, ...sums.flat(2));
  const ticks = cellTicks(state.clock, first, last).map(([cell]) => `M${cell - first} 0V1`).join("");
  const elements = rows.map((site, row) => {
    const [ended, alive] = sums[row];
    const most = heat.scale === "site" ? Math.max(...ended, ...alive) : largest;
    const whole = [...ended, ...alive].reduce(add, 0) || 1;
    const cellsOf = (values, kind) => values.map((value, at) => value > 0 && svg("rect", {
      class: `cell ${kind}`,
      x: site.life[state.clock].first - first + at + (kind === "alive" ? 0.2 : 0),
      y: kind === "alive" ? 0.3 : 0,
      width: kind === "alive" ? 0.6 : 1,
      height: kind === "alive" ? 0.4 : 1,
      "fill-opacity": (kind === "alive" ? 0.4 + 0.6 * Math.sqrt(value / most) : 0.08 + 0.92 * Math.sqrt(value / most)).toFixed(3),
      "data-cell": site.life[state.clock].first + at,
      "data-value": value,
      "data-share": value / whole,
    })).filter(Boolean);
    return el("div", {
      class: `heat-row${state.site === site.number ? " chosen" : ""}${site.samples < data.few ? " few" : ""}`,
      tabindex: 0,
      role: "button",
      "data-site": site.number,
      "aria-label": `${site.function} ${site.where}: ${CLOCKS[state.clock].of}, ${quantilesText(site, state.clock)}`,
      onclick: () => change({ site: site.number }),
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          change({ site: site.number });
        }
      },
    },
    el("span", { class: "heat-name" }, siteLabel(site)),
    svg("svg", { viewBox: `0 0 ${columns} 1`, preserveAspectRatio: "none" }, svg("path", { class: "ticks", d: ticks }), cellsOf(ended, "ended"), cellsOf(alive, "alive")),
    el("span", { class: "heat-sum", text: WEIGHTS[heat.weight].text(whole) }));
  });
  byId("heat-map").replaceChildren(...(rows.length
    ? [el("div", { class: "heat" }, elements, el("div", { class: "heat-row axis-row" }, el("span", { class: "heat-name", text: CLOCKS[state.clock].of }), axis(state.clock, range, 60, 860)))]
    : [el("p", { class: "empty", text: "No site matches the search." })]));
}

function heatTip(event) {
  const cell = event.target.closest(".cell");
  if (!cell) {
    hideTip();
    return;
  }
  const site = sites[cell.closest("[data-site]").dataset.site];
  const { cell: number, value, share } = cell.dataset;
  showTip(event.clientX, event.clientY, `${site.function}  ${site.where}`, site.expression, [
    [cell.classList.contains("alive") ? "still alive, has lived" : CLOCKS[state.clock].of, cellText(state.clock, Number(number))],
    [WEIGHTS[heat.weight].label, `${WEIGHTS[heat.weight].text(Number(value))}  ${shareText(Number(share))} of the site's`],
  ]);
}

function startHeat() {
  const weights = Object.entries(WEIGHTS).map(([weight, { label }]) => [weight, label]);
  choice(byId("heat-weights"), "heat-weight", weights, heat.weight, (weight) => { heat.weight = weight; drawHeat(); });
  choice(byId("heat-scales"), "heat-scale", [["site", "of each site"], ["all", "of all"]], heat.scale,
    (scale) => { heat.scale = scale; drawHeat(); });
  byId("heat-legend").append(
    el("span", { text: "few" }), el("i", { class: "ramp" }), el("span", { text: "many" }),
    el("i", { class: "key alive" }), el("span", { text: "still alive at the end" }));
  byId("heat-map").addEventListener("pointermove", heatTip);
  byId("heat-map").addEventListener("pointerleave", hideTip);
  onChange(["search", "clock", "sort", "falling", "site"], drawHeat);
  drawHeat();
}

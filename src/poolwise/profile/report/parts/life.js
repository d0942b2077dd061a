// life.js: pictures of one site's lifetimes, on cells that all sites share.

/** The heights of cells as one path of steps, in a box of 1 by 1; `below` is what they stand on. */
function stepsPath(heights, below, columns) {
  let [up, down] = ["", ""];
  heights.forEach((height, at) => {
    if (!height) return;
    const base = 1 - (below ? below[at] : 0);
    const [left, right] = [at / columns, (at + 1) / columns];
    up += `M${left.toFixed(4)} ${base.toFixed(4)}V${(base - height).toFixed(4)}H${right.toFixed(4)}V${base.toFixed(4)}Z`;
  });
  return up + down;
}

/** A site on one line: function, place, source. */
function siteLabel(site) {
  return [el("b", { text: site.short }), el("small", { text: `${site.spot} ${site.expression}` })];
}

/** The distribution on a clock: what ended, and on it what is still alive. */
function distribution(site, clock, weight, [first, last]) {
  const life = site.life[clock];
  const [ended, alive] = life[weight] ?? life.objects;
  const columns = last - first + 1;
  const most = Math.max(...ended.map((value, at) => value + alive[at])) || 1;
  const spread = (values) => {
    const all = new Array(columns).fill(0);
    values.forEach((value, at) => { all[life.first - first + at] = value / most; });
    return all;
  };
  const bottom = spread(ended);
  return svg("svg", { class: "distribution", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "ended", d: stepsPath(bottom, null, columns) }),
    svg("path", { class: "alive", d: stepsPath(spread(alive), bottom, columns) }));
}

/** The marks of a clock's axis, over the cells from first to last. */
function axis(clock, [first, last], least = 46, width = 1000) {
  const columns = last - first + 1;
  let before = -Infinity;
  const ticks = cellTicks(clock, first, last).filter(([cell]) => {
    const at = ((cell - first) / columns) * width;
    if (at - before < least || at > width - 10) return false;
    before = at;
    return true;
  });
  return el("div", { class: "axis" }, ticks.map(([cell, text]) => (
    el("span", { text, style: { left: `${(100 * (cell - first)) / columns}%` } }))));
}

/** Median with the span of the middle 80 in 100, as a sentence. */
function quantilesText(site, clock) {
  const { unit } = CLOCKS[clock];
  const [low, middle, high] = site.life[clock].quantiles.map((q) => (q === null ? null : unit(q)));
  if (middle === null) return "half are still alive";
  return `median ${middle}, 10 % below ${low}, ${high === null ? "more than 10 % still alive" : `90 % below ${high}`}`;
}

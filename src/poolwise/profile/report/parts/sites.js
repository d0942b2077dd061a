// sites.js: the table of sites.

const FIRST_ROWS = 20;
const SPARK_PX = 170;
let allRows = false;

const medianText = (site, clock) => {
  const median = site.life[clock].quantiles[1];
  return median === null ? "alive" : CLOCKS[clock].unit(median);
};

// [key, heading, explanation, what stands in a row, whether a bar shows its share of the largest].
const COLUMNS = [
  ["bytes", "Allocated", "Bytes allocated here, estimated", (s) => (s.isMemory ? bytesText(s.bytes) : "–"), true],
  ["objects", "Objects", "How many allocations, estimated", (s) => countText(s.objects), true],
  ["heaptime", "Heaptime", "Bytes times the seconds they are held", (s) => (s.isMemory ? MODES.heaptime.text(s.heaptime) : "–"), true],
  ["alive_bytes", "At end", "Bytes still alive at the end", (s) => (s.isMemory ? bytesText(s.alive_bytes) : "–"), true],
  ["spark", "Lifetime", "How long they live: one logarithmic scale for all rows"],
  ["ns", "Time", "Median lifetime", (s) => medianText(s, "ns")],
  ["volume", "Bytes", "Median of the bytes that the program allocated meanwhile", (s) => medianText(s, "volume")],
  ["collections", "GCs", "Median of the garbage collections survived", (s) => medianText(s, "collections")],
  ["same_thread", "Same thread", "Share that is freed by the thread that made it", (s) => shareText(s.same_thread)],
  ["at_once", "At once", "How many are alive at once, at 99 of 100 births", (s) => countText(s.at_once)],
  ["censored", "Alive", "Share that is still alive at the end (censored)", (s) => shareText(s.censored)],
];

function drawSites() {
  const shown = sitesInOrder();
  const rows = allRows || state.search ? shown : shown.slice(0, FIRST_ROWS);
  const range = cellRange(state.clock);
  const most = Object.fromEntries(COLUMNS.filter((column) => column[4])
    .map(([key]) => [key, Math.max(...sites.map((site) => site[key])) || 1]));
  byId("site-table").replaceChildren(
    el("colgroup", {}, el("col"), COLUMNS.map(([key]) => el("col", { class: key }))),
    siteHead(range),
    el("tbody", {}, rows.length ? rows.map((site) => siteRow(site, range, most))
      : el("tr", {}, el("td", { class: "empty", colspan: COLUMNS.length + 1, text: "No site matches the search." }))),
    ...(state.search || rows.length < sites.length ? [] : otherSites()),
  );
  const more = byId("more-sites");
  more.hidden = shown.length <= FIRST_ROWS || Boolean(state.search);
  more.textContent = allRows ? `Show the first ${FIRST_ROWS}` : `Show all ${shown.length} sites`;
}

function siteHead(range) {
  const heading = (key, text, title, className) => {
    const sorted = state.sort === key;
    return el("th", { class: className, scope: "col", title, "aria-sort": sorted ? (state.falling ? "descending" : "ascending") : null },
      el("button", { type: "button", "data-sort": key, text, onclick: () => sortBy(key) }));
  };
  const columns = COLUMNS.map(([key, text, title]) => (key === "spark"
    ? el("th", { class: "spark", scope: "col", title }, el("span", { class: "unseen", text: CLOCKS[state.clock].of }), axis(state.clock, range, 40, SPARK_PX))
    : heading(key, text, title, "number")));
  const group = (span, text) => el("th", { colspan: span, scope: "colgroup", class: "group", text });
  return el("thead", {},
    el("tr", {}, el("td"), group(2, "volume"), group(2, "held"), group(4, "lifetime: distribution and three medians"), group(3, "behaviour")),
    el("tr", {}, heading("site", "Site", "Function, place, source, commonest type", "site"), columns));
}

function sortBy(key) {
  change(state.sort === key ? { falling: !state.falling } : { sort: key, falling: key !== "site" });
  byId("site-table").querySelector(`[data-sort="${key}"]`).focus();
}

function siteName(site) {
  return el("div", { class: "name" },
    el("div", {},
      el("b", { text: site.short, title: site.function }), " ",
      verdictOn(site) ? [verdictTag(verdictOn(site)), " "] : null,
      site.kind === "memory" ? null : [el("span", { class: "kind", text: site.kind }), " "],
      site.type ? el("span", { class: "type", text: site.type }) : null),
    el("div", { class: "path" }, el("span", { text: site.where }), " ", el("code", { text: site.expression })));
}

function siteRow(site, range, most) {
  const few = site.samples < data.few;
  return el("tr", {
    class: [few && "few", state.site === site.number && "chosen"].filter(Boolean).join(" ") || null,
    tabindex: 0,
    "data-site": site.number,
    "aria-selected": state.site === site.number,
    title: few ? `only ${site.samples} samples: a hint, no more` : null,
    onclick: () => change({ site: site.number }),
    onkeydown: rowKeys,
  },
  el("th", { class: "site", scope: "row" }, siteName(site)),
  COLUMNS.map(([key, , , text, bar]) => {
    if (key === "spark") return el("td", { class: "spark" }, distribution(site, state.clock, "objects", range));
    const share = bar ? site[key] / most[key] : 0;
    return el("td", { class: "number" }, el("span", { text: text(site) }),
      share > 0.004 ? el("i", { class: "share", style: { width: `${100 * share}%` } }) : null);
  }));
}

function rowKeys(event) {
  const row = event.currentTarget;
  const steps = {
    Enter: () => change({ site: Number(row.dataset.site) }),
    " ": () => change({ site: Number(row.dataset.site) }),
    ArrowDown: () => row.nextElementSibling?.focus(),
    ArrowUp: () => row.previousElementSibling?.focus(),
  };
  if (event.target === row && event.key in steps) {
    event.preventDefault();
    steps[event.key]();
  }
}

/** What does not have a row, so that the columns add up. */
function otherSites() {
  const others = data.other_sites;
  if (!others.sites) return [];
  return [el("tfoot", {}, el("tr", {},
    el("th", { class: "site", scope: "row", text: `${others.sites} smaller sites` }),
    COLUMNS.map(([key, , , text, bar]) => el("td", { class: "number", text: bar ? text({ ...others, isMemory: true }) : "" }))))];
}

function startSites() {
  byId("more-sites").addEventListener("click", () => {
    allRows = !allRows;
    drawSites();
  });
  onChange(["search", "clock", "sort", "falling"], drawSites);
  onChange(["site"], () => {
    for (const row of byId("site-table").querySelectorAll("[data-site]")) {
      const chosen = Number(row.dataset.site) === state.site;
      row.classList.toggle("chosen", chosen);
      row.setAttribute("aria-selected", chosen);
    }
  });
  drawSites();
}

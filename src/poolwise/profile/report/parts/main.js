// main.js: the head of the page, the search, and the start of every part.

function drawSummary() {
  const { summary, totals } = data;
  const rate = (value) => value / (summary.seconds || 1);
  const facts = [
    ["duration", timeText(1e9 * summary.seconds), `${timeText(1e9 * summary.cpu_seconds)} of CPU`],
    ["allocated", bytesText(totals.alloc_space), `${bytesText(rate(totals.alloc_space))}/s`],
    ["objects", countText(totals.alloc_objects), `${countText(rate(totals.alloc_objects))}/s`],
    ["alive at the end", bytesText(totals.inuse_space), `${countText(totals.inuse_objects)} objects`],
    ["mean alive", bytesText(rate(totals.heaptime)), "heaptime / duration"],
    ["peak RSS", bytesText(summary.peak_rss), `${countText(summary.page_faults)} page faults`],
    ["collections", countText(summary.collections.reduce(add, 0)),
      `${timeText(1e9 * summary.collection_seconds.reduce(add, 0))} in them`],
    ["samples", countText(summary.samples), `1 in ${countText(Math.max(1, totals.alloc_objects / (summary.samples || 1)))}`],
  ];
  byId("summary").append(...facts.map(([name, value, more]) => (
    el("div", {}, el("dt", { text: name }), el("dd", { text: value }), el("dd", { class: "more", text: more })))));
}

function drawNotes() {
  byId("note-list").append(...data.notes.map(({ title, text, lost }) => (
    el("li", { class: lost ? "lost" : null }, el("b", { text: title }), " ", text))));
}

function startSearch() {
  const input = byId("search");
  input.addEventListener("input", () => {
    change({ search: input.value.trim().toLowerCase() });
    const found = sites.filter((site) => matches(site.sought)).length;
    byId("found").textContent = state.search ? `${shareText(foundShare())} of the graph, ${found} of ${sites.length} sites` : "";
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== input && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      input.focus();
    }
  });
}

function startTheme() {
  const themes = ["system", "light", "dark"];
  let at = 0;
  byId("theme").addEventListener("click", () => {
    at = (at + 1) % themes.length;
    document.documentElement.dataset.theme = themes[at];
    byId("theme").textContent = `Theme: ${themes[at]}`;
  });
}

/** The two groups of buttons that choose the clock show one choice. */
function startClocks() {
  const groups = [...document.querySelectorAll(".clocks")];
  groups.forEach((group, at) => choice(group, `clock-${at}`, Object.entries(CLOCKS).map(([clock, { label }]) => [clock, label]),
    state.clock, (clock) => change({ clock })));
  onChange(["clock"], () => {
    for (const group of groups) group.querySelector(`[value="${state.clock}"]`).checked = true;
  });
}

byId("name").textContent = data.name;
drawSummary();
startSearch();
startTheme();
startClocks();
drawVerdicts();
startFlame();
startSites();
startHeat();
startLevels();
startDetail();
drawNotes();
onChange(["mode"], () => byId("search").dispatchEvent(new Event("input")));

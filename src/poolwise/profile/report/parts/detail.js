// detail.js: all that is known of the chosen site, at the foot of the window.

function drawDetail() {
  const box = byId("detail");
  box.hidden = state.site === null;
  document.body.classList.toggle("with-detail", state.site !== null);
  if (state.site === null) return;
  const site = sites[state.site];
  const verdict = verdictOn(site);
  const about = (half, text) => (half > 0 ? ` ± ${text(half)}` : "");
  const facts = [
    ["samples", countText(site.samples) + (site.samples < data.few ? " (few: a hint, no more)" : "")],
    ["objects", countText(site.objects) + about(site.objects_error, countText)],
    ...(site.isMemory ? [
      ["allocated", bytesText(site.bytes) + about(site.bytes_error, bytesText)],
      ["median size", bytesText(site.size)],
      ["alive at the end", `${bytesText(site.alive_bytes)} in ${countText(site.alive_objects)}`],
    ] : [["time of a call", timeText(site.call_ns)]]),
    ["alive at once", countText(site.at_once)],
    ["threads", countText(site.threads)],
    ["freed in its thread", shareText(site.same_thread)],
    ["freed by collector", shareText(site.collected)],
  ];
  box.replaceChildren(...[
    el("div", { class: "detail-head" },
      el("div", { class: "name" },
        el("div", {}, el("b", { text: site.function }), " ", el("span", { class: "path", text: `${site.file}:${site.line ?? "?"}` })),
        site.expression ? el("code", { text: site.expression }) : null,
        site.library ? el("span", { class: "path", text: ` allocates in ${site.library}` }) : null),
      el("button", { type: "button", text: "Close", "aria-keyshortcuts": "Escape", onclick: closeDetail })),
    verdict ? el("p", { class: "detail-verdict" }, verdictTag(verdict), ` ${gainText(verdict.gain.value)} %: ${verdict.reason}`) : null,
    el("div", { class: "detail-body" },
      el("dl", { class: "facts" }, facts.map(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })]).flat()),
      el("div", {},
        el("div", { class: "clocks-shown" }, Object.keys(CLOCKS).map((clock) => clockPicture(site, clock))),
        site.isMemory ? el("figure", { class: "alive-shown" }, el("figcaption", {}, el("b", { text: "alive over time" }), " ", el("small", { text: `at most ${bytesText(Math.max(...site.level.bytes))}, mean ${bytesText(mean(site.level.bytes))}` })),
          levelPicture(site.level.bytes, Math.max(...site.level.bytes) || 1)) : null),
      el("div", { class: "lists" },
        list("types", site.types), list("freed at", site.freed_at.map(([name, file, line, share]) => [`${name} ${fileText(file)}:${line ?? "?"}`, share]),
          site.collected ? [["the garbage collector", site.collected]] : []))),
  ].filter(Boolean));
}

function clockPicture(site, clock) {
  const { first, objects } = site.life[clock];
  const range = [Math.max(0, first - 1), first + objects[0].length];
  return el("figure", {},
    el("figcaption", {}, el("b", { text: CLOCKS[clock].label }), el("small", { text: quantilesText(site, clock) })),
    distribution(site, clock, "objects", range), axis(clock, range, 52, 230));
}

function list(title, entries, more = []) {
  const all = [...entries, ...more].sort((a, b) => b[1] - a[1]);
  if (!all.length) return null;
  return el("div", {}, el("h3", { text: title }), el("ul", {}, all.map(([name, share]) => (
    el("li", {}, el("span", { text: name }), el("span", { class: "number", text: shareText(share) }))))));
}

function closeDetail() {
  const chosen = state.site;
  change({ site: null });
  byId("site-table").querySelector(`[data-site="${chosen}"]`)?.focus({ preventScroll: true });
}

function startDetail() {
  onChange(["site"], drawDetail);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.site !== null) closeDetail();
  });
}

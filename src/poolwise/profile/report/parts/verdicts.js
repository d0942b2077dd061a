// verdicts.js: what the advisor says of this recording, or why it says nothing.

const FIRST_VERDICTS = 5;

/** The verdict on a site, if it has one. */
function verdictOn(site) {
  return data.advice?.verdicts.find((verdict) => verdict.site && ["function", "file", "line", "expression", "type"]
    .every((key) => verdict.site[key] === site[key]));
}

const saysNothing = (verdict) => verdict.verdict === "don't" || verdict.verdict === "record longer";

function verdictTag(verdict) {
  return el("span", { class: saysNothing(verdict) ? "verdict nothing" : "verdict", text: verdict.verdict });
}

function drawVerdicts() {
  const { advice, no_advice: why } = data;
  const box = byId("verdict-list");
  if (!advice) {
    byId("verdicts").querySelector(".lead").hidden = true;
    box.replaceChildren(el("p", { class: "empty", text: why || "This recording has not been judged." }));
    return;
  }
  const { low, high } = advice.verdicts.reduce(({ low: least, high: most }, { gain }) => (
    { low: Math.min(least, gain.low), high: Math.max(most, gain.high) }), { low: 0, high: 0.01 });
  const first = Math.max(FIRST_VERDICTS, advice.verdicts.findLastIndex((verdict) => !saysNothing(verdict)) + 1);
  const rows = advice.verdicts.map((verdict) => verdictRow(verdict, low, high));
  const rest = rows.slice(first);
  for (const row of rest) row.hidden = true;
  const more = rest.length ? el("button", { type: "button", class: "more", text: `Show all ${rows.length} verdicts`,
    onclick: () => { for (const row of rest) row.hidden = false; more.remove(); } }) : "";
  box.replaceChildren(
    el("div", { class: "scroll" }, el("table", { class: "verdicts" },
      el("thead", {}, el("tr", {}, ["Verdict", "Gain, 95 %", "", "Keep", "Holds", "Where and why"].map((text, at) => (
        el("th", { scope: "col", class: [1, 3, 4].includes(at) ? "number" : null, text }))))),
      el("tbody", {}, rows))),
    more,
    el("ul", { class: "notes" }, advice.notes.map((note) => el("li", { text: note }))));
}

function verdictRow(verdict, low, high) {
  const { gain, site } = verdict;
  const at = (value) => `${((100 * (value - low)) / (high - low)).toFixed(2)}%`;
  const interval = el("div", { class: "interval", role: "img", "aria-label": `${gainText(gain.value)} %, between ${gainText(gain.low)} and ${gainText(gain.high)}` },
    el("i", { class: "zero", style: { left: at(0) } }),
    el("i", { class: "range", style: { left: at(gain.low), width: `${(100 * (gain.high - gain.low)) / (high - low)}%` } }),
    el("i", { class: "value", style: { left: at(gain.value) } }));
  const where = site ? [el("b", { text: site.function }), " ",
    el("span", { class: "path", text: `${fileText(site.file)}:${site.line ?? "?"}` }), " ", el("code", { text: site.expression.length > 90 ? `${site.expression.slice(0, 89)}…` : site.expression, title: site.expression })]
    : [el("b", { text: "the whole program" })];
  return el("tr", { class: saysNothing(verdict) ? "nothing" : null },
    el("td", {}, verdictTag(verdict)),
    el("td", { class: "number", text: `${gainText(gain.value)} % [${gainText(gain.low)}, ${gainText(gain.high)}]` }),
    el("td", {}, interval),
    el("td", { class: "number", text: verdict.capacity || "–" }),
    el("td", { class: "number", text: verdict.memory_bytes ? bytesText(verdict.memory_bytes) : "–" }),
    el("td", { class: "why" }, el("div", {}, where), el("div", { text: verdict.reason }),
      verdict.code ? el("details", {}, el("summary", { text: "what to write" }), el("pre", { text: verdict.code })) : null));
}

// data.js: the recording as the page uses it.

const data = JSON.parse(byId("data").textContent);

const add = (a, b) => a + b;

// What is chosen now. Each part of the page draws itself anew when told that something changed.
const state = { mode: "alloc_space", clock: "ns", search: "", site: null, sort: "bytes", falling: true };
const listeners = [];

/** Call `listener(changed)` whenever some of these keys of the state changed. */
function onChange(keys, listener) {
  listeners.push([keys, listener]);
}

function change(changes) {
  const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
  Object.assign(state, changes);
  for (const [keys, listener] of listeners) {
    if (keys.some((key) => changed.includes(key))) listener();
  }
}

const sites = data.sites.map((site, number) => ({
  ...site,
  number,
  isMemory: site.kind !== "construction",
  where: `${fileText(site.file)}${site.line === null ? "" : `:${site.line}`}`,
  short: functionText(site.function),
  spot: `${site.file.split("/").at(-1)}${site.line === null ? "" : `:${site.line}`}`,
  sought: [site.function, site.file, site.expression, site.type, site.library, site.kind]
    .filter(Boolean).join("\n").toLowerCase(),
}));

const matches = (sought) => sought.includes(state.search);

/** What a column is sorted by: a number, or null, which comes last. */
const SORT_KEYS = {
  site: (site) => `${site.function}\n${site.file}`,
  bytes: (site) => site.bytes,
  objects: (site) => site.objects,
  heaptime: (site) => site.heaptime,
  alive_bytes: (site) => site.alive_bytes,
  ns: (site) => site.life.ns.quantiles[1],
  volume: (site) => site.life.volume.quantiles[1],
  collections: (site) => site.life.collections.quantiles[1],
  same_thread: (site) => site.same_thread,
  at_once: (site) => site.at_once,
  censored: (site) => site.censored,
};

/** The sites that are searched for, in the order that is chosen. */
function sitesInOrder() {
  const key = SORT_KEYS[state.sort];
  const sign = state.falling ? -1 : 1;
  return sites.filter((site) => matches(site.sought)).sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === y) return a.number - b.number;
    if (x === null || y === null) return x === null ? 1 : -1;
    return x < y ? -sign : sign;
  });
}

/** The least value of a cell: two cells to a doubling, below 1 the first. */
const cellStart = (cell) => (cell === 0 ? 0 : 2 ** ((cell - 1) / 2));

/** The cells that any site uses on a clock: [first, last]. */
function cellRange(clock) {
  let first = Infinity;
  let last = 0;
  for (const { life } of sites) {
    first = Math.min(first, life[clock].first);
    last = Math.max(last, life[clock].first + life[clock].objects[0].length - 1);
  }
  return [Math.min(first, last), last];
}

/** A cell as a range: 1.00 ms to 1.41 ms; of whole numbers: 3 to 4. */
function cellText(clock, cell) {
  const [start, end] = [cellStart(cell), cellStart(cell + 1)];
  const { unit } = CLOCKS[clock];
  if (clock !== "collections") return `${unit(start)} to ${unit(end)}`;
  const [least, most] = [Math.ceil(start), Math.ceil(end) - 1];
  return least >= most ? unit(least) : `${unit(least)} to ${unit(most)}`;
}

/** Where an axis over cells has its marks: [[cell, text]]. Cells need not be whole. */
function cellTicks(clock, first, last) {
  const cellAt = (value) => (value < 1 ? 0 : 1 + 2 * Math.log2(value));
  const values = clock === "collections" ? [0, 1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096, 16384] : [];
  for (let power = 0; clock === "ns" && power < 11; power += 1) values.push(10 ** power);
  if (clock === "ns") values.push(6e10, 6e11, 3.6e12, 3.6e13, 3.6e14);
  for (let power = 0; clock === "volume" && power < 60; power += 5) values.push(2 ** power);
  return values
    .map((value) => [cellAt(value), roundText(CLOCKS[clock].unit(value))])
    .filter(([cell]) => cell >= first && cell <= last + 1);
}

// text.js: figures and names as people read them.

const digits = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

function scaled(value, base, units) {
  let at = 0;
  while (value >= base * 0.9995 && at < units.length - 1) {
    value /= base;
    at += 1;
  }
  return [value, units[at]];
}

/** 23.8 M */
function countText(value) {
  if (value < 1000) return value < 10 && value % 1 ? value.toFixed(1) : value.toFixed(0);
  const [number, unit] = scaled(value, 1000, ["", "k", "M", "G", "T"]);
  return `${digits(number)} ${unit}`;
}

/** 2.36 GiB */
function bytesText(value) {
  if (value < 1024) return `${value.toFixed(0)} B`;
  const [number, unit] = scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
  return `${digits(number)} ${unit}`;
}

/** 1.05 ms */
function timeText(ns) {
  if (ns < 1e9 * 60) {
    const [number, unit] = scaled(ns, 1000, ["ns", "µs", "ms", "s"]);
    return unit === "ns" ? `${number.toFixed(0)} ns` : `${digits(number)} ${unit}`;
  }
  const [number, unit] = scaled(ns / 6e10, 60, ["min", "h"]);
  return `${digits(number)} ${unit}`;
}

/** A round figure without the digits that say nothing: 10 ms, not 10.0 ms. */
const roundText = (text) => text.replace(/\.0+(?= )/, "");

function shareText(share) {
  if (share === null) return "–";
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share < 1 && share > 0.999) return "> 99.9 %";
  return `${(100 * share).toFixed(share < 0.0995 && share > 0 ? 1 : 0)} %`;
}

/** A gain with its sign: −0.4 % */
function gainText(gain) {
  const text = Math.abs(100 * gain).toFixed(1);
  return gain < 0 && Number(text) > 0 ? `−${text}` : text;
}

/** A qualified name without what says only that functions are nested. */
const functionText = (name) => name.replaceAll(".<locals>", "");

/** A path as short as it still says what file it is: without the folders that Python is in. */
function fileText(path) {
  const inside = /\/(?:site|dist)-packages\/(.+)$/.exec(path) ?? /\/lib\/python3\.\d+t?\/(.+)$/.exec(path);
  if (inside) return inside[1];
  const parts = path.split("/");
  return parts.length > 2 ? parts.slice(-2).join("/") : path;
}

const CLOCKS = {
  ns: { label: "time", unit: timeText, of: "lifetime" },
  volume: { label: "bytes allocated", unit: bytesText, of: "bytes allocated meanwhile" },
  collections: { label: "collections survived", unit: countText, of: "collections survived" },
};

const WEIGHTS = {
  objects: { label: "objects", text: countText },
  bytes: { label: "bytes", text: bytesText },
};

const MODES = {
  alloc_space: { label: "allocated bytes", text: bytesText },
  alloc_objects: { label: "allocated objects", text: countText },
  inuse_space: { label: "alive bytes", text: bytesText },
  inuse_objects: { label: "alive objects", text: countText },
  heaptime: { label: "heaptime", text: (value) => `${bytesText(value)}·s` },
};

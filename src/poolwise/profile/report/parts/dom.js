// dom.js: making elements. Text only ever becomes text: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties (on… are listeners, a `style` object sets properties), and children. */
function el(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** The same, of SVG. */
function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return element;
}

const byId = (id) => document.getElementById(id);

/** Radio buttons in a fieldset: [value, label] each; `chosen(value)` is told of a choice. */
function choice(fieldset, name, options, value, chosen) {
  for (const [option, label] of options) {
    const input = el("input", {
      type: "radio", name, value: option, checked: option === value,
      onchange: () => chosen(option),
    });
    fieldset.append(el("label", {}, input, el("span", { text: label })));
  }
}

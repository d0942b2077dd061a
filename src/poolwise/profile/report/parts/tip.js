// tip.js: the one floating box that explains what is under the pointer, or has the focus.

const tip = byId("tip");

/** Show rows [name, value] under a title, near a point of the window. */
function showTip(x, y, title, subtitle, rows) {
  tip.replaceChildren(
    el("b", { text: title }),
    subtitle ? el("div", { class: "path", text: subtitle }) : null,
    el("dl", {}, rows.map(([name, value, chosen]) => [
      el("dt", { text: name, class: chosen ? "chosen" : null }),
      el("dd", { text: value, class: chosen ? "chosen" : null }),
    ]).flat()),
  );
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(x + 14, window.innerWidth - width - 8);
  const below = y + 18 + height < window.innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, below ? y + 18 : y - height - 10)}px`;
}

function hideTip() {
  tip.hidden = true;
}

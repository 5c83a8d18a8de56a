// What every page uses: elements, numbers as text, names of heads, colours of values.
const $ = id => document.getElementById(id);
const make = (tag, props = {}, ...children) => {
  const { dataset = {}, role, ...rest } = props;
  const e = Object.assign(document.createElement(tag), rest);
  if (role) e.setAttribute("role", role);
  Object.assign(e.dataset, dataset);
  e.append(...children);
  return e;
};
const svg = (tag, attributes = {}, ...children) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
};
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const clean = text => text.replaceAll("_", " ");
const signed = text => Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
/// A figure as every page shows it; `–` for one that was not computed.
const number = v => v === undefined ? "–" : signed(v.toFixed(Math.abs(v) >= 100 ? 1 : 3));
const between = ci => `${number(ci[0])} to ${number(ci[1])}`;

/// A dot or bar of a plot that can be clicked, and reached and pressed by keys.
function pressable(element, words, act) {
  element.setAttribute("role", "button");
  element.setAttribute("tabindex", "0");
  element.setAttribute("aria-label", words);
  element.append(svg("title", {}, words));
  element.addEventListener("click", act);
  element.addEventListener("keydown", e => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); act(); } });
  return element;
}

// Heads, groups of channels, single channels.
const isGroup = h => h.channels && h.channels[0] !== h.channels[1];
const members = h => isGroup(h) ? h.channels.join("–") : String(h.head);
const short = h => `${h.layer}.${members(h)}`;
const long = h => `Layer ${h.layer}, ${!h.channels ? "head" : isGroup(h) ? "channels" : "channel"} ${members(h)}`;

// Colour of a value: opacity is |value| / top, drawn out at the low end by `power` < 1.
const strength = (value, top, power = 1) => Math.min(1, Math.abs(value) / (top || 1)) ** power;
const shade = (value, top, power = 1) => `rgba(${css(value < 0 ? "--negative" : "--positive")}, ${strength(value, top, power).toFixed(3)})`;

/// Black or white, whichever is read better on a shade over the panel.
function inkOn(value, top) {
  const parts = text => text.split(",").map(Number), a = strength(value, top);
  const panel = css("--panel").length === 4 ? [255, 255, 255] : css("--panel").match(/\w\w/g).map(x => parseInt(x, 16));
  const mixed = parts(css(value < 0 ? "--negative" : "--positive")).map((c, k) => a * c + (1 - a) * panel[k]);
  const linear = mixed.map(c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
  return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2] > .179 ? "#000" : "#fff";
}

/// A bar of the colours from `low` to `top`, its ends in figures.
function scale(low, top, power = 1, text = number) {
  const most = Math.max(Math.abs(low), Math.abs(top));
  const stops = Array.from({ length: 41 }, (_, k) => shade(low + (top - low) * k / 40, most, power));
  const bar = make("i");
  bar.style.background = `linear-gradient(90deg, ${stops.join()})`;
  return make("div", { className: "scale" }, text(low), bar, text(top));
}

function tabs(place, words, chosen, act) {
  place.replaceChildren(...Object.entries(words).map(([key, text]) =>
    make("button", { type: "button", textContent: text, ariaPressed: String(key === chosen), dataset: { key }, onclick: () => act(key) })));
}

function facts(place, manifest) {
  const { options = {}, ...rest } = manifest;
  place.replaceChildren(...Object.entries({ ...rest, ...options }).filter(([, v]) => v !== "").map(([k, v]) =>
    make("div", { className: k === "command" ? "wide" : "" }, make("dt", { textContent: clean(k) }), make("dd", { textContent: v }))));
}

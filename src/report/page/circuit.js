// The circuit: its heads as layers with arrows, and what tells their roles, in figures.
function circuit() {
  const shown = (named.length ? named : byDrop).filter(h => h.accuracy_drop !== undefined).slice(0, named.length ? 16 : 3);
  if (!shown.length) { $("circuit").replaceChildren(make("p", { textContent: "No head was cut in this run." })); return; }
  const table = circuitTable(shown);
  if (named.length) $("circuit").replaceChildren(make("div", { className: "diagram" }, diagram(shown), table));
  else $("circuit").replaceChildren(make("p", { textContent: "No head has a role by the rule. The largest drops are:" }), table);
}

function circuitTable(shown) {
  const cell = (content, className = "num") => make("td", { className }, content);
  const against = (h, key) => number(h[key]) + (h[key] !== undefined && h[key + "_uniform"] !== undefined ? ` / ${number(h[key + "_uniform"])}` : "");
  const columns = { "head": h => cell(picker(h), ""), "role": h => cell(badge(h.role), ""),
    "drop": h => cell(number(h.accuracy_drop)), "95 %": h => cell(h.accuracy_drop_ci ? between(h.accuracy_drop_ci) : "–"),
    "in segments": h => cell(number(h.drop_in_segments)), "at last": h => cell(number(h.drop_at_query)),
    "unread": h => cell(number(h.drop_reading_segments)), "gather / unif.": h => cell(against(h, "gather")),
    "target / unif.": h => cell(against(h, "target")), "entropy": h => cell(number(h.entropy_norm)) };
  const titles = Object.keys(columns).map((t, i) => make("th", { textContent: t, scope: "col", className: i > 1 ? "num" : "" }));
  const rows = shown.map(h => make("tr", {}, ...Object.values(columns).map(column => column(h))));
  return make("div", { className: "scroll" },
    make("table", {}, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...rows)),
    make("p", { className: "legend", textContent: (named.length > shown.length ? "More heads, with smaller drops, are in the grid. " : "") +
      "In segments, at last: the drop when the head is off only at the tokens of segments, or only from the last prompt token on. " +
      "Unread: when it only loses what it reads from segments there." }));
}

/// Layers downwards, Gather heads left, Aggregate heads right: segments -> Gather -> Aggregate -> answer.
function diagram(heads) {
  const layers = [...new Set(heads.map(h => h.layer))].sort((a, b) => a - b), width = 290, step = 58, first = 30, left = 56;
  const height = first + layers.length * step + 34, middle = left + (width - left) / 2, out = (middle + width - 24) / 2, place = new Map();
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "group", "aria-label": "the circuit by layer" });
  const arrow = (x1, y1, x2, y2) => root.append(svg("g", { class: "arrow", opacity: .8 },  // all of them end downwards
    svg("path", { d: `M${x1},${y1}C${x1},${(y1 + y2) / 2} ${x2},${(y1 + y2) / 2} ${x2},${y2 - 5}`, fill: "none", stroke: css("--soft"), "stroke-width": 1.2 }),
    svg("path", { d: `M${x2 - 4},${y2 - 7}h8l-4,7z`, fill: css("--soft") })));
  const radius = h => 6 + 8 * Math.sqrt(Math.max(0, h.accuracy_drop));
  layers.forEach((layer, row) => {
    const y = first + row * step + step / 2;
    root.append(svg("line", { x1: 0, x2: width, y1: y, y2: y, class: "line" }), svg("text", { x: 0, y: y - 6, class: "soft" }, `layer ${layer}`));
    for (const [role, from, to] of [["gather", left, middle], ["aggregate", middle + 10, width - 34]]) {
      const own = heads.filter(h => h.layer === layer && h.role === role).sort((a, b) => a.head - b.head);
      own.forEach((h, k) => place.set(h, [from + (k + .5) * (to - from) / own.length, y, k === own.length - 1 ? "last" : k === 0 ? "first" : "between"]));
    }
  });
  const gathers = [...place].filter(([h]) => h.role === "gather"), aggregates = [...place].filter(([h]) => h.role === "aggregate");
  if (gathers.length) root.append(svg("text", { x: (left + middle) / 2, y: 14, "text-anchor": "middle", class: "soft" }, "segments"));
  if (aggregates.length) root.append(svg("text", { x: out, y: height - 6, "text-anchor": "middle", class: "soft" }, "answer"));
  for (const [g, [x1, y1]] of gathers) {
    arrow((left + middle) / 2, 20, x1, y1 - radius(g) - 2);
    for (const [a, [x2, y2]] of aggregates) if (a.layer > g.layer) arrow(x1, y1 + radius(g), x2, y2 - radius(a) - 2);
  }
  for (const [a, [x, y]] of aggregates) arrow(x, y + radius(a), out, height - 20);
  for (const [h, [x, y, where]] of place) {
    root.append(pressable(svg("circle", { cx: x, cy: y, r: radius(h), fill: css("--" + h.role) }),
      `${long(h)}, ${h.role}: drop ${number(h.accuracy_drop)}`, () => choose(h)));
    const side = radius(h) + 4;  // beside the dot, outwards; among three or more, below
    const at = { first: { x: x - side, y: y + 4, "text-anchor": "end" }, between: { x: x + 5, y: y + side + 8 }, last: { x: x + side, y: y + 4 } }[where];
    if (heads.length <= 12) root.append(svg("text", { ...at, class: "halo", "pointer-events": "none" }, short(h)));
  }
  return make("div", {}, root, make("p", { className: "legend", textContent: "Arrows show the order the mechanism needs, not measured paths " +
    "(headlens circuit measures those). Larger: a larger drop." }));
}

// Accuracy against the size of a task, of the whole model and without heads.
const headList = heads => heads.map(([layer, first, last]) => `${layer}.${first === last ? first : `${first}–${last}`}`).join(", ");

function curve() {
  const data = scores.curve;
  $("curvesection").hidden = !data;
  if (!data) return;
  const role = line => line.without.length ? (scores.heads.find(h => h.layer === line.without[0][0] && h.head === line.without[0][1])?.role ?? "none") : null;
  const lines = data.lines.map(line => ({ ...line, name: line.without.length ? `without ${headList(line.without)}` : "the whole model",
    colour: css(line.without.length ? "--" + role(line) : "--ink") }));
  $("curvewords").textContent = `${data.task}, {} being the size; examples of seed ${data.seed}, on which no head was chosen. Whiskers: 95 %.`;
  $("curve").replaceChildren(curvePlot(data.sizes, lines));
  const head = make("tr", {}, ...["size", "examples", ...lines.map(l => l.name)].map((t, k) => make("th", { textContent: t, scope: "col", className: k ? "num" : "" })));
  $("curvetable").replaceChildren(make("thead", {}, head), make("tbody", {}, ...data.sizes.map((size, k) => make("tr", {}, make("td", { textContent: size }),
    make("td", { className: "num", textContent: data.examples[k] }),
    ...lines.map(l => make("td", { className: "num", textContent: number(l.accuracy[k]), title: between(l.accuracy_ci[k]) }))))));
}

function curvePlot(sizes, lines) {
  const width = 640, height = 300, left = 40, right = 12, floor = height - 30, widest = Math.max(...sizes), least = Math.min(...sizes);
  const x = size => widest === least ? (left + width) / 2 : left + 12 + (size - least) / (widest - least) * (width - left - right - 24), y = v => 12 + (1 - v) * (floor - 12);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height + 24 * Math.ceil(lines.length / 3)}`, width: "100%", role: "img", "aria-label": "accuracy against size" });
  for (const v of [0, .25, .5, .75, 1]) root.append(svg("line", { x1: left, x2: width, y1: y(v), y2: y(v), class: "line" }),
    svg("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end", class: "soft" }, String(v)));
  for (const size of sizes) root.append(svg("text", { x: x(size), y: floor + 18, "text-anchor": "middle", class: "soft" }, String(size)));
  lines.forEach((line, n) => {
    root.append(svg("path", { d: line.accuracy.map((v, k) => `${k ? "L" : "M"}${x(sizes[k])},${y(v)}`).join(""), fill: "none", stroke: line.colour, "stroke-width": 2 }));
    line.accuracy.forEach((v, k) => {
      const [low, high] = line.accuracy_ci[k], at = x(sizes[k]);
      root.append(svg("path", { d: `M${at},${y(low)}V${y(high)}M${at - 4},${y(low)}h8M${at - 4},${y(high)}h8`, stroke: line.colour, opacity: .7 }),
        svg("circle", { cx: at, cy: y(v), r: 4, fill: line.colour }, svg("title", {}, `${line.name}, size ${sizes[k]}: ${number(v)} (95 % ${between(line.accuracy_ci[k])})`)));
    });
    const at = left + n % 3 * 200, down = height + 8 + 24 * Math.floor(n / 3);
    root.append(svg("rect", { x: at, y: down - 4, width: 18, height: 4, rx: 2, fill: line.colour }), svg("text", { x: at + 26, y: down + 2 }, line.name));
  });
  return root;
}

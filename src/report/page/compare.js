// The comparison page: both models' spreads side by side, and the differences.
const data = JSON.parse($("data").textContent);
const FIGURES = {
  entropy_norm: ["entropy", "Entropy of the last prompt token's row over its largest possible value: 0 is one key, 1 is uniform."],
  effective: ["effective support", "exp(entropy): how many keys a uniform row of that entropy has."],
  peak: ["peak", "The largest entry of the last prompt token's row."],
  gather: ["gather", "What the last token of a segment reads of its own segment, mean over segments."],
  aggregate: ["aggregate", "What the last prompt token reads of the segments' last tokens."] };
let figure = "entropy_norm";

const present = figure => data.a.heads.concat(data.b.heads).some(h => h[figure]);

/// The top of a scale that both models share.
function scaleTop() {
  const all = [...data.a.layers, ...data.b.layers, ...data.a.heads.map(h => ({ [figure]: h[figure] && { q95: h[figure].mean } })),
               ...data.b.heads.map(h => ({ [figure]: h[figure] && { q95: h[figure].mean } }))];
  const most = Math.max(...all.map(s => s[figure] ? s[figure].q95 : 0));
  if (most <= 0) return 1;
  const step = 10 ** Math.floor(Math.log10(most));
  return Math.ceil(most / step * 4) / 4 * step;
}

function plot(side, colour, most) {
  const model = data[side], layers = model.layers.length;
  const width = 560, height = 280, left = 46, bottom = 26, up = 10;
  const x = layer => left + (layer + .5) * (width - left) / layers;
  const y = v => up + (1 - v / most) * (height - bottom - up);
  const box = Math.min(26, (width - left) / layers * .7);
  const art = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${FIGURES[figure][0]} by layer, ${model.model.name}` });
  for (let i = 0; i <= 4; ++i) {
    const v = most * i / 4;
    art.append(svg("line", { x1: left, x2: width, y1: y(v), y2: y(v), class: "line" }),
               svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end", class: "soft axis" }, String(+v.toPrecision(3))));
  }
  const every = Math.ceil(layers / 16);
  model.layers.forEach((l, i) => {
    if (i % every === 0) art.append(svg("text", { x: x(i), y: height - 8, "text-anchor": "middle", class: "soft" }, String(i)));
    const s = l[figure];
    if (!s) return;
    art.append(svg("line", { x1: x(i), x2: x(i), y1: y(s.q05), y2: y(s.q95), stroke: colour, "stroke-width": 1 }),
               svg("rect", { x: x(i) - box / 2, width: box, y: y(s.q75), height: Math.max(1, y(s.q25) - y(s.q75)), fill: colour, "fill-opacity": .22, stroke: colour }),
               svg("line", { x1: x(i) - box / 2, x2: x(i) + box / 2, y1: y(s.q50), y2: y(s.q50), stroke: colour, "stroke-width": 2.5 }));
  });
  const counts = {}, seen = {};
  for (const h of model.heads) counts[h.layer] = (counts[h.layer] ?? 0) + 1;
  for (const h of model.heads) {
    const place = seen[h.layer] = (seen[h.layer] ?? 0) + 1;
    if (!h[figure]) continue;
    const shift = (place / (counts[h.layer] + 1) - .5) * box;
    art.append(svg("circle", { cx: x(h.layer) + shift, cy: y(h[figure].mean), r: 2.6, fill: colour },
                   svg("title", {}, `${short(h)} (${h.kind.replaceAll("_", " ")}): ${number(h[figure].mean)}`)));
  }
  return art;
}

function label(summary) {
  if (summary === "mean") return "mean over all heads";
  const one = side => data[side][summary.split("_")[0]];
  if (summary.endsWith("_head")) return `best ${summary === "gather_head" ? "Gather" : "Aggregate"} head (${short(one("a"))} against ${short(one("b"))})`;
  return `layers, share ${summary.split("_")[1]} of ${data.depth_bins}`;
}

function differences() {
  const rows = data.differences.filter(d => d.figure === figure);
  const reach = Math.max(1e-12, ...rows.map(d => Math.max(Math.abs(d.difference_ci[0]), Math.abs(d.difference_ci[1]))));
  const head = make("thead", {}, make("tr", {}, ...["", "A", "B", "A − B", "95 %", ""].map((t, i) => make("th", { textContent: t, className: i > 0 && i < 5 ? "num" : "" }))));
  const body = make("tbody");
  for (const d of rows) {
    const w = 220, x = v => w / 2 + v / reach * (w / 2 - 6);
    const colour = d.difference_ci[0] > 0 ? "var(--a)" : d.difference_ci[1] < 0 ? "var(--b)" : "var(--soft)";
    const art = svg("svg", { width: w, height: 18, "aria-hidden": "true" },
      svg("line", { x1: w / 2, x2: w / 2, y1: 0, y2: 18, class: "line" }),
      svg("line", { x1: x(d.difference_ci[0]), x2: x(d.difference_ci[1]), y1: 9, y2: 9, stroke: colour, "stroke-width": 2 }),
      svg("circle", { cx: x(d.difference), cy: 9, r: 4, fill: colour }));
    body.append(make("tr", {}, make("td", { textContent: label(d.summary) }), ...[number(d.a), number(d.b), number(d.difference),
      `${number(d.difference_ci[0])} to ${number(d.difference_ci[1])}`].map(t => make("td", { className: "num", textContent: t })), make("td", {}, art)));
  }
  $("differences").replaceChildren(head, body);
}

function draw() {
  const most = scaleTop();
  $("meaning").textContent = FIGURES[figure][1];
  $("plota").replaceChildren(plot("a", "var(--a)", most));
  $("plotb").replaceChildren(plot("b", "var(--b)", most));
  differences();
  tabs($("figures"), Object.fromEntries(Object.entries(FIGURES).filter(([f]) => present(f)).map(([f, [words]]) => [f, words])), figure,
    f => { figure = f; draw(); $("figures").querySelector(`[data-key=${f}]`).focus(); });
}

document.title = `${data.a.model.name} against ${data.b.model.name} · headlens`;
$("title").textContent = `${data.a.model.name} against ${data.b.model.name}`;
$("subtitle").textContent = `${data.task.spec}, ${data.examples} examples`;
for (const side of ["a", "b"]) {
  const m = data[side], heads = ["gather", "aggregate"].map(role => m[role] ? `${role} ${short(m[role])}` : `no ${role} head`).join(", ");
  $("name" + side).textContent = `${side.toUpperCase()}: ${m.model.name} (${m.model.layers} layers; ${heads})`;
}
facts($("manifest"), data.manifest);
draw();

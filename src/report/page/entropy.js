// Entropy of every head, layer by layer; of another model beside it, from its scores.json.
let beside = null;  // the other model's scores

function entropy() {
  const own = entropyPlot(scores, beside ? 560 : 1150, true);
  $("entropysection").hidden = !own;
  if (!own) return;
  if (!beside) { $("entropy").className = ""; $("entropy").replaceChildren(own); return; }
  const half = (of, plot) => make("div", {}, make("h3", { textContent: `${of.model.name}, ${of.task.spec}` }), plot ?? make("p", { textContent: "No head of it has an entropy." }));
  $("entropy").className = "half";
  $("entropy").replaceChildren(half(scores, own), half(beside, entropyPlot(beside, 560, false)));
}

/// One dot a head; null where no head has the figure. `choosable`: a dot chooses its head.
function entropyPlot(of, width, choosable) {
  const { layers, layer_kinds: kinds } = of.model, known = of.heads.filter(h => h.entropy_norm !== undefined);
  if (!known.length) return null;
  const height = 250, left = 74, band = (width - left) / layers, mixed = isMixed(of.model) && layers <= 12 && Math.max(...kinds.map(k => k.length)) * 7 < band;
  const floor = height - (mixed ? 44 : 26), y = v => 12 + (1 - Math.max(0, Math.min(1, v))) * (floor - 22), every = Math.ceil(layers * 34 / (width - left));
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", role: "group", "aria-label": `normalised entropy of every head of ${of.model.name} by layer` });
  for (const [v, words] of [[1, "1 uniform"], [.5, "0.5"], [0, "0 one key"]]) {
    root.append(svg("line", { x1: left, x2: width, y1: y(v), y2: y(v), class: "line" }), svg("text", { x: left - 10, y: y(v) + 4, "text-anchor": "end", class: "soft" }, words));
  }
  const ordered = [...known].sort((a, b) => (a.role !== "none") - (b.role !== "none")), place = new Map();  // those with a role on top
  for (let layer = 0; layer < layers; ++layer) {
    const heads = known.filter(h => h.layer === layer), middle = left + (layer + .5) * band;
    heads.forEach((h, k) => place.set(h, left + layer * band + band * (.1 + .8 * (k + .5) / heads.length)));
    if (layer % every === 0) root.append(svg("text", { x: middle, y: floor + 18, "text-anchor": "middle", class: "soft" }, band > 60 ? `layer ${layer}` : String(layer)));
    if (mixed) root.append(svg("text", { x: middle, y: floor + 36, "text-anchor": "middle", class: "soft" }, clean(kinds[layer])));
  }
  for (const h of ordered) {
    const role = h.role !== "none", colour = css("--" + h.role), words = `${long(h)}${role ? `, ${h.role}` : ""}: ${number(h.entropy_norm)}`;
    const dot = svg("circle", { cx: place.get(h), cy: y(h.entropy_norm), r: role ? 6 : Math.min(3.5, Math.max(1.5, band / 16)), fill: colour, "fill-opacity": role ? 1 : .3, stroke: colour });
    root.append(choosable && role ? pressable(dot, words, () => choose(h)) : dot);
    if (choosable && role) continue;
    dot.append(svg("title", {}, words));
    if (choosable) dot.addEventListener("click", () => choose(h));
  }
  return root;
}

async function openBeside(event) {
  const file = event.target.files[0];
  if (!file) return;
  try {
    const read = JSON.parse(await file.text());
    if (read.schema !== scores.schema) throw new Error(`expected schema ${scores.schema}, got ${read.schema ?? "none"}`);
    beside = read;
    $("besidewords").textContent = "";
    entropy();
  } catch (error) {
    $("besidewords").textContent = ` ${file.name}: ${error.message}`;
  }
}

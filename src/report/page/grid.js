// The layer x head grid: one figure at a time as colours; a cell chooses its head.
function figureTabs() {
  const kept = Object.entries(FIGURES).filter(([key]) => scores.heads.some(h => h[key] !== undefined));
  tabs($("figures"), Object.fromEntries(kept), figure, key => { figure = key; figureTabs(); grid(); $("figures").querySelector(`[data-key=${key}]`).focus(); });
}

/// Layers as rows of heads; heads that were not scored stand in their place, hatched.
function gridRows() {
  return scores.model.layer_kinds.map((kind, layer) => {
    const own = scores.heads.filter(h => h.layer === layer);
    return kind === "mamba1" ? own : Array.from({ length: scores.model.head_counts[layer] }, (_, head) =>
      own.find(h => h.head === head) ?? { layer, head, kind, role: "none" });
  });
}

function grid() {
  const values = scores.heads.map(h => h[figure] ?? 0), top = Math.max(...values.map(Math.abs), 1e-9), low = Math.min(...values, 0), high = Math.max(...values, 0);
  const rows = gridRows(), kinds = scores.model.layer_kinds;
  const label = layer => isMixed(scores.model) ? `${layer} ${clean(kinds[layer])}` : String(layer);
  const labelWidth = Math.max(...rows.map((_, layer) => label(layer).length), 2) * 7 + 4;
  const most = Math.max(...rows.map(r => r.length), 1), room = ($("grid").clientWidth || 640) - 12 - labelWidth;
  const width = Math.max(6, Math.min(56, Math.floor(room / most) - 2)), height = Math.max(12, Math.min(36, width));
  $("grid").replaceChildren(...rows.map((heads, layer) => {
    const name = make("span", { textContent: label(layer), role: "rowheader" });
    name.style.width = labelWidth + "px";
    return make("div", { className: "layer", role: "row" }, name, ...heads.map(h => gridCell(h, top, width, height)));
  }));
  $("gridscale").replaceChildren(...(scores.heads.length ? [scale(low, high)] : []));
  const one = scores.heads.some(h => h.channels) ? "group of channels, or one channel where a group matters" : "head";
  $("gridlegend").textContent = `Rows are layers, the first on top; one cell is one ${one}. Framed blue: Gather, orange: Aggregate. ` +
    `A dot: its map is below. Hatched: not computed.`;
  markChosen();
}

const cellWords = h => `${long(h)}: ${FIGURES[figure]} ${number(h[figure])}` + (h.role === "none" ? "" : `, ${h.role}`);

function gridCell(h, top, width, height) {
  const v = h[figure], words = cellWords(h);
  const cell = make("button", { type: "button", role: "gridcell", title: words, ariaLabel: words, tabIndex: -1, onclick: () => choose(h),
    onfocus: () => { $("gridread").textContent = words; }, onmouseenter: () => { $("gridread").textContent = words; },
    className: `cell ${h.role}` + (v === undefined ? " absent" : "") + (width < 16 ? " small" : "") + (width < 10 ? " tiny" : "") + (mapOf(h) ? " mapped" : ""),
    dataset: { head: `${h.layer}.${h.head}` } });
  cell.style.cssText = `width:${width}px;height:${height}px` + (v === undefined ? "" : `;background:${shade(v, top)};color:${inkOn(v, top)}`);
  if (width >= 40 && v !== undefined) cell.textContent = signed(v.toFixed(2));
  return cell;
}

/// The chosen cell is the one that Tab reaches; arrows go on from there.
function markChosen() {
  const cells = [...$("grid").querySelectorAll(".cell")], own = chosen && cells.find(c => c.dataset.head === `${chosen.layer}.${chosen.head}`);
  for (const cell of cells) { cell.ariaSelected = String(cell === own); cell.tabIndex = -1; }
  (own ?? cells[0] ?? {}).tabIndex = 0;
}

function gridKeys(event) {
  const cell = event.target.closest(".cell");
  if (!cell) return;
  const rows = [...$("grid").children].map(row => [...row.querySelectorAll(".cell")]).filter(row => row.length);
  const r = rows.findIndex(row => row.includes(cell)), c = rows[r].indexOf(cell), last = rows[r].length - 1;
  const to = { ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1], ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], Home: [r, 0], End: [r, last],
               PageUp: [0, c], PageDown: [rows.length - 1, c] }[event.key];
  if (!to) return;
  event.preventDefault();
  const row = rows[Math.max(0, Math.min(rows.length - 1, to[0]))], next = row[Math.max(0, Math.min(row.length - 1, to[1]))];
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function detail() {
  const h = chosen;
  if (!h) { $("headname").textContent = "No heads in this report"; return; }
  const uniform = v => v === undefined ? "" : ` (uniform ${number(v)})`, ci = h.accuracy_drop_ci;
  const rows = [["kind", clean(h.kind)], ["accuracy without it", number(h.accuracy)],
    ["accuracy drop", number(h.accuracy_drop) + (ci ? ` (95 % ${between(ci)})` : "")],
    ["cut at the last token only", number(h.drop_at_query)], ["cut before it only", number(h.drop_elsewhere)],
    ["cut in segments only", number(h.drop_in_segments)], ["segments unread at the last", number(h.drop_reading_segments)],
    ...(h.examples === undefined ? [] : [["examples until testing stopped", h.examples]]),
    ["log-probability drop, nats", number(h.logprob_drop)],
    ...(h.screen_drop === undefined ? [] : [["estimated by the screen, nats", number(h.screen_drop) + (h.screen_place ? `, place ${h.screen_place}` : "")]]),
    ...(h.screen_exact === undefined ? [] : [[`on ${h.screen_exact.examples} examples, nats`,
      `${number(h.screen_exact.logprob_drop)}, place ${h.screen_exact.gradient_place} before`]]),
    ["near ties", h.near_ties ?? "–"],
    ["gather", number(h.gather) + uniform(h.gather_uniform)], ["aggregate", number(h.aggregate) + uniform(h.aggregate_uniform)],
    ["target", number(h.target) + uniform(h.target_uniform)], ["entropy, nats", number(h.entropy)],
    ["entropy, normalised", number(h.entropy_norm)], ["row mass", number(h.row_mass)]];
  $("headname").replaceChildren(long(h) + " ", badge(h.role));
  $("detail").replaceChildren(...rows.map(([k, v]) => make("tr", {}, make("th", { textContent: k, scope: "row" }), make("td", { className: "num", textContent: v }))));
}

// The maps that were recorded: small ones to choose from, two large ones with their tokens.
const slots = { left: null, right: null };  // Gather heads show on the left, all others on the right
const views = { left: null, right: null };
const slotOf = h => h.role === "gather" ? "left" : "right";

function openMap(slot, h) {
  const map = tiled[maps.maps.indexOf(mapOf(h))], strip = new Strip(map, (i, j) => { view.point(i, j); view.reveal(i, j); });
  views[slot]?.close();
  const view = views[slot] = new MapView(map, long(h), i => strip.show(i));
  const held = map.finest.factor > 1 ? make("p", { className: "legend", textContent:
    `This page holds the largest entry of every ${map.finest.factor} × ${map.finest.factor}, and the whole last row; headlens map writes whole maps.` }) : "";
  $(slot).replaceChildren(make("h3", {}, long(h), badge(h.role)), view.readout, make("div", { className: "scroll" }, view.canvas), view.tools,
    scale(map.lowest, map.highest, POWER, v => map.format(v)), held, strip.element);
  view.place($(slot).clientWidth - 12);
  strip.show(map.size - 1);
}

function thumb(h) {
  const map = tiled[maps.maps.indexOf(mapOf(h))], canvas = make("canvas", { width: 144, height: 144 });
  const paint = () => {
    const tile = map.size && map.tile(map.coarsest, 0, 0);
    if (!tile) return;
    const c = canvas.getContext("2d");
    c.imageSmoothingEnabled = tile.columns > 144;
    c.drawImage(map.picture(tile), 0, 0, 144, 144);
    map.waiting.delete(paint);
  };
  map.waiting.add(paint);
  paint();
  return make("button", { type: "button", className: h.role, title: long(h), dataset: { head: `${h.layer}.${h.head}` }, onclick: () => choose(h) }, canvas, short(h));
}

function thumbs() {
  const kept = maps.maps.map(headOf).filter(Boolean);
  $("mapsection").hidden = !kept.length;
  $("thumbs").replaceChildren(...kept.map(thumb));
}

/// Opens the chosen head's map, and at first one in each place.
function drawMaps() {
  const kept = maps.maps.map(headOf).filter(Boolean), before = { ...slots };
  if (!kept.length) return;
  if (chosen && mapOf(chosen)) slots[slotOf(chosen)] = chosen;
  slots.right ??= kept.find(h => h.role === "aggregate") ?? kept.find(h => h.role !== "gather");
  slots.left ??= kept.find(h => h.role === "gather") ?? kept.find(h => h !== slots.right);
  for (const slot of ["left", "right"]) if (slots[slot] && slots[slot] !== before[slot]) openMap(slot, slots[slot]);
  for (const button of $("thumbs").children) button.ariaPressed = String(Object.values(slots).some(h => h && `${h.layer}.${h.head}` === button.dataset.head));
  $("nomap").hidden = !chosen || Boolean(mapOf(chosen));
  if (chosen) $("nomap").textContent = `The map of ${long(chosen).toLowerCase()} was not recorded. Its page: headlens map ${scores.model.name} --heads ${chosen.layer}.${chosen.head} --text … --out map.html`;
}

// A map on the screen: only the tiles in view are drawn, at the level that fits; wheel, keys and dragging move the view.
const EDGE = 76, LABELS_FROM = 9;  // pixels for tokens' names; pixels an entry from which they are written
const visible = text => text.trim() === "" ? text.replaceAll("\n", "⏎").replaceAll(" ", "␣") || "∅" : text.trim().slice(0, 9);

class MapView {
  /// `onRow(i)`: a row was picked to be read in the strip.
  constructor(map, words, onRow) {
    this.map = map;
    this.onRow = onRow;
    this.cursor = null;
    this.canvas = make("canvas", { className: "plot", tabIndex: 0, ariaLabel: `map of ${words}; arrow keys read entries, plus and minus zoom`, role: "application" });
    this.readout = make("div", { className: "readout soft", role: "status" });
    const tool = (text, words, act) => make("button", { type: "button", textContent: text, title: words, ariaLabel: words, onclick: act });
    this.state = make("span");
    this.tools = make("div", { className: "tools" }, tool("+", "zoom in", () => this.zoomBy(2)), tool("−", "zoom out", () => this.zoomBy(.5)),
      tool("all", "show the whole map", () => this.fit()), tool("last row", "show the end of the last row", () => this.show(map.size - 1, map.size - 1, 12)), this.state);
    this.redraw = () => { if (!this.due) this.due = requestAnimationFrame(() => { this.due = 0; this.draw(); }); };
    map.waiting.add(this.redraw);
    this.listen();
    this.hint();
  }

  /// Lays the view out in `room` pixels and shows all of the map.
  place(room) {
    this.side = Math.max(160, Math.min(room, 640) - EDGE - 2);
    const n = this.map.size;
    this.least = Math.min(26, this.side / Math.max(1, n));
    this.plot = Math.min(this.side, Math.ceil(this.least * n));  // short prompts need less
    this.fit();
  }
  close() { this.map.waiting.delete(this.redraw); cancelAnimationFrame(this.due); }
  fit() { this.zoom = this.least; this.x = this.y = 0; this.redraw(); }

  /// Shows the entry (i, j) in the middle, an entry having `zoom` pixels.
  show(i, j, zoom = this.zoom) {
    this.zoom = Math.max(this.least, Math.min(40, zoom));
    this.x = j - this.plot / this.zoom / 2;
    this.y = i - this.plot / this.zoom / 2;
    this.clamp();
  }
  clamp() {
    const most = Math.max(0, this.map.size - this.plot / this.zoom);
    this.x = Math.max(0, Math.min(most, this.x));
    this.y = Math.max(0, Math.min(most, this.y));
    this.redraw();
  }
  /// Zooms about a point of the plot: the cursor's, or its middle.
  zoomBy(by, px, py) {
    if (px === undefined && this.cursor) [py, px] = [(this.cursor[0] + .5 - this.y) * this.zoom, (this.cursor[1] + .5 - this.x) * this.zoom];
    px ??= this.plot / 2; py ??= this.plot / 2;
    const i = this.y + py / this.zoom, j = this.x + px / this.zoom;
    this.zoom = Math.max(this.least, Math.min(40, this.zoom * by));
    this.y = i - py / this.zoom; this.x = j - px / this.zoom;
    this.clamp();
  }

  entryAt(event) { return [Math.floor(this.y + (event.offsetY - EDGE) / this.zoom), Math.floor(this.x + (event.offsetX - EDGE) / this.zoom)]; }
  inside(event) { return event.offsetX >= EDGE && event.offsetY >= EDGE; }

  listen() {
    const c = this.canvas;
    let from = null, moved = false;
    c.onpointerdown = e => { from = [e.offsetX, e.offsetY, this.x, this.y]; moved = false; c.setPointerCapture(e.pointerId); };
    c.onpointerup = e => { if (from && !moved && this.inside(e)) { this.point(...this.entryAt(e)); this.pick(); } from = null; c.classList.remove("panning"); };
    c.onpointermove = e => {
      if (!from) { if (this.inside(e)) this.point(...this.entryAt(e)); else this.point(-1, -1); return; }
      const [dx, dy] = [e.offsetX - from[0], e.offsetY - from[1]];
      moved ||= Math.hypot(dx, dy) > 4;
      if (!moved) return;
      c.classList.add("panning");
      this.x = from[2] - dx / this.zoom; this.y = from[3] - dy / this.zoom;
      this.clamp();
    };
    c.onpointerleave = () => { if (!from && document.activeElement !== c) this.point(-1, -1); };
    c.addEventListener("wheel", e => {  // a page that scrolls past is not caught
      if (document.activeElement !== c && !e.ctrlKey) return;
      e.preventDefault();
      this.zoomBy(2 ** (-Math.max(-120, Math.min(120, e.deltaY)) / 240), e.offsetX - EDGE, e.offsetY - EDGE);
    }, { passive: false });
    c.onkeydown = e => this.key(e);
  }

  key(e) {
    const n = this.map.size, page = Math.max(1, Math.floor(this.plot / this.zoom / 2)), [i, j] = this.cursor ?? [n - 1, 0];
    const act = { "+": () => this.zoomBy(2), "=": () => this.zoomBy(2), "-": () => this.zoomBy(.5), "0": () => this.fit(), Enter: () => this.pick() }[e.key];
    const to = { ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1], Home: [i, 0], End: [i, i],
                 PageUp: [i - page, j], PageDown: [i + page, j] }[e.key];
    if (!act && !to || e.ctrlKey || e.metaKey || !n) return;
    e.preventDefault();
    if (act) return act();
    const row = Math.max(0, Math.min(n - 1, to[0])), column = Math.max(0, Math.min(row, to[1]));
    this.point(row, column);
    this.reveal(row, column);
  }

  /// Moves the view if the entry is outside.
  reveal(i, j) {
    const span = this.plot / this.zoom;
    if (i < this.y || i + 1 > this.y + span || j < this.x || j + 1 > this.x + span) this.show(i, j);
  }

  pick() { if (this.cursor) this.onRow(this.cursor[0]); }
  point(i, j) {
    this.cursor = i >= 0 && i < this.map.size && j >= 0 && j <= i ? [i, j] : null;
    this.redraw();
    this.hint();
  }

  /// The entry under the cursor in words. Where only a coarser level was kept, its block's.
  hint() {
    const { map } = this;
    if (!this.cursor) { this.readout.textContent = "Point at an entry to read it."; return; }
    const [i, j] = this.cursor, value = map.at(i, j), f = map.finest.factor, first = map.text.first_position;
    const token = k => `${first + k} ${JSON.stringify(map.text.tokens[k])}`;
    const block = k => `${first + k - k % f} to ${first + Math.min(map.size - 1, k - k % f + f - 1)}`;
    this.readout.textContent = (f === 1 ? `row ${token(i)} reads column ${token(j)}: ` : `rows ${block(i)}, columns ${block(j)}, their largest: `) +
      (value === undefined ? "…" : map.format(value));
  }

  draw() {
    const { canvas, map, plot, zoom } = this, ratio = window.devicePixelRatio || 1, side = EDGE + plot + 1, c = canvas.getContext("2d");
    if (canvas.width !== Math.round(side * ratio)) { canvas.width = canvas.height = Math.round(side * ratio); canvas.style.width = canvas.style.height = side + "px"; }
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, side, side);
    c.save();
    c.beginPath(); c.rect(EDGE, EDGE, plot, plot); c.clip();
    c.imageSmoothingEnabled = false;
    const level = map.levelFor(zoom * ratio);
    const missing = map.size ? this.drawTiles(c, level) : 0;
    this.drawBoxes(c);
    if (this.cursor) {
      const [i, j] = this.cursor;
      c.fillStyle = css("--ink"); c.globalAlpha = zoom > 6 ? .07 : .2;
      c.fillRect(EDGE, EDGE + (i - this.y) * zoom, plot, Math.max(1, zoom));
      c.fillRect(EDGE + (j - this.x) * zoom, EDGE, Math.max(1, zoom), plot);
    }
    c.restore();
    c.strokeStyle = css("--line");
    c.strokeRect(EDGE - .5, EDGE - .5, plot + 1, plot + 1);
    this.drawLabels(c);
    if (this.cursor && this.readout.textContent.endsWith("…")) this.hint();
    const span = from => `${map.text.first_position + Math.floor(from)} to ${map.text.first_position + Math.min(map.size, Math.ceil(from + plot / zoom)) - 1}`;
    this.state.textContent = zoom > this.least ? `rows ${span(this.y)}, columns ${span(this.x)}` : "";
    Object.assign(canvas.dataset, { factor: level.factor, missing, zoom });
  }

  /// Draws the level's tiles in view; from the coarsest level where one is still being unpacked. Returns how many were.
  drawTiles(c, level) {
    const { map, plot, zoom } = this, span = maps.tile * level.factor, place = (k, from) => EDGE + Math.round((k - from) * zoom);
    const end = Math.ceil(plot / zoom);
    let drawn = 0, missing = 0;
    for (let row = Math.floor(this.y / span); row * span < Math.min(map.size, this.y + end); ++row) {
      for (let column = Math.floor(this.x / span); column <= row && column * span < this.x + end; ++column) {
        const tile = map.tile(level, row, column), [x0, y0] = [place(column * span, this.x), place(row * span, this.y)];
        ++drawn;
        if (tile) {
          const w = place(column * span + tile.columns * level.factor, this.x) - x0, h = place(row * span + tile.rows * level.factor, this.y) - y0;
          c.drawImage(map.picture(tile), x0, y0, w, h);
          continue;
        }
        ++missing;
        const rough = map.tile(map.coarsest, 0, 0), part = span / map.coarsest.factor;
        if (rough) c.drawImage(map.picture(rough), column * part, row * part, part, part, x0, y0, span * zoom, span * zoom);
      }
    }
    this.canvas.dataset.tiles = drawn;
    return missing;
  }

  drawBoxes(c) {
    const { map, zoom } = this;
    const box = (i, j, count, colour, width) => { c.strokeStyle = colour; c.lineWidth = width;
      c.strokeRect(EDGE + (j - this.x) * zoom + .5, EDGE + (i - this.y) * zoom + .5, Math.max(2, count * zoom - 1), Math.max(2, zoom - 1)); };
    map.text.segments.forEach(([start, end], k) => {
      const own = k === map.text.target;
      if (!own && zoom < 5) return;
      const colour = css(own ? "--ink" : "--none"), width = own ? 2 : 1;
      box(end, start, end - start + 1, colour, width);
      box(map.size - 1, end, 1, colour, width);
    });
  }

  /// Tokens' names where there is room, else their positions.
  drawLabels(c) {
    const { map, zoom, plot } = this, named = zoom >= LABELS_FROM, last = Math.min(map.size, Math.ceil(Math.max(this.x, this.y) + plot / zoom));
    const every = named ? 1 : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000].find(s => s * zoom >= 42) ?? 5000;
    c.font = named ? `${Math.min(12, zoom)}px ui-monospace, "DejaVu Sans Mono", monospace` : "11px system-ui, sans-serif";
    c.textBaseline = "middle";
    const first = Math.floor(Math.min(this.x, this.y) / every) * every;
    for (let k = first; k < last; k += every) {
      const text = named ? visible(map.text.tokens[k]) : String(map.text.first_position + k);
      const across = EDGE + (k + .5 - this.x) * zoom, down = EDGE + (k + .5 - this.y) * zoom;
      if (down >= EDGE && down <= EDGE + plot) { c.fillStyle = css(this.cursor?.[0] === k ? "--ink" : "--soft"); c.textAlign = "right"; c.fillText(text, EDGE - 5, down); }
      if (across < EDGE || across > EDGE + plot) continue;
      c.fillStyle = css(this.cursor?.[1] === k ? "--ink" : "--soft");
      c.save(); c.translate(across, EDGE - 5); c.rotate(-Math.PI / 2); c.textAlign = "left"; c.fillText(text, 0, 0); c.restore();
    }
  }
}

// A map as its JSON holds it: levels of tiles, unpacked one at a time, when they are drawn or read.
const POWER = .5;  // of colours: small entries are seen
const TILES_KEPT = 160;
const unpacked = new Map();  // "map/level/row/column" -> tile; the least lately used first

/// Base64 of a zlib stream of high bytes, then of low bytes -> Int16Array.
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer()), count = bytes.length / 2, values = new Int16Array(count);
  for (let k = 0; k < count; ++k) values[k] = bytes[k] << 8 | bytes[count + k];
  return values;
}

class TiledMap {
  constructor(entry, index) {
    Object.assign(this, entry);
    this.index = index;
    this.text = maps.prompts[entry.prompt];
    this.top = Math.max(-entry.lowest, entry.highest);
    this.digits = Math.max(0, Math.min(12, Math.ceil(-Math.log10(entry.scale))));
    this.ending = null;        // its last row, once it was asked for
    this.waiting = new Set();  // called when a tile has come
  }

  get finest() { return this.levels[0]; }
  get coarsest() { return this.levels[this.levels.length - 1]; }
  format(value) { return signed(value.toFixed(this.digits)); }

  /// The coarsest level whose entries are no larger than a pixel or so; `pixels` an entry of the map has.
  levelFor(pixels) { return this.levels.findLast(level => level.factor * pixels <= 1.5) ?? this.finest; }

  /// A tile, or undefined while it is being unpacked.
  tile(level, row, column) {
    const key = `${this.index}/${level.factor}/${row}/${column}`, known = unpacked.get(key);
    if (known) { unpacked.delete(key); unpacked.set(key, known); return known.values && known; }
    const tile = { rows: Math.min(maps.tile, level.size - row * maps.tile), columns: Math.min(maps.tile, level.size - column * maps.tile) };
    unpacked.set(key, tile);
    if (unpacked.size > TILES_KEPT) unpacked.delete(unpacked.keys().next().value);
    tile.ready = unpack(level.tiles[row * (row + 1) / 2 + column]).then(values => { tile.values = values; for (const call of this.waiting) call(); });
    return undefined;
  }

  /// The tile's picture, one pixel an entry.
  picture(tile) {
    if (tile.picture) return tile.picture;
    const canvas = make("canvas", { width: tile.columns, height: tile.rows }), context = canvas.getContext("2d");
    const image = context.createImageData(tile.columns, tile.rows), pixels = new Uint32Array(image.data.buffer);
    const colour = name => { const [r, g, b] = css(name).split(",").map(Number); return (b << 16 | g << 8 | r) >>> 0; };
    const positive = colour("--positive"), negative = colour("--negative"), units = this.top / this.scale || 1;
    for (let k = 0; k < pixels.length; ++k) {
      const v = tile.values[k];
      if (v) pixels[k] = ((v < 0 ? negative : positive) | Math.round(255 * Math.min(1, Math.abs(v) / units) ** POWER) << 24) >>> 0;
    }
    context.putImageData(image, 0, 0);
    return tile.picture = canvas;
  }

  /// An entry of the finest level kept; undefined while its tile is being unpacked.
  at(i, j) {
    const { factor } = this.finest, row = Math.floor(i / factor), column = Math.floor(j / factor), size = maps.tile;
    const tile = this.tile(this.finest, Math.floor(row / size), Math.floor(column / size));
    return tile && tile.values[row % size * tile.columns + column % size] * this.scale;
  }

  /// What token i reads of tokens 0 .. i; null where only a coarser level was kept.
  async row(i) {
    if (i === this.size - 1) return Float64Array.from(await (this.ending ??= unpack(this.last_row)), v => v * this.scale);
    if (this.finest.factor > 1) return null;
    const values = new Float64Array(i + 1), size = maps.tile, row = Math.floor(i / size);
    for (let column = 0; column <= row; ++column) {
      let tile;
      while (!(tile = this.tile(this.finest, row, column))) await unpacked.get(`${this.index}/${this.finest.factor}/${row}/${column}`).ready;
      for (let j = column * size; j < Math.min(i + 1, (column + 1) * size); ++j) values[j] = tile.values[i % size * tile.columns + j % size] * this.scale;
    }
    return values;
  }
}

const tiled = maps.maps.map((entry, index) => new TiledMap(entry, index));
/// Colours follow the light or the dark.
function forgetPictures() { for (const tile of unpacked.values()) delete tile.picture; }

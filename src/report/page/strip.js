// A prompt as text, its tokens coloured by what one row of a map reads of them.
const STRIP_TOP = .42;  // of the colour: text stays readable on the strongest

class Strip {
  /// `onGo(i, j)`: the entry (i, j) was asked for.
  constructor(map, onGo) {
    this.map = map;
    this.onGo = onGo;
    this.title = make("h3");
    this.most = make("ol", { className: "most" });
    this.readout = make("div", { className: "readout soft", role: "status" });
    this.readout.style.minHeight = "1.6em";
    this.box = make("div", { className: "strip", tabIndex: 0, role: "group", ariaLabel: "the prompt's tokens, coloured by what is read of them; arrow keys read them" });
    const ends = new Map(map.text.segments.map(([, end], k) => [end, k === map.text.target ? "target" : "end"]));
    this.spans = map.text.tokens.map((token, k) => make("span", { textContent: token.replaceAll("\n", "⏎\n") || "∅", className: ends.get(k) ?? "", dataset: { k } }));
    this.box.append(...this.spans);
    this.box.onpointermove = e => this.point(e.target.dataset.k === undefined ? -1 : +e.target.dataset.k);
    this.box.onpointerleave = () => this.point(-1);
    this.box.onkeydown = e => {
      const to = { ArrowLeft: this.here - 1, ArrowRight: this.here + 1, Home: 0, End: this.row }[e.key];
      if (to === undefined || !this.values) return;
      e.preventDefault();
      this.point(Math.max(0, Math.min(this.row, to)));
      this.spans[this.here]?.scrollIntoView({ block: "nearest" });
    };
    this.here = -1;
    this.element = make("div", {}, this.title, this.box, this.readout, this.most);
  }

  /// Colours the tokens by row i of the map.
  async show(i) {
    this.asked = i;
    const values = await this.map.row(i);
    if (this.asked !== i) return;  // another was asked for meanwhile
    this.row = i;
    this.values = values;
    this.title.textContent = (i === this.map.size - 1 ? "What the last row reads" : `What row ${this.map.text.first_position + i} reads`) +
      (values ? "" : ": this page holds blocks of it only");
    const top = values ? values.reduce((most, v) => Math.max(most, Math.abs(v)), 0) : 0;
    const inks = { true: css("--negative"), false: css("--positive") };
    this.spans.forEach((span, k) => {
      const v = values?.[k] ?? 0;
      span.style.background = v ? `rgba(${inks[v < 0]}, ${(STRIP_TOP * strength(v, top, POWER)).toFixed(3)})` : "";
      span.classList.toggle("later", k > i);
      span.classList.toggle("reader", k === i);
    });
    this.list(values ?? []);
    this.point(-1);
  }

  /// The tokens read most, in figures.
  list(values) {
    const order = Array.from(values.keys()).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a])).slice(0, 5);
    this.most.replaceChildren(...order.map(k => make("li", {},
      make("button", { type: "button", className: "pick", title: "show it", onclick: () => this.go(k) }, `${this.map.text.first_position + k} `,
        make("code", { textContent: JSON.stringify(this.map.text.tokens[k]) })), ` ${this.map.format(values[k])}`)));
  }

  /// Scrolls the strip to a token, and the map to where it is read.
  go(k) {
    this.point(k);
    const span = this.spans[k], { box } = this;
    box.scrollTop = span.offsetTop - box.clientHeight / 2;
    this.onGo(this.row, k);
  }

  point(k) {
    this.spans[this.here]?.classList.remove("here");
    this.here = this.values && k <= this.row ? k : -1;
    this.spans[this.here]?.classList.add("here");
    this.readout.textContent = this.here < 0 ? "Read most:" :
      `column ${this.map.text.first_position + k} ${JSON.stringify(this.map.text.tokens[k])}: ${this.map.format(this.values[k])}`;
  }
}

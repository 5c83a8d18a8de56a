// The report's data, what was chosen of it, and the head of the page.
const { scores, maps } = JSON.parse($("data").textContent);
const FIGURES = { accuracy_drop: "accuracy drop", logprob_drop: "log-probability drop", screen_drop: "estimated drop", entropy_norm: "entropy",
                  gather: "gather", aggregate: "aggregate", target: "target" };
const byDrop = [...scores.heads].sort((a, b) => (b.accuracy_drop ?? -Infinity) - (a.accuracy_drop ?? -Infinity));
const named = byDrop.filter(h => h.role !== "none");
const mapsOnly = scores.base.examples === 0;  // a page of `headlens map`: nothing was measured
const isMixed = model => new Set(model.layer_kinds).size > 1 || model.layer_kinds.some(kind => kind.includes("+"));
let figure = "accuracy_drop", chosen = named[0] ?? byDrop[0];

const mapOf = h => maps.maps.find(m => m.layer === h.layer && m.first === h.head);
const headOf = m => scores.heads.find(h => h.layer === m.layer && h.head === m.first);
const badge = role => mapsOnly ? "" : make("span", { className: "badge " + role,
  textContent: role === "none" ? "no role" : role === "gather" ? "Gather" : "Aggregate" });
/// A head's name that chooses it.
const picker = h => make("button", { type: "button", className: "pick", textContent: short(h), onclick: () => choose(h) });

function header() {
  const { base, model, task } = scores;
  const title = mapsOnly ? `Maps of ${model.name}` : `The retrieval heads of ${model.name}`;
  document.title = `${title} · headlens`;
  $("title").textContent = title;
  $("subtitle").textContent = `${clean(model.family)}, ${model.layers} layers, ${model.parameters.toLocaleString("en")} parameters` +
    (mapsOnly ? "" : ` · task ${task.spec}`);
  for (const id of ["tiles", "circuitsection", "gridsection", "barssection"]) $(id).hidden = mapsOnly;
  const tile = (value, words) => make("div", {}, make("b", { textContent: value }), make("span", { className: "soft", textContent: words }));
  const names = (role, word) => {
    const own = named.filter(h => h.role === role);
    return tile(own.slice(0, 4).map(short).join("  ") + (own.length > 4 ? " …" : "") || "none", `${word} ${own.length === 1 ? "head" : "heads"}, layer.head`);
  };
  $("tiles").replaceChildren(
    tile(number(base.accuracy), `accuracy, 95 % ${between(base.accuracy_ci)}`),
    tile(base.examples, `examples, ${base.near_ties} near ties`), names("gather", "Gather"), names("aggregate", "Aggregate"),
    ...(byDrop[0]?.accuracy_drop === undefined ? [] : [tile(number(byDrop[0].accuracy_drop), `largest drop, ${long(byDrop[0]).toLowerCase()}`)]));
}

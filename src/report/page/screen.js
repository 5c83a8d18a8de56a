// The screen against exact ablation: the heads that were ablated, in the screen's order.
function screened() {
  const s = scores.screen;
  $("screensection").hidden = !s;
  if (!s) return;
  const shown = scores.heads.filter(h => h.accuracy_drop !== undefined && h.screen_place).sort((a, b) => a.screen_place - b.screen_place).slice(0, 20);
  const cell = content => make("td", { className: "num" }, content);
  const rows = shown.map(h => make("tr", {}, cell(String(h.screen_place)), cell(picker(h)), cell(number(h.screen_drop)),
    ...(s.shortlist ? [cell(number(h.screen_exact?.logprob_drop))] : []), cell(number(h.logprob_drop)), cell(number(h.accuracy_drop))));
  const titles = ["place", "head", "estimated", ...(s.shortlist ? [`on ${s.shortlist_examples} examples`] : []), "exact, nats", "accuracy drop"];
  const many = n => n.toLocaleString("en");
  const missed = s.missed === undefined ? "" :
    s.missed.length ? ` Heads that matter and were not chosen: ${s.missed.map(h => h.join(".")).join(", ")}.` : " No head that matters was missed.";
  const words = `${many(s.heads)} heads or channels estimated from gradients, ` +
    (s.shortlist ? `${many(s.shortlist)} measured on ${s.shortlist_examples} examples, ` : "") + `${many(s.chosen)} chosen, ${many(s.ablated)} ablated.` +
    (s.rank_correlation === undefined ? "" : ` Rank correlation with the exact drop among them: ${number(s.rank_correlation)}.`) + missed;
  $("screen").replaceChildren(make("p", { textContent: words }), make("div", { className: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, ...titles.map(t => make("th", { textContent: t, scope: "col", className: "num" })))), make("tbody", {}, ...rows))));
}

// Ablation bars with their intervals: what accuracy loses without each head.
function bars() {
  const shown = byDrop.filter(h => h.accuracy_drop !== undefined).slice(0, 20);
  $("barssection").hidden = mapsOnly || !shown.length;
  if (!shown.length) return;
  const ends = shown.flatMap(h => [h.accuracy_drop, ...(h.accuracy_drop_ci ?? [])]);
  const low = Math.min(0, ...ends), high = Math.max(1e-3, ...ends), x = v => 4 + (v - low) / (high - low) * 592;
  $("bars").className = "bars";
  $("bars").replaceChildren(...shown.flatMap(h => {
    const zero = x(0), end = x(h.accuracy_drop), ci = h.accuracy_drop_ci;
    const bar = svg("svg", { viewBox: "0 0 600 20", preserveAspectRatio: "none", "aria-hidden": true },
      svg("line", { x1: zero, x2: zero, y1: 0, y2: 20, stroke: css("--soft"), "vector-effect": "non-scaling-stroke" }),
      svg("rect", { x: Math.min(zero, end), y: 4, width: Math.max(.5, Math.abs(end - zero)), height: 12, fill: css("--" + h.role), opacity: .6 }));
    if (ci) bar.append(svg("path", { d: `M${x(ci[0])},10H${x(ci[1])}M${x(ci[0])},5v10M${x(ci[1])},5v10`, stroke: css("--ink"), fill: "none", "vector-effect": "non-scaling-stroke" }));
    return [make("div", {}, picker(h)), make("div", { className: "role" }, badge(h.role)), bar,
            make("div", { className: "num", textContent: number(h.accuracy_drop) + (ci ? ` (${between(ci)})` : "") })];
  }));
}

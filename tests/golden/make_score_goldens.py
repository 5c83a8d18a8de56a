#!/usr/bin/env python3
# tests/golden: scores of heads worked out in plain Python from maps that transformers gave.
"""Writes scores/expected.json: for golden models, what their recorded maps and residuals (golden.safetensors: transformers'
attention patterns, and for state-space layers the recurrence written out one position after another) come to: entropies,
masses, head detectors, direct logit attribution and the logit lens. Loops over single entries, in float64.

    pip install numpy safetensors
    python tests/golden/make_score_goldens.py
"""

import json
import math
from pathlib import Path

import numpy
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parent
MAPS = {"llama": ["blocks.0.attn.hook_pattern", "blocks.2.attn.hook_pattern"], "mamba2": ["blocks.0.mixer.hook_map"],
        "llamba": ["blocks.1.mixer.hook_map"], "falcon_mamba": ["blocks.2.mixer.hook_map"], "bamba": ["blocks.1.attn.hook_pattern", "blocks.2.mixer.hook_map"]}
SEGMENTS = [[[1, 4], [5, 9], [11, 13]], [[0, 2], [6, 6]]]  # of each prompt, both ends included
CHOICES = [[5, 61, 40], [7, 30]]
ANSWERS = [1, 0]
CHANNEL_GROUPS = 4  # of a Mamba-1 layer


def row_shares(m):
    """P: every row of |M| divided by its sum."""
    return [[abs(x) / sum(abs(y) for y in row) for x in row] for row in m]


def row_figures(m, segments, answer):
    """Figures of one head's map [query, key] in one prompt (docs/metrics.md)."""
    p, q = row_shares(m), len(m) - 1
    entropy = -sum(x * math.log(x) for x in p[q] if x > 0)
    return {
        "entropy": entropy, "entropy_norm": entropy / math.log(q + 1), "effective": math.exp(entropy), "peak": max(p[q]),
        "row_mass": sum(abs(x) for x in m[q]),
        "gather": sum(sum(p[end][start:end + 1]) for start, end in segments) / len(segments),
        "gather_uniform": sum((end - start + 1) / (end + 1) for start, end in segments) / len(segments),
        "aggregate": sum(p[q][end] for _, end in segments), "aggregate_uniform": len(segments) / (q + 1),
        "target": sum(p[q][segments[answer][0]:segments[answer][1] + 1]),
        "target_uniform": (segments[answer][1] - segments[answer][0] + 1) / (q + 1),
    }


def detectors(m, ids):
    """Shares of the whole map P on the patterns that head_detector knows."""
    p, n = row_shares(m), len(ids)
    everything = sum(sum(row) for row in p)
    on = lambda keep: sum(p[i][j] for i in range(n) for j in range(i + 1) if keep(i, j)) / everything
    return {"previous_token": on(lambda i, j: j == i - 1), "duplicate_token": on(lambda i, j: j < i and ids[j] == ids[i]),
            "induction": on(lambda i, j: j >= 1 and ids[j - 1] == ids[i])}


def mean(dicts):
    return {key: sum(d[key] for d in dicts) / len(dicts) for key in dicts[0]}


def head_entries(name, maps, ids):
    """Each head, or group of channels: by example what single rows say, and what the whole map does."""
    count = maps.shape[1]
    groups = CHANNEL_GROUPS if name == "falcon_mamba" else count
    for g in range(groups):
        first, end = g * count // groups, (g + 1) * count // groups
        of_example = lambda figures: [mean([figures(maps[e][h].tolist(), e) for h in range(first, end)]) for e in range(len(ids))]
        yield {"first": first, "last": end - 1,
               "examples": of_example(lambda m, e: row_figures(m, SEGMENTS[e], ANSWERS[e])),
               "detectors": mean(of_example(lambda m, e: detectors(m, ids[e])))}


def lens(golden, weights, norm, layers):
    """Direct effects on logit(answer) - mean logit(others) at the last token, and every layer's own reading of it."""
    scale_of = lambda x: math.sqrt(sum(v * v for v in x) / len(x) + 1e-5)
    unembed, weight, out = weights["lm_head.weight"].astype(float), weights[norm].astype(float), []
    for e, choices in enumerate(CHOICES):
        others = [c for c in choices if c != choices[ANSWERS[e]]]
        direction = unembed[choices[ANSWERS[e]]] - sum(unembed[c] for c in others) / len(others)
        scale = scale_of(golden[f"blocks.{layers - 1}.hook_resid_post"][e, -1].astype(float))
        u = direction * weight / scale
        effects = {"embedding": u @ golden["hook_embed"][e, -1]}
        for layer in range(layers):
            mlp = golden.get(f"blocks.{layer}.hook_mlp_out")
            if mlp is not None:
                effects[f"mlp {layer}"] = u @ mlp[e, -1]
            result, z = golden.get(f"blocks.{layer}.attn.hook_result"), golden.get(f"blocks.{layer}.mixer.hook_z")
            if z is not None:
                projection = weights[f"backbone.layers.{layer}.mixer.out_proj.weight"].astype(float)
                width = z.shape[-1]
                result = numpy.stack([projection[:, h * width:(h + 1) * width] @ z[e, -1, h] for h in range(z.shape[2])])
            elif result is not None:
                result = result[e, -1]
            for h in range(0 if result is None else len(result)):
                effects[f"head {layer}.{h}"] = u @ result[h]
            resid = golden[f"blocks.{layer}.hook_resid_post"][e, -1].astype(float)
            logits = unembed @ (resid * weight / scale_of(resid))
            effects[f"lens {layer}"] = logits[choices[ANSWERS[e]]] - sum(logits[c] for c in others) / len(others)
            top = max(logits)
            effects[f"logprob {layer}"] = logits[choices[ANSWERS[e]]] - top - math.log(sum(math.exp(x - top) for x in logits))
        out.append({key: float(value) for key, value in effects.items()})
    return mean(out)


def main():
    models = {}
    for name, maps in MAPS.items():
        golden = {key: value.astype(float) if value.dtype.kind == "f" else value for key, value in load_file(HERE / name / "golden.safetensors").items()}
        ids = golden["input_ids"].tolist()
        entry = models[name] = {"ids": ids, "layers": {key.split(".")[1]: list(head_entries(name, golden[key], ids)) for key in maps}}
        if name in ("llama", "mamba2"):
            weights = load_file(HERE / name / "model.safetensors")
            entry["effects"] = lens(golden, weights, "model.norm.weight" if name == "llama" else "backbone.norm_f.weight", 3)
    rounded = json.loads(json.dumps(models), parse_float=lambda text: float(f"{float(text):.10g}"))
    expected = {"segments": SEGMENTS, "choices": CHOICES, "answers": ANSWERS, "models": rounded}
    (HERE / "scores" / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()

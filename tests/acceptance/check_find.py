#!/usr/bin/env python3
# tests/acceptance: scores.json held against a plain loop over heads in transformers.
"""Recomputes base accuracy and, head by head, ablated accuracy and the drop of the right choice's log-probability with
transformers: one forward a choice, no batching, no padding, a pre-hook that zeroes the head's slice of the output
projection's input. Attention figures (entropy, gather, aggregate, target) come from output_attentions. Exits 1 if
anything differs.

    python check_find.py MODEL_DIR TASK.jsonl SCORES.json [--dtype float64]

Accuracies must be the same but for near ties: a head may differ by at most its own `near_ties` examples (and base's).
"""
import argparse
import json
import math
import sys

import tokenizers
import torch
import transformers


class Loop:
    def __init__(self, directory, task, dtype, placement):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=getattr(torch, dtype), attn_implementation="eager"
        ).eval()
        self.tokenizer = tokenizers.Tokenizer.from_file(f"{directory}/tokenizer.json")
        self.examples = [self.read(json.loads(line)) for line in open(task) if line.strip()]
        self.placement = placement

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def read(self, line):
        prompt = self.encode(line["prompt"])
        choices = [self.encode(line["prompt"] + choice)[len(prompt) :] for choice in line["choices"]]
        return prompt, choices, line["answer"], line.get("segments", [])

    def choice_score(self, prompt, choice):
        ids = torch.tensor([prompt + choice])
        logprobs = self.model(ids, use_cache=False).logits[0].double().log_softmax(-1)
        return sum(logprobs[len(prompt) + i - 1, token].item() for i, token in enumerate(choice))

    def run(self):
        """Right or wrong, and the right choice's score, of every example."""
        correct, scores = [], []
        for prompt, choices, answer, _ in self.examples:
            all_scores = [self.choice_score(prompt, choice) for choice in choices]
            correct.append(all_scores.index(max(all_scores)) == answer)
            scores.append(all_scores[answer])
        return correct, scores

    def blocks(self):
        inner = self.model.model if hasattr(self.model, "model") else self.model.backbone
        return inner.layers

    def target(self, layer):
        """The module whose input the head is cut from."""
        named = dict(self.blocks()[layer].named_modules())
        projection = [m for n, m in named.items() if n.split(".")[-1] in ("o_proj", "out_proj")]
        gated = [m for n, m in named.items() if n.endswith((".norm",)) and "Gated" in type(m).__name__]
        assert len(projection) == 1, f"layer {layer}: {len(projection)} output projections"
        if self.placement == "pre_norm" and gated:
            return gated[0], projection[0].in_features
        return projection[0], projection[0].in_features

    def width(self, kind, features):
        config = self.model.config
        if kind == "mamba1":
            return 1
        if kind == "attention":
            return features // config.num_attention_heads
        keys = ("mamba_n_heads", "mamba_num_heads", "num_heads")
        return features // next(getattr(config, k) for k in keys if hasattr(config, k))

    def ablated(self, entry):
        first, last = entry.get("channels", [entry["head"], entry["head"]])
        module, features = self.target(entry["layer"])
        width = self.width(entry["kind"], features)
        self.fired = 0

        def cut(_, args):
            self.fired += 1
            x = args[0].clone()
            assert x.shape[-1] == features
            x[..., first * width : (last + 1) * width] = 0
            return (x, *args[1:])

        handle = module.register_forward_pre_hook(cut)
        try:
            result = self.run()
        finally:
            handle.remove()
        assert self.fired, f"layer {entry['layer']}: the hook never fired"
        return result

    def attention_figures(self):
        """{layer: [head] of figure dicts}, means over examples; segment figures over those with segments."""
        sums = {}
        for prompt, choices, answer, segments in self.examples:
            maps = self.model(torch.tensor([prompt]), use_cache=False, output_attentions=True).attentions
            layers = [i for i, b in enumerate(self.blocks()) if any("o_proj" in n for n, _ in b.named_modules())]
            maps = [m for m in maps if m is not None]
            for layer, pattern in zip(layers, maps):
                for head, p in enumerate(pattern[0].double()):
                    figures = sums.setdefault((layer, head), {})
                    q = p[-1]
                    entropy = -(q * q.clamp_min(1e-300).log()).sum().item()
                    row = {"entropy": entropy}
                    if len(prompt) > 1:
                        row["entropy_norm"] = entropy / math.log(len(prompt))
                    if segments:
                        row["gather"] = sum(p[e, s : e + 1].sum().item() for s, e in segments) / len(segments)
                        row["aggregate"] = sum(q[e].item() for _, e in segments)
                        if len(segments) == len(choices):
                            s, e = segments[answer]
                            row["target"] = q[s : e + 1].sum().item()
                    for name, value in row.items():
                        figures.setdefault(name, []).append(value)
        return {key: {n: sum(v) / len(v) for n, v in f.items()} for key, f in sums.items()}


class Report:
    def __init__(self):
        self.failures = 0
        self.largest = {}

    def close(self, where, name, ours, theirs, tolerance):
        difference = abs(ours - theirs)
        self.largest[name] = max(self.largest.get(name, 0), difference)
        if not difference <= tolerance:
            self.failures += 1
            print(f"{where}: {name} {ours:.8g}, transformers {theirs:.8g}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("scores")
    parser.add_argument("--dtype", default="float32", help="of the transformers model")
    parser.add_argument("--tolerance", type=float, default=2e-4, help="nats of a log-probability; mass of a map")
    args = parser.parse_args()
    scores = json.load(open(args.scores))
    loop = Loop(args.model, args.task, args.dtype, scores["manifest"]["placement"])
    report = Report()
    with torch.no_grad():
        correct, base = loop.run()
        n = len(correct)
        ties = scores["base"]["near_ties"]
        report.close("base", "accuracy", scores["base"]["accuracy"], sum(correct) / n, ties / n + 1e-12)
        report.close("base", "mean_logprob", scores["base"]["mean_logprob"], sum(base) / n, args.tolerance)
        changed = 0
        for entry in scores["heads"]:
            where = f"{entry['layer']}.{entry.get('channels', entry['head'])}"
            cut_correct, cut = loop.ablated(entry)
            changed += cut_correct != correct
            slack = entry.get("near_ties", 0) / n + 1e-12
            report.close(where, "accuracy", entry["accuracy"], sum(cut_correct) / n, slack)
            drop = (sum(base) - sum(cut)) / n
            report.close(where, "logprob_drop", entry["logprob_drop"], drop, args.tolerance)
        figures = loop.attention_figures() if any(e["kind"] == "attention" for e in scores["heads"]) else {}
        for entry in scores["heads"]:
            for name, value in figures.get((entry["layer"], entry["head"]), {}).items():
                if entry["kind"] == "attention":
                    ours = entry.get(name, math.nan)
                    report.close(f"{entry['layer']}.{entry['head']}", name, ours, value, args.tolerance)
    largest = ", ".join(f"{name} {value:.2g}" for name, value in report.largest.items())
    print(f"{n} examples, {len(scores['heads'])} heads ({changed} change an answer); largest differences: {largest}")
    print(f"{report.failures} differ" if report.failures else "all agree")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# tests/acceptance: scores.json held against a plain loop over heads in transformers.
"""Recomputes base accuracy and, head by head, ablated accuracy and the drop of the right choice's log-probability with
transformers: one forward a choice, no batching, no padding, a pre-hook that zeroes the head's slice of the output
projection's input. Map figures (entropy, gather, aggregate, target) come from output_attentions and, for Mamba layers,
from M written out from the mixer's weights. Exits 1 if anything differs.

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

    def mixer(self, layer):
        """The module of the layer that holds the output projection."""
        named = dict(self.blocks()[layer].named_modules())
        return named[next(n for n in named if n.split(".")[-1] in ("o_proj", "out_proj")).rpartition(".")[0]]

    def figures(self, entries):
        """One dict of map figures an entry, means over examples; segment figures over those with segments."""
        means = [{} for _ in entries]
        for prompt, choices, answer, segments in self.examples:
            maps = self.maps(prompt, {entry["layer"] for entry in entries})
            for entry, sums in zip(entries, means):
                first, last = entry.get("channels", [entry["head"], entry["head"]])
                rows = maps[entry["layer"]][first : last + 1]
                p = rows.abs() / rows.abs().sum(-1, keepdim=True)
                for name, value in row_figures(p, segments, len(choices), answer).items():
                    sums.setdefault(name, []).append(value)
        return [{name: sum(values) / len(values) for name, values in sums.items()} for sums in means]

    def maps(self, prompt, layers):
        """{layer: [head, query, key]} of one prompt: softmax patterns, and M of the state-space layers."""
        inputs, handles = {}, []
        for layer in layers:
            def keep(_, args, kwargs, layer=layer):
                inputs[layer] = args[0] if args else kwargs["hidden_states"]
            handles.append(self.mixer(layer).register_forward_pre_hook(keep, with_kwargs=True))
        out = self.model(torch.tensor([prompt]), use_cache=False, output_attentions=True)
        for handle in handles:
            handle.remove()
        attention = [i for i, _ in enumerate(self.blocks()) if self.has_attention(i)]
        patterns = dict(zip(attention, [m for m in getattr(out, "attentions", None) or [] if m is not None]))
        return {i: patterns[i][0].double() if i in patterns else ssm_map(self.mixer(i), inputs[i]) for i in layers}

    def has_attention(self, layer):
        return any(n.endswith("o_proj") for n, _ in self.blocks()[layer].named_modules())


def row_figures(p, segments, choices, answer):
    """The definitions of docs/metrics.md for p [head, query, key], mean over heads."""
    q = p[:, -1]
    entropy = -(q * q.clamp_min(1e-300).log()).sum(-1).mean().item()
    row = {"entropy": entropy}
    if p.shape[-1] > 1:
        row["entropy_norm"] = entropy / math.log(p.shape[-1])
    if segments:
        row["gather"] = sum(p[:, e, s : e + 1].sum(-1).mean().item() for s, e in segments) / len(segments)
        row["aggregate"] = sum(q[:, e].mean().item() for _, e in segments)
    if segments and len(segments) == choices:
        s, e = segments[answer]
        row["target"] = q[:, s : e + 1].sum(-1).mean().item()
    return row


def ssm_map(mixer, x):
    """M [head or channel, query, key] of a Mamba mixer, from its weights and its input."""
    length = x.shape[1]
    conv = lambda u: torch.nn.functional.silu(mixer.conv1d(u.transpose(1, 2))[..., :length].transpose(1, 2))
    a = -mixer.A_log.double().exp()
    lower = torch.ones(length, length).tril().bool()
    if mixer.A_log.dim() == 1:
        inner, heads = mixer.out_proj.in_features, a.numel()
        z, xbc, dt = mixer.in_proj(x).split([inner, mixer.conv1d.out_channels, heads], -1)
        b, c = conv(xbc)[0, :, inner:].double().chunk(2, -1)
        groups = mixer.n_groups
        spread = lambda m: m.view(length, groups, -1).repeat_interleave(heads // groups, 1)  # [pos, head, d_state]
        limits = getattr(mixer, "time_step_limit", None) or (0, math.inf)
        dt = torch.nn.functional.softplus(dt[0] + mixer.dt_bias).clamp(*limits).double()
        total = (dt * a).cumsum(0).T  # [head, pos]
        decay = (total[:, :, None] - total[:, None, :]).masked_fill(~lower, -math.inf).exp()
        return torch.einsum("ihn,jhn->hij", spread(c), spread(b)) * decay * dt.T[:, None, :]
    u = conv(mixer.in_proj(x).chunk(2, -1)[0])
    state = mixer.ssm_state_size
    low, b, c = mixer.x_proj(u).split([mixer.time_step_rank, state, state], -1)
    if hasattr(mixer, "rms_eps"):
        low, b, c = (m * (m.square().mean(-1, keepdim=True) + mixer.rms_eps).rsqrt() for m in (low, b, c))
    dt = torch.nn.functional.softplus(mixer.dt_proj(low))[0].double()  # [pos, channel]
    total = torch.einsum("jd,dn->dnj", dt, a).cumsum(-1)
    decay = (total[..., :, None] - total[..., None, :]).masked_fill(~lower, -math.inf).exp()  # [channel, state, i, j]
    return torch.einsum("in,dnij,jn,jd->dij", c[0].double(), decay, b[0].double(), dt)


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
        for entry, figures in zip(scores["heads"], loop.figures(scores["heads"])):
            where = f"{entry['layer']}.{entry.get('channels', entry['head'])}"
            for name, value in figures.items():
                report.close(where, name, entry.get(name, math.nan), value, args.tolerance)
    largest = ", ".join(f"{name} {value:.2g}" for name, value in report.largest.items())
    print(f"{n} examples, {len(scores['heads'])} heads ({changed} change an answer); largest differences: {largest}")
    print(f"{report.failures} differ" if report.failures else "all agree")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# tests/golden: activation patching done by transformers with Python forward hooks.
"""Writes patching/expected.json: for golden models, two pairs of prompts, and what each patched run
makes of the answer: per cell the mean log-probability of the clean answer and its difference to
that of the corrupted one. One forward a cell, in float64, the other run's tensor put in by a hook.

    pip install torch transformers==5.17.0
    python tests/golden/make_patching_goldens.py
"""

import json
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).resolve().parent
MOST_HEADS = 4  # of a layer: a channel of Mamba-1 is a head, and there are many
LENGTH, RIGHT, WRONG = 9, [5, 30], [61, 20]
CHANGED = [2, 3, 6]
POSITIONS = {"changed": CHANGED, "last": [LENGTH - 1], "all": list(range(LENGTH))}


def prompts():
    clean = torch.tensor([[(p * p * 5 + p * 29 + e * 17) % 97 for p in range(LENGTH)] for e in range(2)])
    corrupted = clean.clone()
    for p in CHANGED:
        corrupted[:, p] = (corrupted[:, p] + 31 + p) % 97
    return clean, corrupted


def mixer_of(layer):
    for name in ("self_attn", "mixer", "mamba"):
        if getattr(layer, name, None) is not None:
            return getattr(layer, name)
    raise ValueError("no mixer")


def sites(model, heads):
    """(site, layer, head) -> the module, whether its input is meant, and the channels of the head."""
    layers = model.model.layers if hasattr(model, "model") else model.backbone.layers
    for index, layer in enumerate(layers):
        mixer = mixer_of(layer)
        yield ("resid", index, -1), layer, True, slice(None)
        yield ("attn_out", index, -1), mixer, False, slice(None)
        mlp = getattr(layer, "mlp", None) or getattr(layer, "feed_forward", None)
        if mlp is not None:
            yield ("mlp_out", index, -1), mlp, False, slice(None)
        out = getattr(mixer, "o_proj", None) or mixer.out_proj
        width = out.in_features // heads(mixer)
        for head in range(min(MOST_HEADS, heads(mixer))):
            yield ("z", index, head), out, True, slice(head * width, (head + 1) * width)


def with_hook(module, of_input, edit, run):
    def before(_, args, kwargs):
        if args:
            return (edit(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": edit(kwargs["hidden_states"])}

    def after(_, __, output):
        return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)

    handle = (module.register_forward_pre_hook(before, with_kwargs=True) if of_input
              else module.register_forward_hook(after))
    try:
        return run()
    finally:
        handle.remove()


def figures(logits):
    logprobs = torch.log_softmax(logits[:, -1].double(), -1)
    right, wrong = (logprobs[torch.arange(2), torch.tensor(ids)] for ids in (RIGHT, WRONG))
    return {"logprob": right.mean().item(), "difference": (right - wrong).mean().item()}


def patch(model, run_ids, donor_ids, module, of_input, channels, positions):
    seen = {}

    def record(value):
        seen["value"] = value
        return value

    def edit(value):
        value = value.clone()
        for p in positions:
            value[:, p, channels] = seen["value"][:, p, channels]
        return value

    with_hook(module, of_input, record, lambda: model(donor_ids, use_cache=False))
    return figures(with_hook(module, of_input, edit, lambda: model(run_ids, use_cache=False)).logits)


def cells_of(model, heads):
    clean, corrupted = prompts()
    for direction, run, donor in (("denoising", corrupted, clean), ("noising", clean, corrupted)):
        for (site, layer, head), module, of_input, channels in sites(model, heads):
            for name, positions in POSITIONS.items():
                found = patch(model, run, donor, module, of_input, channels, positions)
                yield {"direction": direction, "site": site, "layer": layer, "head": head,
                       "positions": name} | found


def attention_heads(mixer):
    return mixer.config.num_attention_heads


def mamba_heads(mixer):
    return mixer.num_heads


def jamba_heads(mixer):
    return mixer.config.num_attention_heads if hasattr(mixer, "o_proj") else mixer.intermediate_size


MODELS = {"llama": attention_heads, "mamba2": mamba_heads, "jamba": jamba_heads}


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    clean, corrupted = prompts()
    result = {"clean": clean.tolist(), "corrupted": corrupted.tolist(), "right": RIGHT, "wrong": WRONG,
              "transformers": transformers.__version__, "torch": torch.__version__, "models": {}}
    for name, heads in MODELS.items():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            HERE / name, dtype=torch.float64, attn_implementation="eager").eval()
        cells = list(cells_of(model, heads))
        result["models"][name] = cells
        print(name, len(cells))
    (HERE / "patching" / "expected.json").write_text(json.dumps(result, indent=0) + "\n")


if __name__ == "__main__":
    main()

# tests/golden/golden_tools: the same checkpoint as transformers 4 would have written it.
"""Nearly every published checkpoint has a config.json of transformers 4: rotary settings at the top
level (`rope_theta`, `rope_scaling`), `torch_dtype`, a bare `Infinity` that is not JSON. The twin
is loaded with transformers and must give the very logits of the original."""

import json

import torch
import transformers

# One checkpoint in two files and an index, as large ones come.
SHARDED = {"BambaForCausalLM": "150KB"}


def old_config(config):
    old = dict(config)
    rope = old.pop("rope_parameters", None)
    if rope is not None:
        old["rope_theta"] = rope.pop("rope_theta")
        rope.pop("partial_rotary_factor", None)
        old["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    old.pop("partial_rotary_factor", None)  # version 4's Bamba has it in its code only
    old["torch_dtype"] = old.pop("dtype")
    old["transformers_version"] = "4.46.0"
    if "time_step_limit" in old:
        old["time_step_limit"] = [
            v if isinstance(v, float) else float("inf") for v in old["time_step_limit"]
        ]
    return dict(sorted(old.items()))


def to_old_dialect(model, folder, twin, ids):
    for stale in twin.glob("*"):
        stale.unlink()
    name = type(model).__name__
    model.save_pretrained(twin, max_shard_size=SHARDED.get(name, "1GB"))
    (twin / "generation_config.json").unlink(missing_ok=True)
    config = old_config(json.loads((folder / "config.json").read_text()))
    (twin / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    again = transformers.AutoModelForCausalLM.from_pretrained(twin, attn_implementation="eager")
    with torch.no_grad():
        same = torch.equal(again(ids, use_cache=False).logits, model(ids, use_cache=False).logits)
    if not same:
        raise RuntimeError(f"{twin}: transformers reads the old dialect otherwise")

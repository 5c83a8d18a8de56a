# tests/golden/golden_tools: the same checkpoint as transformers 4 would have written it.
"""Nearly every published checkpoint has a config.json of transformers 4: rotary settings at the top
level (`rope_theta`, `rope_scaling`), `torch_dtype`, a bare `Infinity` that is not JSON. The twin
is loaded with transformers and must give the very logits of the original. Its weights are a link."""

import json
import os

from .family import check_loads

# One checkpoint in two files and an index, as large ones come.
SHARDED = {"BambaForCausalLM": "150KB"}

# Keys that version 4 did not write for these.
UNKNOWN = {
    "bamba": ["partial_rotary_factor"],  # it has this one in its code only
    "gemma2": ["layer_types", "use_bidirectional_attention"],
    "qwen2": ["layer_types"],
    "qwen3": ["layer_types"],
    "gpt_neox": ["is_decoder"],
}
# What released configs have besides.
RELEASED = {
    "gemma2": {"hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid"},
    "jamba": {"num_logits_to_keep": 1},
    "gpt2": {"n_ctx": "n_positions", "attn_pdrop": 0.1, "task_specific_params": None},
    "zamba2": {"time_step_limit": None},
}


def old_rope(kind, old):
    rope = old.pop("rope_parameters", None)
    if rope is None:
        return
    theta, part = rope.pop("rope_theta"), rope.pop("partial_rotary_factor", None)
    if kind == "gpt_neox":
        old["rotary_emb_base"], old["rotary_pct"] = theta, part
    else:
        old["rope_theta"] = theta
        if part is not None:
            old["partial_rotary_factor"] = part
    if kind == "phi3":  # has this one at the top level
        rope.pop("original_max_position_embeddings", None)
    if rope["rope_type"] in ("linear", "dynamic", "longrope"):
        rope["type"] = rope.pop("rope_type")  # the key's name up to 4.42
    old["rope_scaling"] = rope if rope.get("rope_type") != "default" else None


def old_config(config):
    old = json.loads(json.dumps(config))
    kind = old["model_type"]
    old_rope(kind, old)
    for key in UNKNOWN.get(kind, []):
        old.pop(key, None)
    for key, value in RELEASED.get(kind, {}).items():
        old[key] = old.get(value, value) if isinstance(value, str) else value
    if old.get("use_sliding_window") is False:
        old["sliding_window"] = 4  # stored all the same, and without effect
    old["torch_dtype"] = old.pop("dtype")
    old["transformers_version"] = "4.46.0"
    if "layers_block_type" in old:
        names = {"linear_attention": "mamba", "full_attention": "attention"}
        old["layers_block_type"] = [names.get(k, k) for k in old["layers_block_type"]]
    if old.get("time_step_limit"):
        old["time_step_limit"] = [
            v if isinstance(v, float) else float("inf") for v in old["time_step_limit"]
        ]
    return dict(sorted(old.items()))


def to_old_dialect(model, folder, twin, ids):
    for stale in twin.glob("*"):
        stale.unlink()
    twin.mkdir(exist_ok=True)
    name = type(model).__name__
    if name in SHARDED:
        model.save_pretrained(twin, max_shard_size=SHARDED[name])
        (twin / "generation_config.json").unlink(missing_ok=True)
    else:
        os.symlink(f"../{folder.name}/model.safetensors", twin / "model.safetensors")
    config = old_config(json.loads((folder / "config.json").read_text()))
    (twin / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    check_loads(model, twin, ids)

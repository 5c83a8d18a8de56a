# tests/golden/golden_tools: layouts of published checkpoints that save_pretrained does not write.
"""The same weights again, with the keys and the tensors that the hub's files have."""

import json

import torch
from safetensors.torch import save_file

from .family import check_loads, write_weights
from .old_dialect import old_config
from .weights import make_ids


def start(model, folder, change):
    """A config.json of transformers 4 with `change`, and the weights as save_pretrained names them."""
    weights = write_weights(model, folder)
    path = folder / "config.json"
    config = old_config(json.loads(path.read_text())) | change
    path.write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")
    return weights


def finish(model, folder, weights):
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    check_loads(model, folder, make_ids(0))


def gpt2(model, folder):
    """No prefix before names, and each layer's causal mask among the weights."""
    weights = {n.removeprefix("transformer."): t for n, t in start(model, folder, {}).items()}
    size = model.config.n_positions
    for layer in range(model.config.n_layer):
        weights[f"h.{layer}.attn.bias"] = torch.ones(1, 1, size, size).tril()
    finish(model, folder, weights)


def gpt_neox(model, folder):
    """The masks of attention and its rotary table among the weights."""
    weights, config = start(model, folder, {"rope_scaling": None}), model.config
    size = 32  # as many positions as the mask had when it was stored
    for layer in range(config.num_hidden_layers):
        at = f"gpt_neox.layers.{layer}.attention"
        weights[f"{at}.bias"] = torch.ones(1, 1, size, size, dtype=torch.bool).tril()
        weights[f"{at}.masked_bias"] = torch.tensor(-1e9)
        weights[f"{at}.rotary_emb.inv_freq"] = model.gpt_neox.rotary_emb.inv_freq.clone()
    finish(model, folder, weights)


def llama(model, folder):
    """A rotary table in every layer, as checkpoints of 2023 have it."""
    weights = start(model, folder, {"pretraining_tp": 1, "rope_scaling": None})
    for layer in range(model.config.num_hidden_layers):
        table = model.model.rotary_emb.inv_freq.clone()
        weights[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = table
    finish(model, folder, weights)


def zamba2(model, folder):
    """Keys of the published configs that nothing reads, and none for tied embeddings."""
    weights = start(
        model,
        folder,
        {
            "use_shared_mlp_adapter": True,
            "ffn_hidden_size": model.config.intermediate_size,
            "rope_scaling": None,
            "sliding_window": None,
            "transformers_version": "4.49.0.dev0",
        },
    )
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["tie_word_embeddings"]
    path.write_text(json.dumps(config, indent=2) + "\n")
    finish(model, folder, weights)



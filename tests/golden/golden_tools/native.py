# tests/golden/golden_tools: Mamba checkpoints in the layout of state-spaces/mamba.
"""Its config.json names no architecture and its tensors have names of their own. vocab_size is that
before padding: the embedding has the next multiple of pad_vocab_size_multiple rows."""

import json

import torch
from safetensors.torch import save_file


def mamba_config(config):
    """Without tie_embeddings, as the first releases are; tied is the default."""
    ssm = {
        "d_state": config.state_size,
        "d_conv": config.conv_kernel,
        "expand": config.expand,
        "dt_rank": config.time_step_rank,
        "bias": config.use_bias,
        "conv_bias": config.use_conv_bias,
    }
    return {
        "d_model": config.hidden_size,
        "n_layer": config.num_hidden_layers,
        "vocab_size": config.vocab_size,
        "ssm_cfg": ssm,
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 1,
    }


def mamba2_config(config):
    ssm = {
        "layer": "Mamba2",
        "d_state": config.state_size,
        "d_conv": config.conv_kernel,
        "expand": config.expand,
        "headdim": config.head_dim,
        "ngroups": config.n_groups,
        "chunk_size": config.chunk_size,
        "bias": config.use_bias,
        "conv_bias": config.use_conv_bias,
    }
    return {
        "d_model": config.hidden_size,
        "d_intermediate": 0,
        "n_layer": config.num_hidden_layers,
        "vocab_size": config.vocab_size - 7,  # so that padding makes it this model's
        "ssm_cfg": ssm,
        "attn_layer_idx": [],
        "attn_cfg": {},
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 8,
        "tie_embeddings": config.tie_word_embeddings,
    }


def native_state(model):
    names = {name: name.replace("embeddings", "embedding") for name in model.state_dict()}
    return {names[name]: tensor for name, tensor in model.state_dict().items()}


def writers(kind, make_config):
    """Both files that such a checkpoint may come in, by the name of its folder."""

    def start(model, folder):
        for stale in folder.glob("*"):
            stale.unlink()
        folder.mkdir(exist_ok=True)
        config = make_config(model.config)
        assert -(-config["vocab_size"] // config["pad_vocab_size_multiple"]) * config[
            "pad_vocab_size_multiple"
        ] == (model.config.vocab_size)
        (folder / "config.json").write_text(json.dumps(config, indent=4))

    def pickled(model, folder):
        start(model, folder)
        torch.save(native_state(model), folder / "pytorch_model.bin")

    def safe(model, folder):
        start(model, folder)
        apart = {name: tensor.clone() for name, tensor in native_state(model).items()}
        save_file(apart, folder / "model.safetensors", metadata={"format": "pt"})

    return {f"{kind}_native": pickled, f"{kind}_native_safetensors": safe}

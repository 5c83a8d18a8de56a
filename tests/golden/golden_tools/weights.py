# tests/golden/golden_tools: seeded random weights under which no path of a model is idle.
"""Freshly initialised models hide mistakes: norms of one, biases of zero, D = 1, A = -1..-n and
steps of 0.01 make whole terms vanish. These draws keep every term of order one."""

import math

import torch

VOCAB = 97
SHARPENED = ("q_proj", "k_proj", "qkv_proj", "query_key_value", "c_attn")
TRANSPOSED = ("c_attn", "c_fc", "c_proj")  # GPT-2 stores [in, out]


def draw(name, shape, gen):
    """One parameter by the end of its name."""
    normal = torch.randn(shape, generator=gen)
    uniform = torch.rand(shape, generator=gen)
    if name.endswith("dt_bias") or name.endswith("dt_proj.bias"):
        return uniform * 3.5 - 2.5  # softplus: 0.08 .. 1.3
    if name.endswith("A_log"):
        return uniform * 2.5 - 1.5  # A from -0.22 to -2.7
    if name.endswith(".D"):
        return uniform * 2.5 - 1
    if name.endswith("bias"):
        return normal * 0.3
    if "norm" in name or ".ln_" in name:
        return uniform + 0.5
    if name.endswith("conv1d.weight"):
        return normal * 0.6
    if "embed" in name or ".wte." in name or ".wpe." in name:
        return normal * 0.6
    gain = 2.5 if "lm_head" in name else 1.8 if any(p in name for p in SHARPENED) else 1.1
    fan_in = shape[0] if any(p in name for p in TRANSPOSED) else shape[-1]
    return normal * gain / math.sqrt(fan_in)


def randomize(model, seed):
    """Every parameter redrawn in the order of its name; tied tensors stay tied."""
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            parameter.copy_(draw(name, parameter.shape, gen))
    return model.eval()


def make_ids(seed, batch=2, pos=17, vocab=VOCAB):
    """Ids with a repeated stretch, so that attention has something to find."""
    gen = torch.Generator().manual_seed(seed + 1)
    ids = torch.randint(0, vocab, (batch, pos), generator=gen)
    ids[:, 10:15] = ids[:, 3:8]
    return ids

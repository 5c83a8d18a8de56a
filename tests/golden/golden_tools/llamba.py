# tests/golden/golden_tools: Llamba in plain torch, the reference where transformers has none.
"""A stack of blocks: h += mixer(norm(h)); h += mlp(norm(h)). The mixer is DiscreteMamba2
(arXiv 2408.10189, 2502.14458), here as its O(L) recurrence:

    x, B, C = conv1d(xBC),   a_t = exp(-softplus(A_log_t)),   S_t = a_t S_{t-1} + x_t B_t^T,
    y_t = S_t C_t + D x_t,   out = out_proj(y * silu(z + z_bias)).

Rows of in_proj: x, B, C (through the convolution, no activation), then z, then A_log. Names
and config keys are those of the published checkpoints; the forward is written anew from these
equations."""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from .record import tap_block, tap_ends, tap_mlp, tap_norm, tap_resid_mid
from .ssm import check_map, ssd_map, ssd_states
from .weights import VOCAB

CONFIG = {
    "architectures": ["LlambaLMHeadModel"],
    "model_type": "llamba",
    "vocab_size": VOCAB,
    "pad_vocab_size_multiple": 8,
    "tie_embeddings": False,
    "lm_head_bias": False,
    "d_model": 40,
    "n_layer": 3,
    "resid_dropout": 0.0,
    "norm_epsilon": 1e-5,
    "mlp_cfg": {"intermediate_size": 52, "bias": False, "act_fn": "silu"},
    "ssm_cfg": {
        "d_state": 6,
        "n_v_heads": 4,
        "n_qk_heads": 2,
        "expand": 1,
        "chunk_size": 8,
        "activation": "identity",
        "bias": False,
    },
    "torch_dtype": "float32",
}
D_CONV = 4
BLOCK_EPS = 1e-5  # fixed in the published model; norm_epsilon is the final norm's


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return self.weight * x / (x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DiscreteMixer(nn.Module):
    def __init__(self, width, d_state, n_v_heads, n_qk_heads, expand, **_):
        super().__init__()
        self.d_inner, self.heads = expand * width, n_v_heads
        self.groups, self.d_state = n_qk_heads, d_state
        channels = self.d_inner + 2 * n_qk_heads * d_state
        self.splits = [channels, self.d_inner, n_v_heads]
        self.in_proj = nn.Linear(width, sum(self.splits), bias=False)
        self.z_bias = nn.Parameter(torch.zeros(self.d_inner))
        self.conv1d = nn.Conv1d(channels, channels, D_CONV, groups=channels)
        self.D = nn.Parameter(torch.ones(n_v_heads))
        self.out_proj = nn.Linear(self.d_inner, width, bias=False)
        self.put = lambda name, tensor: None

    def forward(self, u):
        batch, length, _ = u.shape
        projected = self.in_proj(u)
        xbc, z, a_log = projected.split(self.splits, dim=-1)
        conv = self.conv1d(F.pad(xbc.transpose(1, 2), (D_CONV - 1, 0))).transpose(1, 2)
        bc_width = self.groups * self.d_state
        x, b, c = conv.split([self.d_inner, bc_width, bc_width], dim=-1)
        x = x.reshape(batch, length, self.heads, -1)
        b, c = (t.reshape(batch, length, self.groups, self.d_state) for t in (b, c))
        log_decay = -F.softplus(a_log)
        ones = torch.ones_like(log_decay)
        states = ssd_states(log_decay, ones, x, b)  # [batch, pos, head, d_head, d_state]
        read = c.repeat_interleave(self.heads // self.groups, dim=2)
        y = (states * read[:, :, :, None, :]).sum(-1)
        skip = self.D[:, None] * x
        gate = z + self.z_bias
        cut = (y + skip) * F.silu(gate).reshape(x.shape)
        out = self.out_proj(cut.flatten(2))

        m = ssd_map(log_decay, ones, b, c)
        check_map(m, x, skip, y + skip)
        for name, tensor in {
            "in_proj": projected,
            "gate": gate,
            "conv_in": xbc,
            "conv": conv,
            "ssm_input": x,
            "A": log_decay,
            "B": b,
            "C": c,
            "map": m,
            "y": y,
            "ssm_out": y + skip,
            "z": cut,
            "out": out,
            "state": states,
        }.items():
            self.put(name, tensor)
        return out


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config["d_model"]
        self.mixer = DiscreteMixer(width, **config["ssm_cfg"])
        self.input_layernorm = RmsNorm(width, BLOCK_EPS)
        self.post_attention_layernorm = RmsNorm(width, BLOCK_EPS)
        self.mlp = Mlp(width, config["mlp_cfg"]["intermediate_size"])

    def forward(self, h):
        h = h + self.mixer(self.input_layernorm(h))
        return h + self.mlp(self.post_attention_layernorm(h))


class Llamba(nn.Module):
    def __init__(self, config):
        super().__init__()
        multiple = config["pad_vocab_size_multiple"]
        rows = -(-config["vocab_size"] // multiple) * multiple
        self.backbone = nn.Module()
        self.backbone.embedding = nn.Embedding(rows, config["d_model"])
        self.backbone.layers = nn.ModuleList(Block(config) for _ in range(config["n_layer"]))
        self.backbone.final_layernorm = RmsNorm(config["d_model"], config["norm_epsilon"])
        self.lm_head = nn.Linear(config["d_model"], rows, bias=False)
        self.config = config

    def forward(self, ids, use_cache=False):
        h = self.backbone.embedding(ids)
        for block in self.backbone.layers:
            h = block(h)
        return SimpleNamespace(logits=self.lm_head(self.backbone.final_layernorm(h)))

    def save_pretrained(self, folder):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def build():
    return Llamba(CONFIG)


def tap(model, rec):
    backbone = model.backbone
    tap_ends(rec, model, backbone.layers[0], backbone.final_layernorm)
    for i, block in enumerate(backbone.layers):
        tap_block(rec, i, block)
        tap_norm(rec, block.input_layernorm, f"blocks.{i}.ln1", BLOCK_EPS)
        tap_resid_mid(rec, i, block.post_attention_layernorm)
        tap_norm(rec, block.post_attention_layernorm, f"blocks.{i}.ln2", BLOCK_EPS)
        tap_mlp(rec, i, block.mlp)
        block.mixer.put = lambda name, tensor, at=i: rec.put(
            f"blocks.{at}.mixer.hook_{name}", tensor
        )

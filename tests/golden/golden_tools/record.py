# tests/golden/golden_tools: what a forward leaves behind, by site name, and where to listen.
"""`Recording` collects tensors under HeadLens site names. The `tap_*` functions hang forward hooks
on the modules all families share: norms, blocks, MLPs and attention."""

import re
from contextlib import contextmanager

import torch

# Kept in every layer; the rest only in a family's `detail` layers, the widest in its `wide` ones.
OUTLINE = {
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "attn.hook_pattern",
    "mixer.hook_dt",
    "mixer.hook_z",
    "mixer.hook_out",
}
WIDE = {"mixer.hook_A_bar", "mixer.hook_B_bar", "mixer.hook_state"}


class Recording:
    def __init__(self, detail, wide):
        self.detail, self.wide = detail, wide
        self.tensors = {}
        self.layer = None
        self.on = False

    def keeps(self, name):
        block = re.fullmatch(r"blocks\.(\d+)\.(.*)", name)
        if not block:
            return True
        layer, site = int(block[1]), block[2]
        return layer in (self.wide if site in WIDE else self.detail) or site in OUTLINE

    def put(self, name, tensor):
        if self.on and self.keeps(name):
            if name in self.tensors:
                raise RuntimeError(f"recorded twice: {name}")
            self.tensors[name] = tensor.detach().clone().contiguous()

    def put_here(self, name, tensor):
        """Under the block that is running."""
        self.put(f"blocks.{self.layer}.{name}", tensor)

    @contextmanager
    def listening(self):
        self.on = True
        try:
            yield self
        finally:
            self.on = False


@contextmanager
def replaced(module, **functions):
    """Module-level functions exchanged for a while; each value makes a wrapper of the original."""
    originals = {name: getattr(module, name) for name in functions}
    for name, make_wrapper in functions.items():
        setattr(module, name, make_wrapper(originals[name]))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(module, name, original)


def split_heads(x, width):
    """[.., heads * width] -> [.., heads, width]"""
    return x.reshape(*x.shape[:-1], -1, width)


def on_output(module, act):
    module.register_forward_hook(
        lambda _, args, out: act(out[0] if isinstance(out, tuple) else out)
    )


def on_input(module, act):
    module.register_forward_pre_hook(lambda _, args: act(args[0]))


def tap_norm(rec, norm, prefix, eps):
    def act(_, args, out):
        scale = (args[0].pow(2).mean(-1, keepdim=True) + eps).sqrt()
        rec.put(f"{prefix}.hook_scale", scale)
        rec.put(f"{prefix}.hook_normalized", out)

    norm.register_forward_hook(act)


def tap_block(rec, index, block):
    """Residual before and after; also tells the recording which layer is running."""

    def before(_, args, kwargs):
        rec.layer = index
        rec.put_here("hook_resid_pre", args[0] if args else kwargs["hidden_states"])

    block.register_forward_pre_hook(before, with_kwargs=True)
    on_output(block, lambda out: rec.put(f"blocks.{index}.hook_resid_post", out))


def tap_resid_mid(rec, index, second_norm):
    on_input(second_norm, lambda x: rec.put(f"blocks.{index}.hook_resid_mid", x))


def tap_mlp(rec, index, mlp):
    at = f"blocks.{index}"
    if hasattr(mlp, "gate_proj"):
        on_output(mlp.gate_proj, lambda x: rec.put(f"{at}.mlp.hook_pre", x))
        on_output(mlp.up_proj, lambda x: rec.put(f"{at}.mlp.hook_pre_linear", x))
    else:
        on_output(mlp.up_proj, lambda x: rec.put(f"{at}.mlp.hook_pre", x))
    on_input(mlp.down_proj, lambda x: rec.put(f"{at}.mlp.hook_post", x))
    on_output(mlp, lambda x: rec.put(f"{at}.hook_mlp_out", x))


def tap_attention(rec, index, attn):
    """q, k, v before rotary and z, from the projections; see `listen_to_attention` for the rest."""
    at, width = f"blocks.{index}", attn.head_dim
    for name in "qkv":
        project = getattr(attn, f"{name}_proj")
        on_output(project, lambda x, n=name: rec.put(f"{at}.attn.hook_{n}", split_heads(x, width)))

    def z(x):
        rec.put(f"{at}.attn.hook_z", split_heads(x, width))
        weight = split_heads(attn.o_proj.weight, width)  # [d_model, head, d_head]
        result = torch.einsum("bphd,mhd->bphm", split_heads(x, width), weight)
        rec.put(f"{at}.attn.hook_result", result)

    on_input(attn.o_proj, z)
    on_output(attn, lambda x: rec.put(f"{at}.hook_attn_out", x))


def listen_to_attention(rec, rotary=True):
    """A wrapper for `eager_attention_forward`: rotated q and k, and the pattern."""

    def make(original):
        def attend(module, query, key, value, mask, **kwargs):
            out, pattern = original(module, query, key, value, mask, **kwargs)
            if rotary:
                rec.put_here("attn.hook_rot_q", query.transpose(1, 2))
                rec.put_here("attn.hook_rot_k", key.transpose(1, 2))
            rec.put_here("attn.hook_pattern", pattern)
            return out, pattern

        return attend

    return make

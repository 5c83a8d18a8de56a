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
    "hook_shared_out",
}
# All that is kept of a small model that is there for one setting.
SKETCH = {
    "logits",
    "hook_resid_post",
    "hook_shared_out",
    "attn.hook_pattern",
    "mixer.hook_dt",
    "mixer.hook_z",
    "mixer.hook_out",
}
WIDE = {"mixer.hook_A_bar", "mixer.hook_B_bar", "mixer.hook_state"}


class Recording:
    def __init__(self, detail, wide=(), sketch=False, strict=True):
        """`detail`, `wide`: the layers whose every site is kept, and whose widest ones are.
        `strict`: hold each map against the scan that it stands for."""
        self.detail, self.wide, self.sketch, self.strict = detail, wide, sketch, strict
        self.tensors = {}
        self.layer = None
        self.on = False

    def keeps(self, name):
        """Of the layers' sites: an outline everywhere, all of them where asked for."""
        block = re.fullmatch(r"blocks\.(\d+)\.(.*)", name)
        layer, site = (int(block[1]), block[2]) if block else (None, name)
        if self.sketch or not block:
            return site in SKETCH or not self.sketch
        return layer in (self.wide if site in WIDE else self.detail) or site in OUTLINE

    def put(self, name, tensor):
        if self.on and self.keeps(name):
            if name in self.tensors:
                raise RuntimeError(f"recorded twice: {name}")
            self.tensors[name] = tensor.detach().to("cpu", copy=True).contiguous()

    def put_here(self, name, tensor):
        """Under the block that is running."""
        self.put(f"blocks.{self.layer}.{name}", tensor)

    def keeps_here(self, name):
        """Is it worth computing this site of the mixer that is running?"""
        return self.on and self.keeps(f"blocks.{self.layer}.mixer.hook_{name}")

    def put_mixer(self, name, tensor):
        if tensor is not None:
            self.put_here(f"mixer.hook_{name}", tensor)

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


def scaled(x, factor):
    return x if factor == 1 else x * factor


def eps_of(norm):
    return norm.eps if hasattr(norm, "eps") else norm.variance_epsilon


def tap_norm(rec, norm, prefix, eps=None):
    """RMS norms and LayerNorms: what they divide by, and what comes out."""
    eps = eps_of(norm) if eps is None else eps
    centred = isinstance(norm, torch.nn.LayerNorm)

    def act(_, args, out):
        x = args[0].float()  # float64 in the float64 pass
        x = x - x.mean(-1, keepdim=True) if centred else x
        rec.put(f"{prefix}.hook_scale", (x.pow(2).mean(-1, keepdim=True) + eps).sqrt())
        rec.put(f"{prefix}.hook_normalized", out)

    norm.register_forward_hook(act)


def tap_ends(rec, model, first_block, final_norm, eps=None):
    """What enters the first block, the last norm, and the logits that the model returns."""
    first_block.register_forward_pre_hook(
        lambda _, args, kwargs: rec.put("hook_embed", args[0] if args else kwargs["hidden_states"]),
        with_kwargs=True,
    )
    tap_norm(rec, final_norm, "ln_final", eps)
    model.register_forward_hook(lambda _, args, out: rec.put("logits", out.logits))


def tap_block(rec, index, block):
    """Residual before and after; also tells the recording which layer is running."""

    def before(_, args, kwargs):
        rec.layer = index
        rec.put_here("hook_resid_pre", args[0] if args else kwargs["hidden_states"])

    block.register_forward_pre_hook(before, with_kwargs=True)
    on_output(block, lambda out: rec.put(f"blocks.{index}.hook_resid_post", out))


def tap_resid_mid(rec, index, second_part):
    on_input(second_part, lambda x: rec.put(f"blocks.{index}.hook_resid_mid", x))


def tap_mlp(rec, index, mlp, out=None, gate_scale=1):
    """`out` is the module whose output is added to the residual, where it is not the MLP itself."""
    at = f"blocks.{index}"

    def halves(x):
        rec.put(f"{at}.mlp.hook_pre", x.chunk(2, dim=-1)[0])
        rec.put(f"{at}.mlp.hook_pre_linear", x.chunk(2, dim=-1)[1])

    if hasattr(mlp, "gate_up_proj"):
        on_output(mlp.gate_up_proj, halves)
    else:
        gated = hasattr(mlp, "gate_proj")
        first = mlp.gate_proj if gated else mlp.up_proj
        on_output(first, lambda x: rec.put(f"{at}.mlp.hook_pre", scaled(x, gate_scale)))
        if gated:
            on_output(mlp.up_proj, lambda x: rec.put(f"{at}.mlp.hook_pre_linear", x))
    on_input(mlp.down_proj, lambda x: rec.put(f"{at}.mlp.hook_post", x))
    on_output(out or mlp, lambda x: rec.put(f"{at}.hook_mlp_out", x))


def tap_plain_mlp(rec, index, mlp, up, down):
    """Two projections, however they are called."""
    at = f"blocks.{index}"
    on_output(up, lambda x: rec.put(f"{at}.mlp.hook_pre", x))
    on_input(down, lambda x: rec.put(f"{at}.mlp.hook_post", x))
    on_output(mlp, lambda x: rec.put(f"{at}.hook_mlp_out", x))


def tap_cut(rec, index, o_proj, width, out, weight=None, out_scale=1):
    """z, where heads are cut, each head's part of the output projection, and what is added."""
    at = f"blocks.{index}"

    def z(x):
        rec.put(f"{at}.attn.hook_z", split_heads(x, width))
        if rec.keeps(f"{at}.attn.hook_result"):
            rows = split_heads(o_proj.weight if weight is None else weight(), width)
            result = torch.einsum("bphd,mhd->bphm", split_heads(x, width), rows)
            rec.put(f"{at}.attn.hook_result", scaled(result, out_scale))

    on_input(o_proj, z)
    on_output(out, lambda x: rec.put(f"{at}.hook_attn_out", scaled(x, out_scale)))


def tap_attention(rec, index, attn, out=None, k_scale=1, out_scale=1):
    """q, k, v before norms and rotary, and z; see `listen_to_attention` for the rest."""
    at, width = f"blocks.{index}.attn", attn.head_dim

    def put(name, x, factor=1):
        rec.put(f"{at}.hook_{name}", scaled(x if x.dim() == 4 else split_heads(x, width), factor))

    def fused(x):
        heads, kv = attn.config.num_attention_heads * width, attn.num_key_value_heads * width
        for name, part in zip("qkv", x.split([heads, kv, kv], dim=-1)):
            put(name, part)

    if hasattr(attn, "qkv_proj"):
        on_output(attn.qkv_proj, fused)
    for name in "qkv" if hasattr(attn, "q_proj") else "":
        factor = k_scale if name == "k" else 1
        project = getattr(attn, f"{name}_proj")
        on_output(project, lambda x, n=name, f=factor: put(n, x, f))
        if name != "v" and hasattr(attn, f"{name}_norm"):
            norm = getattr(attn, f"{name}_norm")
            on_output(norm, lambda x, n=name: put(f"{n}_normed", x))
    tap_cut(rec, index, attn.o_proj, width, out or attn, out_scale=out_scale)


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

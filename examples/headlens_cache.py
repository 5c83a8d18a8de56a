"""A recording of `headlens run` as what notebooks written for TransformerLens and CircuitsVis expect.

    from headlens_cache import load
    cache = load("recording.npz")          # or .safetensors; in place of model.run_with_cache(text)
    cache["pattern", 3]                    # blocks.3.attn.hook_pattern, [batch, head, query, key]
    cv.attention.attention_patterns(**attention_patterns(cache, 3, tokens))   # circuitsvis
"""

import json
import struct

import numpy as np

_ATTN = {"q", "k", "v", "z", "rot_q", "rot_k", "attn_scores", "pattern", "result"}
_MLP = {"pre", "pre_linear", "post"}
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}


def read_safetensors(path):
    """The tensors of a .safetensors file by name; bfloat16 as float32."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        raw = data[slice(*info["data_offsets"])]
        if info["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(raw, _DTYPES[info["dtype"]])
        tensors[name] = values.reshape(info["shape"])
    return tensors


class Cache(dict):
    """Arrays by name; also by TransformerLens's shorthands, as ("pattern", 3) or "embed"."""

    def __missing__(self, key):
        name, layer, where = (*key, None, None)[:3] if isinstance(key, tuple) else (key, None, None)
        part = f"{where}." if where else "attn." if name in _ATTN else "mlp." if name in _MLP else ""
        if layer is not None and layer < 0:  # from the last layer that was recorded
            layer += 1 + max(int(n.split(".")[1]) for n in self if n.startswith("blocks."))
        full = name if "hook_" in name or layer is None and name == "logits" else f"{part}hook_{name}"
        full = full if layer is None else f"blocks.{layer}.{full}"
        if full == key:
            raise KeyError(f"{key}; recorded are {', '.join(self)}")
        return self[full]


def load(path):
    return Cache(np.load(path) if str(path).endswith(".npz") else read_safetensors(path))


def attention_patterns(cache, layer, tokens, batch=0):
    """The arguments of CircuitsVis's attention_patterns: tokens, and attention[head, query, key]."""
    return {"tokens": list(tokens), "attention": cache["pattern", layer][batch]}

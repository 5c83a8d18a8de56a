# tests/golden/golden_tools: a float64 pass through code that keeps casting to float32.
"""transformers casts to float32 in many places (norms, softmax, rotary tables, the residual stream,
the SSM scan). In a float64 model such a cast throws away the very digits the golden is for.
`KeepDouble` turns each of them into a cast to float64, and fails when a float32 tensor appears."""

import copy
import sys
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode


class KeepDouble(TorchFunctionMode):
    """Inside this mode every float32 that torch is asked for is a float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        out = func(*args, **kwargs)
        if isinstance(out, torch.Tensor) and out.dtype == torch.float32:
            raise RuntimeError(f"float32 result of {func} in the float64 pass")
        return out


@contextmanager
def double_pass():
    """KeepDouble, with float64 as torch's default too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with KeepDouble():
            yield
    finally:
        torch.set_default_dtype(before)


def to_double(model):
    """A float64 copy of `model`."""
    return make_double(copy.deepcopy(model))


def make_double(model):
    """`model` itself in float64; what it computed from its config in float32 is computed anew."""
    model.double()
    device = next(model.parameters()).device
    with double_pass(), torch.no_grad():
        for parent in list(model.modules()):
            rotary = getattr(parent, "rotary_emb", None)
            if rotary is not None:
                parent.rotary_emb = type(rotary)(model.config).to(device)
            if hasattr(parent, "scalar_embed_scale"):  # Gemma-2
                parent.embed_scale = torch.tensor(parent.scalar_embed_scale, device=device)
            if hasattr(parent, "mup_vector"):  # Falcon-H1
                modeling = sys.modules[type(parent).__module__]
                parent.mup_vector = modeling.compute_mup_vector(model.config).to(device)
    return model.eval()

# tools/certify: transformers' own passes over a checkpoint, recorded under our site names.
"""One model is in memory at a time: float32 first, then the same one widened to float64, then a
fresh one in bfloat16 where that is asked for."""

import json
import struct
import sys
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/golden"))
from golden_tools.architectures import TAPS, listen, tap  # noqa: E402
from golden_tools.precision import double_pass, make_double  # noqa: E402
from golden_tools.record import Recording  # noqa: E402

SMALL = 50_000_000  # parameters up to which the widest sites (a state a position) are recorded too
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "I8": 1, "BOOL": 1}


def parameters(folder):
    """Numbers in a checkpoint's safetensors files, read from their headers; a guess for others."""
    files = sorted(Path(folder).glob("model*.safetensors"))
    if not files:
        return sum(path.stat().st_size for path in Path(folder).glob("*.bin")) // 2
    count = 0
    for path in files:
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] in WIDTHS:
                begin, end = entry["data_offsets"]
                count += (end - begin) // WIDTHS[entry["dtype"]]
    return count


def known(folder):
    """-> None, or why transformers' model of this checkpoint cannot be listened to"""
    path = Path(folder) / "config.json"
    if not path.is_file():
        return f"{path}: not there; MODEL_DIR is a checkpoint directory"
    config = json.loads(path.read_text())
    names = config.get("architectures") or ["none"]
    if names[0] in TAPS:
        return None
    supported = ", ".join(sorted(name for name in TAPS if name != "Llamba"))
    return f"{path}: architecture {names[0]}, expected one of {supported}"


def chosen_layers(model, wanted):
    """Layers whose every site is compared: those asked for, or the first, middle and last one and
    the first of each make-up."""
    config = model.config
    count = config.num_hidden_layers
    if wanted == "all":
        return set(range(count))
    if wanted is not None:
        chosen = {int(layer) for layer in wanted.split(",")}
        outside = [layer for layer in chosen if not 0 <= layer < count]
        if outside:
            raise ValueError(f"--layers: layer {outside[0]}, expected 0 to {count - 1}")
        return chosen
    kinds = getattr(config, "layer_types", None) or ["same"] * count
    return {0, count // 2, count - 1} | {kinds.index(kind) for kind in set(kinds)}


class Passes:
    def __init__(self, folder, device, wanted_layers):
        self.folder, self.device, self.wanted = str(folder), device, wanted_layers
        self.model = self.load(torch.float32)
        self.config = self.model.config
        self.detail = chosen_layers(self.model, self.wanted)
        small = sum(p.numel() for p in self.model.parameters()) <= SMALL
        self.wide = self.detail if small else set()

    def load(self, dtype):
        # Eager attention: the fused one has no pattern, and leaves Gemma-2's soft cap out.
        model = transformers.AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=dtype, attn_implementation="eager", local_files_only=True
        )
        return model.eval().to(self.device)

    def record(self, ids):
        rec = Recording(self.detail, self.wide, strict=False)
        tap(self.model, rec)
        with torch.no_grad(), listen(self.model, rec), rec.listening():
            self.model(ids.to(self.device), use_cache=False)
        return rec.tensors

    def unhook(self):
        for module in self.model.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
            module._forward_pre_hooks_with_kwargs.clear()

    def float32(self, ids):
        return self.record(ids)

    def float64(self, ids):
        self.unhook()
        make_double(self.model)
        with double_pass():
            return self.record(ids)

    def bfloat16(self, ids):
        self.model = None
        self.model = self.load(torch.bfloat16)
        return self.record(ids)

# tests/golden/golden_tools: what a golden is made from.
import json
import shutil
from dataclasses import dataclass, field
from typing import Callable

import torch
import transformers
from safetensors.torch import load_file

from .weights import VOCAB, make_ids, randomize

COMMON = {"vocab_size": VOCAB, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}


@dataclass
class Family:
    seed: int
    build: Callable  # () -> model
    detail: set  # layers whose every site is kept (of the others, an outline)
    wide: set = field(default_factory=set)  # layers whose states and A_bar, B_bar are kept as well
    sketch: bool = False  # kept to what shows that one setting is followed
    old_dialect: bool = False  # also written as <name>_v4
    decode: bool = True  # are greedy steps recorded? Not where a longer text changes earlier values
    padded: bool = False  # is a batch of texts of different lengths recorded?
    extra: dict = field(default_factory=dict)  # keys that config.json has besides transformers' own
    without: list = field(default_factory=list)  # keys that it lacks, transformers' default holding
    others: dict = field(default_factory=dict)  # folder: (model, path) -> None, other layouts
    note: str = ""

    def make(self):
        return randomize(self.build(), self.seed)

    def ids(self):
        return make_ids(self.seed)

    def folders(self, name):
        return [name, *([f"{name}_v4"] if self.old_dialect else []), *self.others]

    def change_keys(self, path):
        config = json.loads(path.read_text())
        config = {k: v for k, v in (config | self.extra).items() if k not in self.without}
        path.write_text(json.dumps(config, indent=2) + "\n")


def of(kind, **config):
    """A builder of transformers' `kind`, with attention as it is written, not fused."""

    def build():
        name = "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
        built = getattr(transformers, f"{kind}Config")(**COMMON | config)
        return getattr(transformers, name)._from_config(built, attn_implementation="eager")

    return build


def write_weights(model, folder):
    """A fresh folder as save_pretrained writes it -> its tensors, by the names in the file."""
    if folder.exists():
        shutil.rmtree(folder)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return load_file(folder / "model.safetensors")


def check_loads(model, folder, ids):
    """A config that transformers did not write must still be this model to transformers."""
    again = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.no_grad():
        same = torch.equal(again(ids, use_cache=False).logits, model(ids, use_cache=False).logits)
    if not same:
        raise RuntimeError(f"{folder}: transformers reads this config as another model")

#!/usr/bin/env python3
"""Our recordings against TransformerLens's cache of the same checkpoint: every name, shape and value.

    PYTHONPATH=... tests/acceptance/check_transformer_lens.py --command build/release/bin/headlens MODEL_DIR...

Needs torch, transformers and transformer_lens 4 (its bridge over transformers, nothing folded or centred). For each directory:
TransformerLens caches every name it has; ours are recorded under the same names; names that only one side has, shapes and values
that differ are listed. A cache saved with numpy.savez must also pass `headlens verify`. Status 1 if a value or a shape differs.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples"))
from headlens_cache import load  # noqa: E402

TOLERANCE = 2e-5  # float32, of the tensor's largest entry


def cached(directory, ids):
    """TransformerLens's cache: arrays by name, and its logits."""
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    name = model.config.architectures[0]
    bridge = build_bridge_from_module(model, name, hf_config=model.config)
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(ids, use_cache=False)
    arrays = {k: v.detach().numpy() for k, v in cache.items() if torch.is_tensor(v) and v.is_floating_point()}
    return arrays | {"logits": logits.detach().numpy()}


def call(command, *words, fine=(0,)):
    done = subprocess.run([command, *map(str, words)], capture_output=True, text=True)
    if done.returncode not in fine:
        raise SystemExit(f"{' '.join(map(str, words))}: {done.stderr}")
    return done


def ours(command, directory, theirs, ids, folder):
    """The names that we have too, as recorded by `run` into .npz: `verify` says which it has no site for."""
    np.savez(folder / "ids.npz", input_ids=ids.numpy())
    np.savez(folder / "all.npz", **theirs)
    said = call(command, "verify", directory, "--golden", folder / "all.npz", "--ids", folder / "ids.npz", "--skip-unknown",
                "--json", fine=(0, 1))
    known = [tensor["name"] for tensor in json.loads(said.stdout)["tensors"]]
    call(command, "run", directory, "--ids", folder / "ids.npz", "--record", *known, "--out", folder / "ours.npz", "--quiet")
    return load(folder / "ours.npz")


def difference(a, b):
    """Largest difference over the largest finite entry; equal infinities count as equal."""
    with np.errstate(invalid="ignore"):
        apart = np.where(a == b, 0, np.abs(a - b))
    finite = np.isfinite(b) & (np.abs(b) < 1e30)  # masks are the least float there, -inf here
    apart = apart[finite & np.isfinite(a)]
    scale = np.max(np.abs(b[finite]), initial=1e-30)
    return float(np.max(apart, initial=0) / scale)


def compare(command, directory, folder):
    torch.manual_seed(0)
    vocab = json.loads((directory / "config.json").read_text())["vocab_size"]
    ids = torch.randint(vocab, (2, 9))
    theirs = cached(directory, ids)
    here = ours(command, directory, theirs, ids, folder)
    wrong, agreed = [], {"input_ids": ids.numpy()}
    for name, value in theirs.items():
        if name not in here:
            continue
        if here[name].shape != value.shape:
            wrong.append(f"  {name}: shape {here[name].shape} here, {value.shape} there")
        elif difference(here[name], value) > TOLERANCE:
            wrong.append(f"  {name}: differs by {difference(here[name], value):.1e} of its largest entry")
        elif "scores" not in name:  # their masked scores are the least float
            agreed[name] = value
    absent = sorted({n.split(".", 2)[2] if n.startswith("blocks.") else n for n in theirs if n not in here})
    print(f"{directory.name}: {len(theirs)} names there, {len(theirs) - len(absent_all(theirs, here))} here as well, {len(wrong)} differ")
    print("\n".join(wrong + [f"  only there: {', '.join(absent) or 'none'}"]))
    np.savez(folder / "theirs.npz", **agreed)
    call(command, "verify", directory, "--golden", folder / "theirs.npz", "--atol", "1e-4", "--rtol", "1e-4")
    print(f"  verify --golden theirs.npz: {len(agreed) - 1} tensors agree")
    return not wrong


def absent_all(theirs, here):
    return [name for name in theirs if name not in here]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--command", required=True)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    flags = parser.parse_args()
    fine = []
    for directory in flags.models:
        with tempfile.TemporaryDirectory() as folder:
            fine.append(compare(flags.command, directory, pathlib.Path(folder)))
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())

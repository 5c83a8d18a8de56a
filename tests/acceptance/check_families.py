#!/usr/bin/env python3
# tests/acceptance: random odd models of every family, each tensor held against transformers.
"""Draws configs, writes each checkpoint to a temporary directory, records transformers' float64 and float32 passes over
texts of several lengths, and has `headlens verify` run the same ids in float32.

    python check_families.py [--headlens BIN] [--families llama,mamba2] [--models N] [--seed N]

For each tensor, ours |float32 - float64| is divided by what transformers itself loses on that site (its largest loss
over the texts, relative to the tensor's largest value; at least two half-steps of float32, since a loss can be nought by
luck). A family whose worst ratio is above 10 fails, and so does a model that is refused.
"""
import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))
from golden_tools.architectures import listen, tap  # noqa: E402
from golden_tools.precision import double_pass, to_double  # noqa: E402
from golden_tools.record import Recording  # noqa: E402
from golden_tools.weights import randomize  # noqa: E402
from random_models import FAMILIES, build  # noqa: E402

LENGTHS = [1, 7, 31, 130]  # rising: transformers' dynamic rotary positions remember the longest
HALF_ULP = 2.0**-24
LIMIT = 10


def texts(model, rng):
    vocab = model.config.vocab_size
    for length in LENGTHS:
        batch = rng.randint(1, 3)
        if length == 1 and getattr(model.config, "mamba_rms_norm", False):
            length = 2  # transformers' gated norm of Falcon-H1 drops the axis of a single position
        yield torch.tensor([[rng.randrange(vocab) for _ in range(length)] for _ in range(batch)])


class Recorder:
    """Every site of a model; hooks are hung once."""

    def __init__(self, model):
        self.model = model
        self.rec = Recording(every(), every())
        tap(model, self.rec)

    def __call__(self, ids):
        self.rec.tensors = {}
        with torch.no_grad(), listen(self.model, self.rec), self.rec.listening():
            self.model(ids, use_cache=False)
        return self.rec.tensors


class every:
    """A set that holds all layers."""

    def __contains__(self, _):
        return True


def verify(headlens, folder, golden):
    """-> ({site: our largest difference}, None) or (None, what it said)"""
    command = [headlens, "verify", str(folder), "--golden", str(golden), "--dtype", "float32", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        return None, (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
    rows = json.loads(done.stdout)["tensors"]
    wrong = [row["name"] for row in rows if row.get("max_difference") is None]
    if wrong:
        return None, f"{wrong[0]}: another shape, or not finite"
    return {row["name"]: row["max_difference"] for row in rows}, None


def check_model(family, seed, headlens):
    """-> (worst ratio, where, tensors compared, what was wrong or None)"""
    rng = random.Random(f"{family} {seed}")
    model = randomize(build(family, rng), rng.randrange(2**31))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        exact_pass, single_pass = Recorder(to_double(model)), Recorder(model)
        losses, runs = {}, []
        for ids in texts(model, rng):
            with double_pass():
                exact = exact_pass(ids)
            single = single_pass(ids)
            golden = Path(folder) / "recording.safetensors"
            save_file(exact | {"input_ids": ids}, golden)
            ours, problem = verify(headlens, folder, golden)
            if problem:
                return 0, "", 0, f"{problem}; {json.dumps(model.config.to_diff_dict())}"
            for site, tensor in exact.items():
                scale = tensor.abs().max().item() or 1.0
                loss = (single[site].double() - tensor).abs().max().item() / scale
                losses[site] = max(losses.get(site, 2 * HALF_ULP), loss)
                runs.append((site, tuple(ids.shape), ours[site] / scale))
    worst, where = max((ours / losses[site], f"{site} {shape}") for site, shape, ours in runs)
    return worst, where, len(runs), None


def check_family(family, args):
    """-> did it pass?"""
    worst, place, tensors, problems = 0, "", 0, []
    for number in range(args.models):
        seed = args.seed + number
        ratio, where, compared, problem = check_model(family, seed, args.headlens)
        if problem:
            problems.append(f"  seed {seed}: {problem}")
        elif ratio > LIMIT:
            problems.append(f"  seed {seed}: {where} is {ratio:.3g} times transformers' own loss")
        tensors += compared
        if ratio > worst:
            worst, place = ratio, f"{where}, seed {seed}"
    verdict = "FAILS" if problems else "ok"
    print(f"{family:14} {args.models} models, {tensors} tensors, worst ratio {worst:.2f} ({place}) {verdict}", flush=True)
    print("".join(f"{line}\n" for line in problems), end="", flush=True)
    return not problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--headlens", default=str(root / "build/release/bin/headlens"))
    parser.add_argument("--families", default=",".join(FAMILIES), help="comma-separated (default: all)")
    parser.add_argument("--models", type=int, default=5, help="of each family (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the first model; the next ones count on")
    args = parser.parse_args()
    names = args.families.split(",")
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        parser.error(f"unknown family {', '.join(unknown)}; known: {', '.join(FAMILIES)}")
    if not Path(args.headlens).is_file():
        parser.error(f"{args.headlens}: not there; scripts/build makes it")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    passed = [check_family(name, args) for name in names]
    print("all families agree" if all(passed) else f"{passed.count(False)} of {len(names)} families fail")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())

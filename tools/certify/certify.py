#!/usr/bin/env python3
# tools/certify: a checkpoint of the user's own, held against transformers site by site.
"""Runs transformers on the checkpoint in float32 and float64 (and bfloat16), has `headlens verify` run
the same ids, and writes headlens_certificate.json. Ours is certified where, on every tensor compared,
it is within LIMIT times what transformers itself loses against its own float64 pass."""

import argparse
import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

import certificate
from passes import Passes, known, parameters

ROOT = Path(__file__).resolve().parents[2]
NAME = "headlens_certificate.json"
GIB = 2**30
TEXT = (
    "A head that copies looks back at what came after the last time it saw this word. "
    "The bell rang twice before noon; by evening the bell had rung nine times, and nobody in the "
    "village, young or old, could say who had been pulling the rope. Question: how often did it ring?"
)


class Unusable(Exception):
    """What was asked for cannot be tried."""


def flags():
    parser = argparse.ArgumentParser(
        prog="scripts/certify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL_DIR", type=Path)
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"for {NAME} (default: MODEL_DIR)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N, for both sides (default cpu)")
    parser.add_argument("--dtype", default="float32", help="float32 or float32,bfloat16: ours (default float32)")
    parser.add_argument("--ids", type=Path, metavar="FILE", help="token ids: JSON, numbers, or input_ids in safetensors")
    parser.add_argument("--length", type=int, default=48, help="tokens of the built-in prompt (default 48)")
    parser.add_argument("--layers", help="layers whose every site is compared: all, or 0,5,9 (default: a few)")
    parser.add_argument("--limit", type=float, default=10, help="times transformers' own loss (default 10)")
    parser.add_argument("--golden", type=Path, metavar="FILE", help="keep the float64 recording here")
    parser.add_argument("--headlens", type=Path, help="the command (default: $HEADLENS, or build/release/bin/headlens)")
    args = parser.parse_args()
    args.dtypes = args.dtype.split(",")
    for dtype in args.dtypes:
        if dtype not in certificate.HALF_STEP:
            parser.error(f"--dtype {dtype}, expected float32 or bfloat16")
    fallback = os.environ.get("HEADLENS") or ROOT / "build/release/bin/headlens"
    args.headlens = Path(args.headlens or fallback)
    return args


def check(args):
    """Everything that can be known to fail before a weight is read."""
    problem = known(args.model)
    if problem:
        raise Unusable(problem)
    if not os.access(args.headlens, os.X_OK):
        raise Unusable(f"{args.headlens}: no such command; scripts/build makes it, --headlens names another")
    place = args.out or args.model
    if args.out:
        place.mkdir(parents=True, exist_ok=True)
    if not os.access(place, os.W_OK):
        raise Unusable(f"{place}: cannot be written to; name a place with --out DIR")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise Unusable(f"--device {args.device}: torch sees no GPU here")


def headlens(args, *words):
    done = subprocess.run([str(args.headlens), *map(str, words)], capture_output=True, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Unusable(f"headlens {words[0]}: {said[-1] if said else f'status {done.returncode}'}")
    return done.stdout


def read_ids(path):
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return file.get_tensor("input_ids")
        text = path.read_text()
        rows = json.loads(text) if text.lstrip().startswith("[") else [int(w) for w in text.replace(",", " ").split()]
        return torch.tensor(rows if isinstance(rows[0], list) else [rows])
    except Exception as error:
        raise Unusable(f"{path}: expected token ids, got {error}") from error


def built_in_ids(folder, vocab, length):
    """-> (ids, where from): a little English where there is a tokenizer, random ids elsewhere."""
    tokenizer = Path(folder) / "tokenizer.json"
    if tokenizer.is_file():
        from tokenizers import Tokenizer

        ids = Tokenizer.from_file(str(tokenizer)).encode(TEXT).ids[:length]
        if len(ids) > 1 and max(ids) < vocab:
            return torch.tensor([ids]), "built-in text"
    generator = torch.Generator().manual_seed(2026)
    ids = torch.randint(0, vocab, (1, length), generator=generator)
    if length >= 16:
        ids[:, 10:15] = ids[:, 3:8]  # something for an induction head to find
    return ids, "built-in random ids"


def prompt(args, vocab):
    if not args.ids:
        return built_in_ids(args.model, vocab, args.length)
    ids = read_ids(args.ids)
    if ids.dim() != 2 or ids.numel() == 0 or int(ids.max()) >= vocab or int(ids.min()) < 0:
        raise Unusable(f"{args.ids}: expected ids in [batch, pos], each 0 to {vocab - 1}")
    return ids.long(), args.ids.name


def verify(args, golden, dtype):
    """{site: our largest difference from the float64 recording}; infinite where it is not finite."""
    words = ["verify", args.model, "--golden", golden, "--dtype", dtype, "--device", args.device, "--json"]
    rows = json.loads(headlens(args, *words))["tensors"]
    differences = {row["name"]: row.get("max_difference") for row in rows}
    return {site: float("inf") if value is None else value for site, value in differences.items()}


def run_transformers(args):
    """-> (ids, their source, layers with every site, float64 tensors, {dtype: tensors})"""
    try:
        passes = Passes(args.model, args.device, args.layers)
        ids, source = prompt(args, passes.config.vocab_size)
        detail = sorted(passes.detail)
        say(f"prompt of {list(ids.shape)} ({source}); every site of layers {detail}, an outline of the rest")
        narrow = {"float32": passes.float32(ids)}
        exact = passes.float64(ids)
        narrow["bfloat16"] = passes.bfloat16(ids)
    except (Unusable, ValueError):
        raise
    except Exception as error:
        raise Unusable(f"transformers: {type(error).__name__}: {error}") from error
    return ids, source, detail, exact, narrow


def compare(args):
    """-> the certificate"""
    inspected = json.loads(headlens(args, "inspect", args.model, "--json"))
    count = parameters(args.model)
    say(f"needs about {8.5 * count / GIB:.1f} GiB of memory on {args.device}: {count / 1e6:.4g} million weights in float64")
    ids, source, detail, exact, narrow = run_transformers(args)
    with tempfile.TemporaryDirectory() as scratch:
        golden = args.golden or Path(scratch) / "golden.safetensors"
        save_file(exact | {"input_ids": ids}, golden)
        say(f"headlens runs the same ids in {' and '.join(args.dtypes)}")
        ours = {dtype: verify(args, golden, dtype) for dtype in args.dtypes}
    theirs = {dtype: certificate.losses(exact, tensors) for dtype, tensors in narrow.items()}
    judged = {d: certificate.judge(exact, ours[d], theirs[d], d, args.limit) for d in args.dtypes}
    columns = {f"headlens_{d}": ours[d] for d in args.dtypes}
    columns |= {f"transformers_{d}": values for d, values in theirs.items()}
    failed = certificate.failures(judged)
    return {
        "schema": "headlens.certificate/1",
        "verdict": "not certified" if failed else "certified",
        "checkpoint": {
            "name": args.model.resolve().name,
            "fingerprint": inspected.get("fingerprint"),
            "architecture": inspected.get("architecture"),
            "dtype": inspected.get("dtype"),
            "weight_bytes": inspected.get("weight_bytes"),
        },
        "versions": {
            "headlens": headlens(args, "--version").strip(),
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": args.device,
        "dtypes": args.dtypes,
        "limit": args.limit,
        "prompt": {
            "source": source,
            "shape": list(ids.shape),
            "sha256": hashlib.sha256(json.dumps(ids.tolist()).encode()).hexdigest(),
        },
        "layers_with_every_site": detail,
        "tensors": len(exact),
        "sites": certificate.summary(exact, columns, judged),
        "failures": failed,
    }


def say(text):
    print(f"certify: {text}", file=sys.stderr, flush=True)


def report(made, place):
    columns = [key for key in next(iter(made["sites"].values())) if "_float" in key or "_bfloat" in key]
    print("largest |value - float64 value of transformers| over the layers compared\n")
    print(certificate.table(made["sites"], columns))
    print()
    for failure in made["failures"][:20]:
        print("{site} in {dtype}: off by {loss:.3g}, allowed {allowed:.3g}".format(**failure))
    within = f"within {made['limit']:g} times transformers' own loss"
    outside = len(made["failures"])
    total = made["tensors"] * len(made["dtypes"])
    print(f"{made['verdict'].upper()}: {total - outside} of {total} tensors {within}")
    print(f"certificate: {place}")


def finite(value):
    """JSON has no infinity."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


def main():
    args = flags()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        check(args)
        made = compare(args)
    except (Unusable, ValueError, OSError) as error:
        say(f"error: {error}")
        return 2
    place = (args.out or args.model) / NAME
    place.write_text(json.dumps(finite(made), indent=2) + "\n")
    report(made, place)
    return 0 if made["verdict"] == "certified" else 1


if __name__ == "__main__":
    sys.exit(main())

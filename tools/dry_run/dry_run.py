# tools/dry_run: runs the claims of `headlens reproduce` on random models, and tables how they went.
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import questions
import shapes

CLAIMS = ["C1", "C2", "C3", "C4", "C5", "C6", "C7"]


def fail(line):
    print(f"reproduce_dry_run: error: {line}", file=sys.stderr)
    sys.exit(2)


def parse():
    parser = argparse.ArgumentParser(prog="reproduce_dry_run")
    parser.add_argument("tokenizer", type=pathlib.Path, help="a directory with tokenizer.json, for all four models")
    parser.add_argument("--scale", choices=["full", "tiny"], default="full")
    parser.add_argument("--models", default=",".join(shapes.SHAPES), help="of " + ", ".join(shapes.SHAPES))
    parser.add_argument("--claims", default=",".join(CLAIMS))
    parser.add_argument("--device", help="as headlens takes it (default: a GPU if there is one)")
    parser.add_argument("--dtype", help="default: bfloat16, tiny float32")
    parser.add_argument("--n", type=int, default=4, help="examples of each task")
    parser.add_argument("--shots", type=int, default=1, help="examples before each question of MMLU and GSM8K")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens of a written answer")
    parser.add_argument("--batch-tokens", type=int, default=16384)
    parser.add_argument("--out", type=pathlib.Path, help="keeps every run's page and errors there")
    args = parser.parse_args()
    if not (args.tokenizer / "tokenizer.json").is_file():
        fail(f"TOKENIZER_DIR, expected a directory with tokenizer.json, got {args.tokenizer}")
    for name, known in ((args.models, shapes.SHAPES), (args.claims, CLAIMS)):
        for word in name.split(","):
            if word not in known:
                fail(f"expected some of {', '.join(known)}, got {word}")
    return args


def vocabulary(folder):
    """Rows of an embedding that has all of the tokenizer's ids."""
    file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = file["model"]["vocab"]
    ids = list(vocab.values()) if isinstance(vocab, dict) else list(range(len(vocab)))
    return 1 + max(ids + [token["id"] for token in file.get("added_tokens", [])])


def make_models(args, folder):
    rows = -(-vocabulary(args.tokenizer) // 64) * 64
    models = {}
    for name in args.models.split(","):
        there = folder / name
        there.mkdir(parents=True)
        (there / "config.json").write_text(json.dumps(shapes.SHAPES[name](rows, args.scale == "tiny"), indent=1))
        for file in ("tokenizer.json", "tokenizer_config.json"):
            if (args.tokenizer / file).is_file():
                shutil.copy(args.tokenizer / file, there / file)
        models[name] = f"random:models/{name}"  # runs are started in the folder
    return models


def words_of(args, claims, models, out):
    """The command of some claims; each is what a real checkpoint takes (docs/reproduce.md), with fewer examples."""
    n, shots, written = f"n={args.n}", f"shots={args.shots}", f"n=2,tokens={args.tokens}"
    data = "data"
    words = [os.path.abspath(os.environ["HEADLENS"]), "reproduce", *claims, "--models", ",".join(models), "--out", str(out),
             "--retrieval", f"mmlu:{data}/mmlu,{shots},{n}", "--knowledge", f"arc-challenge:{data}/arc.jsonl,{n}",
             "--related", f"gsm8k:{data}/gsm8k.jsonl,examples={data}/gsm8k.jsonl,{shots},{written}",
             "--related", f"bbh:{data}/bbh,{written}", "--related", f"bbh-cot:{data}/bbh,shots=1,{written}",
             "--related", f"dream:{data}/dream.json,{n}", "--related", f"mutual:{data}/mutual,{n}",
             "--dictionaries", "kv:pairs={}," + n, "--pairs", "4,16", "--batch-tokens", str(args.batch_tokens),
             "--dtype", args.dtype or ("bfloat16" if args.scale == "full" else "float32"), "--quiet"]
    return words + (["--device", args.device] if args.device else [])


def run(words, out, folder):
    start = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    seconds = time.monotonic() - start
    out.mkdir(parents=True, exist_ok=True)
    (out / "stderr.txt").write_text(done.stderr)
    if done.returncode != 0:
        print(f"status {done.returncode} after {seconds:.0f} s: {' '.join(words)}\n{done.stderr}", file=sys.stderr, flush=True)
    return done.returncode, seconds, done.stderr.strip().split("\n")[-1]


class Table:
    def __init__(self):
        self.failed = 0
        print("| claim | model | seconds | peak GiB | status | verdict |\n| --- | --- | --- | --- | --- | --- |", flush=True)

    def row(self, claim, model, seconds, peak, status, verdict):
        self.failed += status != 0
        verdict = verdict if len(verdict) <= 120 else verdict[:117] + "..."
        print(f"| {claim} | {model} | {seconds:.1f} | {peak} | {status} | {verdict} |", flush=True)


def tried(args, table, folder, claims, model, models, out, more=()):
    """One run of some claims; where it fails, each of them alone, to see which."""
    claims = [claim for claim in claims if claim in args.claims.split(",")]
    if not claims:
        return
    status, seconds, error = run([*words_of(args, claims, models, out), *more], out, folder)
    if status != 0 and len(claims) > 1:
        for claim in claims:
            tried(args, table, folder, [claim], model, models, out.parent / f"{out.name}-{claim}", more)
        return
    if status != 0:
        return table.row(claims[0], model, seconds, "-", status, error)
    study = json.loads((out / "study.json").read_text())
    for claim in study["claims"]:
        outcome = claim["outcomes"][0]
        peak = f"{outcome['peak_bytes'] / 2**30:.1f}" if outcome["peak_bytes"] else "-"
        table.row(claim["id"], model, outcome["seconds"], peak, 0, f"{outcome['verdict']}: {outcome['why']}")


def tried_graft(args, table, folder, models):
    """C6 by its own command: the claim asks first whether one model was distilled from the other, which none was."""
    words = [os.path.abspath(os.environ["HEADLENS"]), "graft", models["llamba"], "--from", models["llama"], "--layer", "1:1",
             "--task", f"mmlu:data/mmlu,shots={args.shots},n={args.n}", "--knowledge", f"arc-challenge:data/arc.jsonl,n={args.n}",
             "--dtype", args.dtype or ("bfloat16" if args.scale == "full" else "float32"), "--quiet"]
    status, seconds, error = run(words + (["--device", args.device] if args.device else []), folder / "out" / "graft", folder)
    table.row("C6", "llamba, layer 1 of llama", seconds, "-", status, error if status else "grafted")


def main():
    args = parse()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        out = (args.out or folder / "out").resolve()
        questions.write(folder / "data")
        models = make_models(args, folder / "models")
        table = Table()
        for name, model in models.items():
            tried(args, table, folder, ["C2", "C5", "C6", "C7"], name, [model], out / f"{name}-search")
            # Random weights have no Gather and Aggregate heads: some are named, so that C1 and C3 measure all they would.
            heads = shapes.HEADS[name][args.scale == "tiny"]
            tried(args, table, folder, ["C1", "C3"], name, [model], out / f"{name}-heads", ["--heads", heads])
            beside = [model] + ([models["llama"]] if name != "llama" and "llama" in models else [])
            tried(args, table, folder, ["C4"], name, beside, out / f"{name}-compare")
        if "C6" in args.claims.split(",") and {"llama", "llamba"} <= models.keys():
            tried_graft(args, table, folder, models)
    print(f"{table.failed} failed; {time.monotonic() - start:.0f} s in all")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())

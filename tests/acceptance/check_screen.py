#!/usr/bin/env python3
"""headlens/tests: is every head that matters among the first of the screen, on the bundled models?

Runs `find --screen=3 --exact` on each zoo model and task, with task seeds that the screen was not
made with, and compares the screen's order with the exact drops. A head with an exact accuracy drop
over 0.2 must be among the first 3; where more than 3 heads have one, the first 3 must all be such
heads (more cannot fit). Prints a table; status 1 if one is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = ["transformer", "llamba", "mamba2", "falcon-mamba", "hybrid"]
TASKS = ["mcq:options=4", "kv:pairs=8"]
FIRST = 3
MATTERS = 0.2


def find(command, model, task, n, seed, placement):
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [command, "find", f"zoo:{model}", "--task", f"{task},n={n}", "--out", out, "--seed",
             str(seed), f"--screen={FIRST}", "--exact", "--maps", "0", "--placement", placement,
             "--device", "cpu", "--quiet", "--json"],
            check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)


def name(head):
    return f"{head['layer']}.{head['head']}"


def verdict(scores):
    heads = sorted(scores["heads"], key=lambda h: h["screen_place"])
    must = [h for h in heads if h["accuracy_drop"] > MATTERS]
    first = [h for h in must if h["screen_place"] <= FIRST]
    holds = len(first) == min(len(must), FIRST)
    listed = " ".join(f"{name(h)}:{h['accuracy_drop']:.2f}@{h['screen_place']}" for h in must)
    return holds, listed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", default=str(Path(__file__).parents[2] / "build/release/bin/headlens"))
    parser.add_argument("--n", type=int, default=96)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--placement", default="post_norm")
    args = parser.parse_args()
    missed = 0
    print(f"{'model':<14}{'task':<16}{'seed':>4}  {'rank corr.':>10}  heads over {MATTERS}: drop@place")
    for model in args.models:
        for task in args.tasks:
            for seed in args.seeds:
                scores = find(args.command, model, task, args.n, seed, args.placement)
                holds, listed = verdict(scores)
                missed += not holds
                print(f"{model:<14}{task:<16}{seed:>4}  {scores['screen']['rank_correlation']:>10.2f}  "
                      f"{listed or 'none'}{'' if holds else '   MISSED'}", flush=True)
    print("every head is among the first" if missed == 0 else f"{missed} runs missed one")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

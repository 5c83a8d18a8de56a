#!/usr/bin/env python3
"""headlens/tests: is every head that matters among the first of the screen, on the bundled models?

Runs `find --screen=3 --exact` on each zoo model and task and compares the screen's order with the
exact drops. A run holds if every head with an exact accuracy drop over 0.2 is among the first 3. In
a run with more than 3 such heads no order can do that: there the first 3 must all be such heads.
`by gradients` counts the same for the order before the shortlist was measured. Prints a table, each
head as drop@place; status 1 if a head is missed. The screen's rules were chosen on seeds 0 to 8.
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


def gradient_place(head):
    return head.get("screen_exact", {}).get("gradient_place", head["screen_place"])


def hits(must, place):
    """How many of the heads that matter are among the first."""
    return sum(place(h) <= FIRST for h in must)


def verdict(must, place):
    if hits(must, place) == len(must):
        return "holds"
    return "too many" if hits(must, place) == FIRST else "MISSED"


def listed(must):
    return " ".join(f"{name(h)}:{h['accuracy_drop']:.2f}@{h['screen_place']}" for h in must) or "none"


def summary(verdicts):
    counts = {v: verdicts.count(v) for v in ("holds", "too many", "MISSED")}
    return (f"{counts['holds']} of {len(verdicts)} runs hold, {counts['too many']} have more such heads than places "
            f"and only them there, {counts['MISSED']} miss one")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", default=str(Path(__file__).parents[2] / "build/release/bin/headlens"))
    parser.add_argument("--n", type=int, default=96)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--placement", default="post_norm")
    args = parser.parse_args()
    found, before = [], []
    print(f"{'model':<14}{'task':<16}{'seed':>4}  {'rank corr.':>10}  {'':<10}heads over {MATTERS}: drop@place")
    for model in args.models:
        for task in args.tasks:
            for seed in args.seeds:
                scores = find(args.command, model, task, args.n, seed, args.placement)
                heads = sorted(scores["heads"], key=lambda h: h["screen_place"])
                must = [h for h in heads if h["accuracy_drop"] > MATTERS]
                found.append(verdict(must, lambda h: h["screen_place"]))
                before.append(verdict(must, gradient_place))
                print(f"{model:<14}{task:<16}{seed:>4}  {scores['screen']['rank_correlation']:>10.2f}  "
                      f"{found[-1]:<10}{listed(must)}", flush=True)
    print(summary(found))
    print(f"by gradients alone: {summary(before)}")
    return 1 if "MISSED" in found else 0


if __name__ == "__main__":
    sys.exit(main())

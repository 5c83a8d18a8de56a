#!/usr/bin/env python3
"""Shows what headlens writes: scores by layer and head, and one map, from npz, safetensors, csv or json.

    headlens export out/scores.json --out scores.npz
    headlens map zoo:transformer --text 'nail : 29 light : 57' --heads 3.0 --out maps.npz
    examples/read_results.py --scores scores.npz --field accuracy_drop --maps maps.npz --out shown.png
"""

import argparse
import csv
import json

import numpy as np
from headlens_cache import read_safetensors


def read_csv(path):
    """Long form: tensor, i0 .. i4, value."""
    values = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            index = tuple(int(row[f"i{d}"]) for d in range(5) if row[f"i{d}"])
            values.setdefault(row["tensor"], {})[index] = float(row["value"])
    return {name: np.array(list(cells.values())).reshape(np.max(list(cells), axis=0) + 1)
            for name, cells in values.items()}


def read_json(path):
    with open(path) as file:
        return {t["name"]: np.array(t["values"], float).reshape(t["shape"]) for t in json.load(file)["tensors"]}


def read(path):
    """Arrays by name, whichever of the four kinds the file is."""
    form = path.rsplit(".", 1)[-1]
    if form == "npz":
        return dict(np.load(path))
    return {"safetensors": read_safetensors, "csv": read_csv, "json": read_json}[form](path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for flag, default in {"scores": None, "field": "accuracy_drop", "maps": None, "out": "shown.png"}.items():
        parser.add_argument(f"--{flag}", default=default, required=default is None)
    flags = parser.parse_args()
    import matplotlib.pyplot as plt

    grid = read(flags.scores)[flags.field]
    name, shown = next((n, m) for n, m in read(flags.maps).items() if n.startswith("map."))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    figure.colorbar(left.imshow(grid, aspect="auto"), ax=left, label=flags.field)
    left.set(xlabel="head", ylabel="layer")
    figure.colorbar(right.imshow(shown), ax=right, label=name)
    right.set(xlabel="key", ylabel="query")
    figure.savefig(flags.out)


if __name__ == "__main__":
    main()

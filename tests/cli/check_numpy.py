#!/usr/bin/env python3
"""numpy reads what the command writes, and the readers in examples/ show it. check_numpy.py HEADLENS EXAMPLES.

Exits with 77 where numpy is not there, and says which part it left out where matplotlib is not.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not installed")
    sys.exit(77)

COMMAND, EXAMPLES = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path.insert(0, str(EXAMPLES))
import headlens_cache  # noqa: E402
import read_results  # noqa: E402

TEXT = "nail : 29 light : 57"


def headlens(*words):
    environment = os.environ | {"HEADLENS_ZOO": str(EXAMPLES / "zoo"), "OMP_NUM_THREADS": "1"}
    subprocess.run([COMMAND, *map(str, words)], check=True, env=environment, stdout=subprocess.DEVNULL)


def same(a, b):
    assert a.keys() == b.keys(), (sorted(a), sorted(b))
    for name in a:
        assert a[name].shape == b[name].shape, (name, a[name].shape, b[name].shape)
        # Decimal text gives float32 values back as float32.
        one, other = (np.nan_to_num(x[name].astype(np.float32), neginf=0) for x in (a, b))
        assert np.array_equal(one, other), name


def recordings(folder):
    """The same recording four ways; numpy's own reader against one that reads safetensors by hand."""
    sites = ["blocks.1.attn.*", "hook_embed", "logits"]
    for form in ["npz", "safetensors", "csv", "json"]:
        headlens("run", "zoo:transformer", "--text", TEXT, "--record", *sites, "--out", folder / f"r.{form}")
    npz = read_results.read(str(folder / "r.npz"))
    assert npz["blocks.1.attn.hook_pattern"].dtype == np.float32 and npz["input_ids"].dtype == np.int64
    raw = headlens_cache.read_safetensors(folder / "r.safetensors")
    for name, value in npz.items():
        assert value.tobytes() == raw[name].tobytes() and value.dtype == raw[name].dtype, name
    same(npz, read_results.read(str(folder / "r.csv")))
    same(npz, {k: np.nan_to_num(v) for k, v in read_results.read(str(folder / "r.json")).items()})


def cache(folder):
    """TransformerLens's shorthands, and the call of CircuitsVis."""
    found = headlens_cache.load(folder / "r.npz")
    tokens = found["input_ids"].shape[1]
    assert found["pattern", 1] is found["blocks.1.attn.hook_pattern"]
    assert found["pattern", 1].shape == (1, 4, tokens, tokens)
    assert np.allclose(found["pattern", 1].sum(-1), 1, atol=1e-5)
    assert found["embed"] is found["hook_embed"]
    call = headlens_cache.attention_patterns(found, 1, TEXT.split())
    assert call["attention"].shape == (4, tokens, tokens)
    try:
        found["pattern", 3]
    except KeyError as error:
        assert "recorded are" in str(error)
    else:
        raise AssertionError("a layer that was not recorded")


def drawings(folder):
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print("left out: read_results.py draws with matplotlib, which is not installed")
        return
    headlens("scores", "zoo:transformer", "--out", folder / "heads.json")
    for form in ["npz", "safetensors", "csv", "json"]:
        scores, maps, png = (folder / f"{name}.{form}" for name in ["scores", "maps", "png"])
        headlens("export", folder / "heads.json", "--out", scores)
        headlens("map", "zoo:transformer", "--text", TEXT, "--heads", "3.0", "--out", maps)
        png = png.with_suffix(".png")
        subprocess.run([sys.executable, EXAMPLES / "read_results.py", "--scores", scores, "--field", "induction", "--maps",
                        maps, "--out", png], check=True, env=os.environ | {"MPLBACKEND": "Agg"})
        assert png.read_bytes().startswith(b"\x89PNG"), form
        png.unlink()


for script in ["read_results.py", "headlens_cache.py"]:
    assert len((EXAMPLES / script).read_text().splitlines()) <= 60, f"{script} is longer than 60 lines"
with tempfile.TemporaryDirectory() as place:
    recordings(pathlib.Path(place))
    cache(pathlib.Path(place))
    drawings(pathlib.Path(place))
print("numpy reads them all")

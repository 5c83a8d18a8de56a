#!/usr/bin/env python3
# tests/golden: makes the tiny models and what transformers computes with them.
"""Writes <name>/{config.json, model.safetensors, golden.safetensors, decode.safetensors} for each
family, and manifest.json. `--check` makes everything again elsewhere and compares.

    python tests/golden/make_goldens.py [--out DIR] [--check] [family...]
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
from golden_tools.architectures import listen, tap  # noqa: E402
from golden_tools.families import FAMILIES  # noqa: E402
from golden_tools.family import check_loads, write_weights  # noqa: E402
from golden_tools.old_dialect import to_old_dialect  # noqa: E402
from golden_tools.precision import double_pass, to_double  # noqa: E402
from golden_tools.record import Recording  # noqa: E402

HERE = Path(__file__).resolve().parent
NEW_TOKENS = 8
TIE_MARGIN = 1e-3  # two best logits closer than this would make greedy ids a matter of rounding
HALF_ULP = 2.0**-24
PAD_ID = 0


def record(family, model, ids):
    """One forward with everything listened to."""
    rec = Recording(family.detail, family.wide, family.sketch)
    tap(model, rec)
    with torch.no_grad(), listen(model, rec), rec.listening():
        model(ids, use_cache=False)
    return rec.tensors


def greedy(model, ids):
    """Greedy steps, the whole text run again for each -> ids [b, n], logits [b, n, vocab]."""
    text, logits = ids, []
    for _ in range(NEW_TOKENS):
        with torch.no_grad():
            logits.append(model(text, use_cache=False).logits[:, -1])
        text = torch.cat([text, logits[-1].argmax(-1, keepdim=True)], dim=1)
    return text[:, ids.shape[1] :].contiguous(), torch.stack(logits, dim=1)


def cached_logits(model, ids, new_ids):
    """The same steps with transformers' own cache, one token at a time; None without a cache."""
    if not isinstance(model, transformers.PreTrainedModel):
        return None
    with torch.no_grad():
        out = model(ids, use_cache=True)
        logits = [out.logits[:, -1]]
        for step in range(NEW_TOKENS - 1):
            key = "cache_params" if "cache_params" in out else "past_key_values"
            more = {key: out[key]}
            if key == "past_key_values":  # Bamba would start again at position 0
                more["position_ids"] = torch.full((ids.shape[0], 1), ids.shape[1] + step)
            out = model(new_ids[:, step : step + 1], use_cache=True, **more)
            logits.append(out.logits[:, -1])
    return torch.stack(logits, dim=1)


def largest(x):
    return x.abs().max().item()


def tensor_entry(exact, single):
    """Shape, size, what transformers itself loses in float32, and the tolerance from that."""
    error = largest(single.double() - exact)
    return {
        "shape": list(exact.shape),
        "max": float(f"{largest(exact):.6g}"),
        "float32_error": float(f"{error:.3g}"),
        "atol": float(f"{10 * max(error, HALF_ULP * largest(exact)):.3g}"),
    }


def decode_entry(name, plain, models, ids):
    """-> (manifest entry, tensors) of the greedy steps; models are the float64 and the float32 one."""
    with double_pass():
        new_ids, exact = greedy(models[0], ids)
    single_ids, single = greedy(models[1], ids)
    assert torch.equal(new_ids, single_ids), (
        f"{name}: greedy ids depend on precision; change the seed"
    )
    best = exact.topk(2, dim=-1).values
    margin = (best[..., 0] - best[..., 1]).min().item()
    assert margin > TIE_MARGIN, f"{name}: near tie in the greedy steps; change the seed"
    entry = tensor_entry(exact, single)
    entry |= {"new_ids": new_ids.tolist(), "smallest_margin": float(f"{margin:.3g}")}
    try:
        cached = cached_logits(plain, ids, new_ids)
    except RuntimeError as error:  # Falcon-H1 with a gated norm and a batch
        entry["cached_failure"] = str(error)
        cached = None
    if cached is not None:
        entry["cached_float32_error"] = float(f"{largest(cached.double() - exact):.3g}")
    return entry, {"input_ids": ids, "new_ids": new_ids, "step_logits": exact.float()}


def padded_entry(models, ids):
    """-> (manifest entry, tensors): texts of other lengths in one batch, each run alone."""
    length = ids.shape[1]
    lengths = [length, length // 2 + 1, 1]
    batch = torch.full((len(lengths), length), PAD_ID)
    tensors, figures = {"first": torch.tensor([length - n for n in lengths])}, {}
    for row, n in enumerate(lengths):
        text = ids[row % ids.shape[0], -n:]
        batch[row, length - n :] = text
        with torch.no_grad():
            single = models[1](text[None], use_cache=False).logits
            with double_pass():
                exact = models[0](text[None], use_cache=False).logits
        tensors[f"logits.{row}"] = exact.float()
        figures[f"logits.{row}"] = tensor_entry(exact, single)
    return figures, tensors | {"input_ids": batch}


def make_golden(name, family):
    """-> (model, {file: its tensors}, manifest entry)"""
    model, ids = family.make(), family.ids()
    plain = family.make()  # hooks stay on `model`'s copies, not on what is saved
    exact_model = to_double(model)
    entry = {
        "seed": family.seed,
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    if family.note:
        entry["note"] = family.note
    files, models = {}, (exact_model, model)
    entry["decode"] = None
    if family.decode:
        entry["decode"], files["decode"] = decode_entry(name, plain, models, ids)
    if family.padded:
        entry["padded"], files["padded"] = padded_entry(models, ids)
    with double_pass():
        exact = record(family, exact_model, ids)
    single = record(family, model, ids)
    assert exact.keys() == single.keys(), "the two passes recorded different sites"
    entry |= {"v4": family.old_dialect, "others": list(family.others)}
    entry["tensors"] = {site: tensor_entry(exact[site], single[site]) for site in sorted(exact)}
    files["golden"] = {site: tensor.float() for site, tensor in exact.items()} | {"input_ids": ids}
    return plain, files, entry


def write_family(name, family, out):
    plain, files, entry = make_golden(name, family)
    folder = out / name
    write_weights(plain, folder)
    if family.extra or family.without:
        family.change_keys(folder / "config.json")
        check_loads(plain, folder, family.ids())
    for file, tensors in files.items():
        save_file(tensors, folder / f"{file}.safetensors")
    if family.old_dialect:
        to_old_dialect(plain, folder, out / f"{name}_v4", family.ids())
    for other, write in family.others.items():
        write(plain, out / other)
    written = [f for folder in family.folders(name) for f in sorted((out / folder).glob("*"))]
    stored = [f for f in written if not f.is_symlink()]
    entry["bytes"] = {str(f.relative_to(out)): f.stat().st_size for f in stored}
    return entry


def dump_json(value, indent=0):
    """JSON, an entry that holds no other on one line, so that a change reads well in a diff."""
    if not isinstance(value, dict) or not any(isinstance(v, dict) for v in value.values()):
        return json.dumps(value)
    pad = " " * (indent + 1)
    lines = [f"{pad}{json.dumps(k)}: {dump_json(v, indent + 1)}" for k, v in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"


def same_tensors(ours, stored, problems, where):
    for site in sorted(ours.keys() | stored.keys()):
        if site not in ours or site not in stored:
            problems.append(f"{where}: {site} is in one of the two only")
            continue
        got, want = stored[site], ours[site]
        # The float64 pass may round otherwise on another processor: one float32 step is allowed.
        bound = 4 * HALF_ULP * largest(want) if want.is_floating_point() else 0
        if got.shape != want.shape or largest(got.double() - want.double()) > bound:
            problems.append(f"{where}: {site} differs")


def check_family(name, family, out, problems):
    """Everything made anew in a temporary folder and held against `out`."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        write_family(name, family, scratch)
        for made in sorted(scratch.rglob("*.*")):
            stored = out / made.relative_to(scratch)
            if not stored.is_file():
                problems.append(f"{stored}: missing")
            elif made.name in ("golden.safetensors", "decode.safetensors", "padded.safetensors"):
                same_tensors(load_file(made), load_file(stored), problems, f"{name}/{made.name}")
            elif made.read_bytes() != stored.read_bytes():
                problems.append(f"{stored}: differs")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", metavar="family", help=", ".join(FAMILIES))
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--check", action="store_true", help="recompute and compare, write nothing")
    args = parser.parse_args()
    unknown = set(args.families) - FAMILIES.keys()
    if unknown:
        parser.error(f"unknown family {', '.join(sorted(unknown))}; known: {', '.join(FAMILIES)}")
    torch.set_num_threads(1)  # one order of summation everywhere
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    names = args.families or list(FAMILIES)

    if args.check:
        problems = []
        for name in names:
            check_family(name, FAMILIES[name], args.out, problems)
            print(f"{name}: checked")
        print("\n".join(problems) or "all goldens agree")
        return 1 if problems else 0

    path = args.out / "manifest.json"
    before = json.loads(path.read_text())["families"] if path.exists() else {}
    manifest = {
        "schema": "headlens.goldens/1",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "families": before,
    }
    for name in names:
        manifest["families"][name] = write_family(name, FAMILIES[name], args.out)
        entry = manifest["families"][name]
        size = sum(entry["bytes"].values()) / 1024
        print(f"{name}: {len(entry['tensors'])} tensors, {size:.0f} KiB")
    manifest["families"] = {
        n: manifest["families"][n] for n in FAMILIES if n in manifest["families"]
    }
    path.write_text(dump_json(manifest) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

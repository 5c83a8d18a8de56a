# tools/certify: what the passes and `headlens verify` say, put together and judged.
import re

HALF_STEP = {"float32": 2.0**-24, "bfloat16": 2.0**-9}


def largest(tensor):
    return tensor.abs().max().item() if tensor.numel() else 0.0


def losses(exact, narrow):
    """{site: max |narrow - exact|} of one of transformers' own passes."""
    return {site: largest(narrow[site].double() - exact[site]) for site in exact}


def judge(exact, ours, theirs, dtype, limit):
    """-> {site: (our loss, what is allowed)}: `limit` times transformers' own loss on that very
    tensor, which counts as at least two half-steps of the dtype at the tensor's largest value."""
    return {
        site: (ours[site], limit * max(theirs[site], 2 * HALF_STEP[dtype] * largest(exact[site])))
        for site in exact
    }


def kind_of(site):
    """blocks.7.attn.hook_q -> blocks.*.attn.hook_q"""
    return re.sub(r"^blocks\.\d+\.", "blocks.*.", site)


def summary(exact, losses_by_column, judged_by_dtype):
    """One row for each kind of site: figures are the largest over its layers."""
    rows = {}
    for site, tensor in exact.items():
        row = rows.setdefault(kind_of(site), {"layers": 0, "max": 0.0, "worst_of_limit": {}})
        row["layers"] += 1
        row["max"] = max(row["max"], largest(tensor))
        for column, values in losses_by_column.items():
            row[column] = max(row.get(column, 0.0), values[site])
        for dtype, judged in judged_by_dtype.items():
            loss, allowed = judged[site]
            ratio = loss / allowed if allowed else (0.0 if loss == 0 else float("inf"))
            row["worst_of_limit"][dtype] = max(row["worst_of_limit"].get(dtype, 0.0), ratio)
    return rows


def failures(judged_by_dtype):
    return [
        {"site": site, "dtype": dtype, "loss": loss, "allowed": allowed}
        for dtype, judged in judged_by_dtype.items()
        for site, (loss, allowed) in judged.items()
        if not loss <= allowed
    ]


def table(rows, columns):
    heads = ["site", "layers", "max", *(name.replace("_", " ") for name in columns), "of limit"]
    lines = [heads]
    for site, row in rows.items():
        worst = max(row["worst_of_limit"].values(), default=0.0)
        figures = [f"{row[name]:.2e}" for name in columns]
        lines.append([site, str(row["layers"]), f"{row['max']:.3g}", *figures, f"{worst:.0%}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
        for line in lines
    )

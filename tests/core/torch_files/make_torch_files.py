#!/usr/bin/env python3
"""Makes the files of this folder by torch.save (torch 2.11.0): make_torch_files.py. What is malformed is made by the
tests themselves."""

import collections
import pathlib

import torch

HERE = pathlib.Path(__file__).resolve().parent


def counted(*shape, dtype=torch.float32):
    """0, 1, 2, .. in the shape."""
    return torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)


def main():
    shared = counted(4, 3)
    wide = counted(3, 8, dtype=torch.bfloat16)
    torch.save({
        "bf16": counted(2, 3, dtype=torch.bfloat16), "f16": counted(5, dtype=torch.float16), "f32": shared,
        "f64": counted(1, 1, 2, dtype=torch.float64), "i64": counted(3, dtype=torch.int64),
        "bool": torch.tensor([True, False, True]), "scalar": torch.tensor(7.0), "empty": torch.zeros(0, 4),
        "tied": shared, "transposed": shared.t(), "row": shared[2], "columns": wide[:, 2:4],
        "parameter": torch.nn.Parameter(counted(2)), "frozen": torch.nn.Parameter(counted(2), requires_grad=False),
    }, HERE / "kinds.bin")

    # A state dict of a module: an OrderedDict that carries _metadata.
    module = torch.nn.Sequential(collections.OrderedDict(
        up=torch.nn.Linear(2, 3), down=torch.nn.Linear(3, 2, bias=False), norm=torch.nn.LayerNorm(2)))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(counted(*parameter.shape))
    torch.save(module.state_dict(), HERE / "module.bin")
    torch.save(module.state_dict(), HERE / "protocol4.bin", pickle_protocol=4)

    torch.save({"state_dict": module.state_dict(), "step": 3}, HERE / "nested.bin")
    torch.save({"w": counted(2), "step": 3}, HERE / "number.bin")
    torch.save([counted(2)], HERE / "list.bin")
    torch.save(module, HERE / "whole_module.bin")
    torch.save({"w": counted(2, 2).to_sparse()}, HERE / "sparse.bin")
    torch.save({"w": torch.complex(counted(2), counted(2)).conj().imag}, HERE / "negated.bin")
    torch.save({"w": counted(2).to(torch.complex64)}, HERE / "complex.bin")
    torch.save({"w": counted(2)}, HERE / "old_format.bin", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), HERE / "script.bin")


if __name__ == "__main__":
    main()

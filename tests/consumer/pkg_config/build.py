#!/usr/bin/env python3
"""Builds a program with g++ and pkg-config alone, runs it, and looks at what it is linked with: the
library must be inside, LibTorch outside. With --headers it instead asks the compiler what the
public headers pull in."""

import argparse
import os
import pathlib
import subprocess
import sys

# What a public header may not bring, at any depth: half a minute of compile time, or another fmt.
UNWANTED = ("torch/torch.h", "ATen/ATen.h", "ATen/Functions.h", "/fmt/", "/spdlog/", "/nlohmann/",
            "/CLI/", "pcre2.h", "utf8proc.h", "zip.h")


def words_of(prefix, *what):
    env = dict(os.environ, PKG_CONFIG_PATH=f"{prefix}/lib/pkgconfig")
    done = subprocess.run(["pkg-config", *what, "headlens"], env=env, check=True,
                          stdout=subprocess.PIPE, text=True)
    return done.stdout.split()


def build_and_run(flags, work):
    program = work / "program"
    words = words_of(flags.prefix, "--cflags", "--libs")
    subprocess.run([flags.compiler, "-std=c++20", flags.source, "-o", program, *words], check=True)
    subprocess.run([program, flags.model], check=True, env=dict(os.environ, OMP_NUM_THREADS="1"))
    dynamic = subprocess.run(["readelf", "-d", program], check=True, stdout=subprocess.PIPE, text=True)
    needed = [line for line in dynamic.stdout.splitlines() if "NEEDED" in line]
    if any("headlens" in line for line in needed):
        sys.exit(f"a static link was expected, got {needed}")
    if not any("libtorch_cpu.so" in line for line in needed):
        sys.exit(f"libtorch_cpu.so was expected among what is needed, got {needed}")


def check_headers(flags, work):
    include = flags.prefix / "include"
    headers = sorted(p.relative_to(include) for p in (include / "headlens").rglob("*.h"))
    every = work / "every.cpp"
    every.write_text("".join(f'#include "{h}"\n' for h in headers), encoding="utf-8")
    done = subprocess.run([flags.compiler, "-std=c++20", "-M", every, *words_of(flags.prefix, "--cflags")],
                          check=True, stdout=subprocess.PIPE, text=True)
    read = done.stdout.replace("\\\n", " ").split()
    bad = [path for path in read for part in UNWANTED if path.endswith(part) or (
        part.startswith("/") and part in path)]
    # LibTorch's light headers may read its own copies of other libraries, which are not ours.
    bad = [path for path in bad if not any(f"/torch/include{part}" in path for part in UNWANTED)]
    print(f"{len(headers)} public headers read {len(read)} files; unwanted: {bad or 'none'}")
    missing = [h for h in headers if not any(path.endswith(str(h)) for path in read)]
    if bad or missing or len(headers) < 50:
        sys.exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=pathlib.Path, help="the program")
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--prefix", required=True, type=pathlib.Path)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--headers", action="store_true")
    flags = parser.parse_args()
    flags.work.mkdir(parents=True, exist_ok=True)
    (check_headers if flags.headers else build_and_run)(flags, flags.work)


if __name__ == "__main__":
    main()

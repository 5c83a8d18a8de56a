#!/usr/bin/env python3
"""Which of our kernels a build has and which of them its programs launched.

    tools/dev/launched_kernels.py FILE     # what launched_kernels.c wrote, from any number of processes

Prints a row for each kernel whose instantiations were not all launched, and a last line with the numbers. Status 1 if
a kernel was launched in none of its instantiations, or if FILE has none.
"""
import re
import subprocess
import sys
from pathlib import Path


def readable(names):
    try:
        text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
        return text.splitlines()
    except FileNotFoundError:
        return names


def without(text, opening, closing):
    """The text without what is in brackets, nested ones too."""
    kept, depth = "", 0
    for c in text:
        depth += c == opening
        kept += c if depth == 0 else ""
        depth -= c == closing
    return kept


def kernel_of(name):
    """void headlens::(anonymous namespace)::stats_kernel<float, 64>(Params) -> stats_kernel(Params)"""
    plain = without(name.replace("(anonymous namespace)::", ""), "<", ">")
    return re.sub(r"^void ", "", plain).replace("headlens::", "")


def form_of(name):
    """<float, 64>, of the above; the kernel's name where it has no parameters."""
    plain = name.replace("(anonymous namespace)::", "").replace("headlens::", "")
    arguments = re.search(r"<.*>(?=\()", plain)
    return arguments[0] if arguments else kernel_of(name)


def main():
    launched = {}
    for line in Path(sys.argv[1]).read_text().splitlines():
        word, name, number = line.split()
        key = (name, number)
        launched[key] = launched.get(key, False) or word == "launched"
    names = dict(zip(launched, readable([name for name, _ in launched])))
    kernels = {}
    for key, was in launched.items():
        kernels.setdefault(kernel_of(names[key]), []).append((names[key], was))
    print("| kernel | launched | of | instantiations never launched |\n| --- | ---: | ---: | --- |")
    for kernel, forms in sorted(kernels.items()):
        never = [form_of(name) for name, was in forms if not was]
        if never:
            print(f"| `{kernel}` | {len(forms) - len(never)} | {len(forms)} | {', '.join(f'`{n}`' for n in never)} |")
    unseen = [kernel for kernel, forms in kernels.items() if not any(was for _, was in forms)]
    print(f"\n{len(kernels) - len(unseen)} of {len(kernels)} kernels launched, "
          f"{sum(launched.values())} of {len(launched)} instantiations"
          + (f"; never: {', '.join(unseen)}" if unseen else ""))
    return 1 if unseen or not kernels else 0


if __name__ == "__main__":
    sys.exit(main())

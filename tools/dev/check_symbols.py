#!/usr/bin/env python3
"""Compares the public symbols of the built libraries with tests/consumer/symbols.txt: one that is
gone while major and minor version are the same is a breach of semantic versioning. Also fails on
symbols of fmt, spdlog or nlohmann that a shared library linking ours would export. --update writes
the list anew. Needs Python 3.9 and binutils."""

import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIST = ROOT / "tests" / "consumer" / "symbols.txt"
ROOMS = ("core", "kernels", "model", "hooks", "tasks", "analysis", "report")
OTHERS = re.compile(r"^(?:vtable for |typeinfo (?:name )?for )?(?:\w+ )?(fmt|spdlog|nlohmann|CLI)::")


def project_version():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(r"project\(headlens VERSION (\d+\.\d+\.\d+)", text)[1]


def names_of_headers():
    """Every word outside of private parts of public headers, and the classes defined there: what is
    not among them is private."""
    words, classes = set(), set()
    for header in (ROOT / "include" / "headlens").rglob("*.h"):
        text = re.sub(r"//.*", "", header.read_text(encoding="utf-8"))
        classes |= set(re.findall(r"(?:class|struct) (\w+)[^;{()]*\{", text))
        # A class closes one space left of its " private:".
        text = re.sub(r"^( *) private:.*?^(?=\1(?:\};| public:))", "", text, flags=re.M | re.S)
        words |= set(re.findall(r"[A-Za-z_]\w*", text))
    return words, classes


def defined(archive):
    """(demangled name, visibility) of the global functions and objects that an archive defines."""
    table = subprocess.run(["readelf", "-Ws", archive], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in table.splitlines()]
    rows = [r for r in rows if len(r) == 8 and r[4] in ("GLOBAL", "WEAK") and r[6] not in ("UND", "Ndx")]
    names = subprocess.run(["c++filt"], input="\n".join(r[7] for r in rows), check=True,
                           capture_output=True, text=True).stdout.splitlines()
    return [(name, row[5], row[4]) for name, row in zip(names, rows)]


def public_names(symbols, words, classes):
    """Functions of namespace headlens that public headers declare, with their parameters."""
    found = set()
    for name, _, binding in symbols:
        if binding != "GLOBAL" or not name.startswith("headlens::") or "(anonymous" in name:
            continue
        plain = re.sub(r"\[abi:\w+\]", "", name)
        path = plain.split("(")[0].split("::")[1:]
        path = [re.sub(r"<.*", "", part).lstrip("~") for part in path]
        known = all(part in words or part.startswith("operator") for part in path)
        if known and all(part in classes for part in path[:-1]):
            found.add(plain)
    return found


def exported(plugin):
    """Names of ours and of what is inside ours in a shared library's dynamic table."""
    table = subprocess.run(["nm", "-DC", "--defined-only", plugin], check=True, capture_output=True,
                           text=True).stdout
    names = [" ".join(line.split(" ")[2:]) for line in table.splitlines()]
    return [f"{plugin.name}: exports {name}" for name in names
            if OTHERS.match(name) or name.startswith("headlens::")]


def read_list():
    lines = LIST.read_text(encoding="utf-8").splitlines()
    version = re.match(r"# headlens ([\d.]+)", lines[0])[1]
    return version, {line for line in lines[1:] if line and not line.startswith("#")}


def write_list(names):
    head = f"# headlens {project_version()}: public symbols; tools/dev/check_symbols.py --update writes this\n"
    LIST.write_text(head + "\n".join(sorted(names)) + "\n", encoding="utf-8")


def compare(now):
    """Breaches of semantic versioning."""
    version, listed = read_list()
    current = project_version()
    gone = sorted(listed - now)
    if version.split(".")[:2] != current.split(".")[:2]:
        print(f"the list is of {version}, this is {current}: --update it before a release")
        return []
    for name in sorted(now - listed):
        print(f"new since {version}: {name}")
    return [f"{name}: gone since {version}, expected with the same major and minor version ({current})"
            for name in gone]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lib", required=True, type=pathlib.Path, help="folder with libheadlens_*.a")
    parser.add_argument("--plugin", type=pathlib.Path, help="a shared library that links ours")
    parser.add_argument("--update", action="store_true")
    flags = parser.parse_args()
    (words, classes), now, breaches = names_of_headers(), set(), []
    for room in ROOMS:
        symbols = defined(flags.lib / f"libheadlens_{room}.a")
        now |= public_names(symbols, words, classes)
        breaches += [f"libheadlens_{room}.a: {name} would be exported, expected hidden"
                     for name, visibility, _ in symbols
                     if visibility == "DEFAULT" and (OTHERS.match(name) or name.startswith("headlens::"))]
    if flags.plugin:
        breaches += exported(flags.plugin)
    if flags.update:
        write_list(now)
        return 0
    if len(now) < 200:  # a filter that is off would hide everything
        breaches.append(f"{flags.lib}: {len(now)} public symbols, expected more than 200")
    breaches += compare(now)
    for line in breaches:
        print(line)
    print(f"check_symbols: {len(now)} public symbols, {len(breaches)} breach(es)")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())

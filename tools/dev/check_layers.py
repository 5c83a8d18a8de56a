#!/usr/bin/env python3
"""Checks the rules of the house that a compiler does not: who may include whom, that every file is
listed and every test has its subject, sizes, door plates. Prints one line per breach; status 1 if
there is one. Run by ctest and pre-commit; needs Python 3.9 and nothing else."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Who may include whom. A room may always include itself.
ROOMS = {
    "core": set(),
    "kernels": {"core"},
    "model": {"core", "kernels"},
    "hooks": {"core", "kernels", "model"},
    "tasks": {"core", "model", "hooks"},
    "analysis": {"core", "kernels", "model", "hooks"},
    "report": set(),  # REPORT_MAY below: single headers, never torch
    "cli": {"core", "kernels", "model", "hooks", "tasks", "analysis", "report"},
}
REPORT_MAY = {
    "core/check.h",
    "core/whole_file.h",
    "headlens/core/error.h",
    "headlens/core/log.h",
    "headlens/core/version.h",
    "headlens/analysis/compare_types.h",
    "headlens/analysis/types.h",
    "headlens/tasks/types.h",
}
# Headers in which torch stops: what they hold leaves as plain numbers.
NO_TORCH = {"include/headlens/analysis/types.h", "include/headlens/analysis/compare_types.h",
            "include/headlens/tasks/types.h",
            "include/headlens/core/error.h", "include/headlens/core/log.h", "src/core/check.h", "src/core/whole_file.h"}
# Outside std, all a public header may include. fmt, spdlog and nlohmann stay in sources: LibTorch
# carries another fmt, and a consumer's include path is not ours to order.
PUBLIC_THIRD_PARTY = ("ATen/", "c10/", "Eigen/")
TORCH = ("ATen/", "c10/", "torch/")
DEVICE_MAY = ("cuda", "cub/", "cooperative_groups", "mma.h", "math_constants.h", "thrust/")
BUDGETS = {".h": 200, ".cuh": 400, ".cpp": 400, ".cu": 400}
TEST_BUDGET = 500
# Tests of several units together, named for what they hold true instead of for a stem.
TOGETHER = re.compile(r"^(golden|property|all_|end_to_end|contract)")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
breaches = []


def breach(path, text):
    breaches.append(f"{path.relative_to(ROOT)}: {text}")


def files(folder, *suffixes):
    top = ROOT / folder
    return sorted(p for p in top.rglob("*") if p.suffix in suffixes and p.is_file())


def includes(path):
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def resolve(path, name):
    """The file a quoted include means, or None."""
    for base in (ROOT / "include", ROOT / "src", ROOT / "tests", ROOT / "kernels", path.parent):
        if (base / name).is_file():
            return (base / name).relative_to(ROOT)
    return None


def room_of(relative):
    parts = relative.parts
    if parts[:2] == ("include", "headlens") and len(parts) > 3:
        return parts[2]
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    return None


def check_quoted(path, room, name):
    target = resolve(path, name)
    if target is None:
        breach(path, f'includes "{name}", which is not there')
        return
    if path.is_relative_to(ROOT / "include") and target.parts[0] != "include":
        breach(path, f'a public header may not include the private "{name}"')
    other = room_of(target)
    if room is None or other in (None, room):
        return
    if room == "report":
        if name not in REPORT_MAY:
            breach(path, f'room report may not include "{name}"')
    elif other not in ROOMS[room]:
        breach(path, f'room {room} may not include "{name}"')


def check_angled(path, room, name):
    if name.startswith("headlens/") or name.split("/")[0] in ROOMS:
        breach(path, f"includes our own <{name}>, expected quotes")
    relative = str(path.relative_to(ROOT))
    public = relative.startswith("include/")
    torch = name.startswith(TORCH)
    if public and "/" in name and not name.startswith(PUBLIC_THIRD_PARTY):
        breach(path, f"a public header may not include <{name}>")
    if torch and (room == "report" or relative in NO_TORCH):
        breach(path, f"torch stops before this file, but it includes <{name}>")
    if name == "torch/torch.h" and not relative.startswith("examples/"):
        breach(path, "includes <torch/torch.h>, half a minute of compile time")


def check_includes():
    for folder in ("include", "src"):
        for path in files(folder, ".h", ".cpp"):
            room = room_of(path.relative_to(ROOT))
            for bracket, name in includes(path):
                (check_quoted if bracket == '"' else check_angled)(path, room, name)
    for path in files("kernels", ".h", ".cuh", ".cu"):
        for bracket, name in includes(path):
            if bracket == "<" and ("/" in name or name.endswith(".h")):
                if not name.startswith(DEVICE_MAY):
                    breach(path, f"device code may not include <{name}>")
            if bracket == '"' and not (ROOT / "kernels" / name).is_file():
                breach(path, f'device code may not include "{name}"')
            if name.endswith(".cuh") and path.suffix == ".h":
                breach(path, f'a header for plain C++ may not include "{name}"')


def listed(folder):
    """Source files named in a folder's CMakeLists.txt, comments left out."""
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    text = re.sub(r"#.*|\$\{[^}]*\}/\S+", "", text)
    return set(re.findall(r"[\w./-]+\.(?:cpp|cu)\b", text))


def check_listing(folder, suffix):
    names = listed(folder)
    for path in sorted(folder.rglob(f"*{suffix}")):
        nested = any((up / "CMakeLists.txt").is_file() for up in path.parents
                     if folder in up.parents)
        if not nested and str(path.relative_to(folder)) not in names:
            breach(path, f"is in no target: list it in {folder.relative_to(ROOT)}/CMakeLists.txt")
    for name in sorted(names):
        if name.endswith(suffix) and not (folder / name).is_file():
            breach(folder / "CMakeLists.txt", f"lists {name}, which is not there")


def check_lists():
    for folder in [ROOT / "src" / room for room in ROOMS] + [ROOT / "src", ROOT / "examples"]:
        check_listing(folder, ".cpp")
    for folder in sorted((ROOT / "tests").rglob("CMakeLists.txt")):
        check_listing(folder.parent, ".cpp")
    check_listing(ROOT / "kernels", ".cu")


def check_tests():
    for room in ROOMS:
        stems = {p.stem for p in files(f"src/{room}", ".h", ".cpp")}
        stems |= {p.stem for p in files(f"include/headlens/{room}", ".h")}
        for path in files(f"tests/{room}", ".cpp"):
            if not path.stem.endswith("_test"):
                breach(path, "is a test source that is not named <stem>_test.cpp")
                continue
            subject = path.stem[: -len("_test")]
            known = any(subject == s or subject.startswith(s + "_") for s in stems)
            if not known and not TOGETHER.match(subject):
                breach(path, f"is an orphan: no {subject}.h or {subject}.cpp in room {room}")


def check_sizes_and_plates():
    for folder in ("include", "src", "kernels", "tests", "examples"):
        for path in files(folder, ".h", ".cpp", ".cu", ".cuh"):
            lines = path.read_text(encoding="utf-8").splitlines()
            is_test = folder == "tests" and path.suffix == ".cpp"
            budget = TEST_BUDGET if is_test else BUDGETS[path.suffix]
            if len(lines) > budget:
                breach(path, f"has {len(lines)} lines, expected at most {budget}")
            room = room_of(path.relative_to(ROOT)) or r"[\w/-]+"
            if not lines or not re.match(rf"// headlens/{room}(/[\w-]+)?: \S", lines[0]):
                plate = "<room>" if "[" in room else room
                breach(path, f"first line, expected '// headlens/{plate}: what this file is for.'")
            if path.suffix in (".h", ".cuh") and "#pragma once" not in lines[:12]:
                breach(path, "has no #pragma once near its top")


def check_types_once():
    """A type in namespace headlens defined in two files of one program would be two types with one name."""
    seen = {}
    for folder in ("include", "src"):
        for path in files(folder, ".h"):
            for name in re.findall(r"^(?:struct|class)\s+(\w+)[^;(]*\{", path.read_text(encoding="utf-8"), re.M):
                if seen.setdefault(name, path) != path:
                    breach(path, f"defines {name}, which {seen[name].relative_to(ROOT)} defines too")


def check_skips():
    skips = (ROOT / "tests" / "SKIPS.md").read_text(encoding="utf-8")
    for path in files("tests", ".cpp", ".h"):
        if "GTEST_SKIP" in path.read_text(encoding="utf-8"):
            if str(path.relative_to(ROOT / "tests")) not in skips:
                breach(path, "skips a test without a row in tests/SKIPS.md")


def main():
    for check in (check_includes, check_lists, check_tests, check_sizes_and_plates, check_types_once, check_skips):
        check()
    for line in breaches:
        print(line)
    print(f"check_layers: {len(breaches)} breach(es)")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())

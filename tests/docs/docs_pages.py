"""The commands and C++ programs in the code blocks of Markdown pages."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What a line of a plain code block must begin with to be a command, environment settings aside.
PROGRAMS = ("headlens apt apt-get cmake cp cpack ctest debootstrap docker dpkg g++ git huggingface-cli "
            "mpirun ninja pip pip3 pkg-config python3 sbatch srun sudo tar torchrun export cd "
            "unzip curl wget doxygen").split()
FOLDERS = ("build/", "scripts/", "tests/", "tools/", "./")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=(?:\"[^\"]*\"|'[^']*'|[^\s'\"]*)(?:\s+|$)")


def pages():
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"] + sorted((ROOT / "docs").glob("*.md"))
    return found + sorted((ROOT / "examples").rglob("README.md"))


def blocks_of(page):
    """(number of the first line, language or "", lines) of every code block."""
    lines = page.read_text(encoding="utf-8").splitlines()
    block, language, fence, blank = [], "", None, True
    for number, line in enumerate(lines + [""], 1):
        mark = re.match(r"\s*```(\w*)", line)
        if fence is not None:
            if mark:
                yield fence + 1, language, block
                fence, block = None, []
            else:
                block.append(line)
            blank = True
            continue
        if block and not line.startswith("    ") and line.strip():
            yield number - len(block), "", block
            block = []
        if mark:
            if block:
                yield number - len(block), "", block
            fence, language, block = number, mark[1], []
        elif line.startswith("    ") and (block or blank or lines[number - 2].startswith("#")):
            block.append(line[4:])
        elif block and not line.strip():
            block.append("")
        blank = not line.strip()
    if block:
        yield len(lines) + 2 - len(block), "", block


def is_command(line):
    while ASSIGNMENT.match(line):
        line = line[ASSIGNMENT.match(line).end():]
    word = line.split(" ")[0] if line else ""
    return word in PROGRAMS or word.startswith(FOLDERS)


def commands_of(page):
    """(line, command) of every command: lines that go on are joined, and the settings of a block
    (`M=/models` by itself) stand before each of its later commands. A block fenced as sh is one."""
    for first, language, lines in blocks_of(page):
        if language in ("sh", "bash"):
            yield first, "\n".join(lines)
        if language not in ("", "console"):
            continue
        settings, command, start = "", "", 0
        for number, line in enumerate(lines, first):
            start = start if command else number
            command += line
            if command.endswith("\\"):
                command = command[:-1]
                continue
            words = re.sub(r"(^|\s)#.*", "", command).strip()
            if words and not ASSIGNMENT.sub("", words):
                settings += words + "; "
            elif is_command(words):
                yield start, settings + words
            command = ""


def table_commands_of(page):
    """The first cells of tables headed "| command | does |", which leave out the word headlens."""
    inside = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        inside = line.startswith("| command | does |") or (inside and line.startswith("|"))
        cell = re.match(r"\| `([a-z][^`]*)`", line)
        if inside and cell:
            yield number, "headlens " + cell[1]


def programs_of(page):
    for first, language, lines in blocks_of(page):
        if language == "cpp":
            yield first, "\n".join(lines)

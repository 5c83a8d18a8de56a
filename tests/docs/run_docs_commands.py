#!/usr/bin/env python3
"""Runs every command that README.md, docs/*.md and the READMEs of examples/ show, as written, in a
scratch folder laid out like a fresh machine, and builds and runs every C++ program there. What
cannot run here stands in NOT_RUN with its reason and is printed by name. Needs Python 3.9."""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from docs_pages import ROOT, commands_of, pages, programs_of, table_commands_of
from docs_tables import CHAT, FILES, FRAGMENT_HEAD, MODELS, NOT_RUN, START, SUBSTITUTIONS


def instruct(model):
    """Gives a bundled model what an instruct checkpoint has: a start token and a chat template."""
    known = json.loads((ROOT / "tests/golden/chat/expected.json").read_text(encoding="utf-8"))
    for file, key, value in (("tokenizer.json", "post_processor", START),
                             ("tokenizer_config.json", "chat_template",
                              known["cases"][CHAT]["template"])):
        content = json.loads((model / file).read_text(encoding="utf-8"))
        content[key] = value
        (model / file).write_text(json.dumps(content), encoding="utf-8")


class Machine:
    """A scratch folder with what a user has after scripts/build, and checkpoints under models/."""

    def __init__(self, folder, build, prefix):
        self.folder = folder
        (folder / "build").mkdir()
        (folder / "build" / "release").symlink_to(build)
        for name in ("scripts", "tests", "tools", "examples", "docs", "cmake"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "models").mkdir()
        for name, zoo in MODELS.items():
            shutil.copytree(ROOT / "examples" / "zoo" / zoo, folder / "models" / name)
        instruct(folder / "models" / "Llama-3.1-8B-Instruct")
        for name, text in FILES.items():
            (folder / name).write_text(text, encoding="utf-8")
        cache = (build / "CMakeCache.txt").read_text(encoding="utf-8")
        cmake = pathlib.Path(re.search(r"CMAKE_COMMAND:INTERNAL=(.*)", cache)[1]).parent
        self.env = dict(os.environ, OMP_NUM_THREADS="1", HOME=str(folder),
                        PATH=f"{build}/bin:{cmake}:/usr/bin:{os.environ['PATH']}",  # the python3 that has numpy
                        PKG_CONFIG_PATH=f"{prefix}/lib/pkgconfig")

    def text(self, command):
        """The command with the few words replaced that stand for something of the user's."""
        for pattern, value in SUBSTITUTIONS:
            command = re.sub(pattern, value, command)
        return command.replace("/models/", f"{self.folder}/models/")

    def run(self, command, timeout=300):
        """The exit status, and what was printed."""
        try:
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", self.text(command)],
                                  cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=timeout, errors="replace")
        except subprocess.TimeoutExpired:
            return "none", f"not done after {timeout} seconds"
        return done.returncode, done.stdout

    def compile(self, header, name, program, whole):
        """Builds a program against the installed library; of a fragment the object alone."""
        program = program.replace("/models/", f"{self.folder}/models/")
        (self.folder / f"{name}.cpp").write_text(program, encoding="utf-8")
        wanted = f"-o {name} $(pkg-config --cflags --libs headlens)" if whole else (
            "-fsyntax-only $(pkg-config --cflags headlens)")
        return self.run(f"g++ -std=c++20 -include {header} {name}.cpp {wanted}")

    def precompile(self, header):
        """headlens.h once for all programs: it is most of the time that one takes."""
        header.write_text("#include <ATen/ATen.h>\n#include <headlens/headlens.h>\n", encoding="utf-8")
        return self.run(f"g++ -std=c++20 -x c++-header {header} -o {header}.gch "
                        "$(pkg-config --cflags headlens)")


def shown(command):
    """A command in one line."""
    lines = command.splitlines()
    return lines[0] if len(lines) == 1 else f"{lines[0]} .. {lines[-1]}"


class Report:
    def __init__(self):
        self.run, self.skipped, self.failed, self.used = 0, 0, [], set()

    def skip(self, where, command):
        for pattern, reason in NOT_RUN:
            if re.search(pattern, command):
                self.used.add(pattern)
                self.skipped += 1
                print(f"not run: {where}: {shown(command)}\n         ({reason})")
                return True
        return False

    def result(self, where, what, status, output, seconds):
        self.run += 1
        if status != 0:
            self.failed.append(where)
            tail = "\n".join(output.splitlines()[-15:])
            print(f"FAILED: {where}: {shown(what)}\nstatus {status}\n{tail}")
        else:
            print(f"{seconds:5.1f} s  {where}: {shown(what)}")


def run_commands(machine, page, report):
    for line, command in sorted([*commands_of(page), *table_commands_of(page)]):
        where = f"{page.relative_to(ROOT)}:{line}"
        if report.skip(where, command):
            continue
        start = time.monotonic()
        status, output = machine.run(command)
        report.result(where, command, status, output, time.monotonic() - start)


def run_programs(machine, page, header, report):
    """Whole programs are built and run on the model they name; fragments are built."""
    for line, program in programs_of(page):
        where = f"{page.relative_to(ROOT)}:{line}"
        whole = "int main(" in program
        if report.skip(where, program.strip().splitlines()[0]):
            continue
        if not header.exists():
            start = time.monotonic()
            status, output = machine.precompile(header)
            report.result(header.name, "headlens.h, precompiled", status, output, time.monotonic() - start)
        name = f"{page.stem}_{line}"
        start = time.monotonic()
        if not whole:
            program = f"{FRAGMENT_HEAD}void fragment() {{\n{program}\n}}\n"
        status, output = machine.compile(header, name, program, whole)
        if status == 0 and whole:
            status, output = machine.run(f"./{name} MODEL_DIR" if "argv" in program else f"./{name}")
        report.result(where, f"C++ {'program' if whole else 'fragment'}", status, output,
                      time.monotonic() - start)


def check_tables(report, every_page):
    """A row that fits no command is a row to delete."""
    for pattern, _ in NOT_RUN:
        if every_page and pattern not in report.used:
            report.failed.append(f"docs_tables.py: NOT_RUN row '{pattern}' fits no command")
            print(report.failed[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path, help="the build folder")
    parser.add_argument("--prefix", type=pathlib.Path, help="where that build is installed; without "
                        "it C++ is not built")
    parser.add_argument("--page", action="append", help="only these, by name: README.md")
    flags = parser.parse_args()
    chosen = [p for p in pages() if not flags.page or p.name in flags.page]
    report = Report()
    with tempfile.TemporaryDirectory(prefix="headlens-docs-") as name:
        for page in chosen:
            folder = pathlib.Path(name) / page.relative_to(ROOT).as_posix().replace("/", "_")
            folder.mkdir()
            machine = Machine(folder, flags.build.resolve(), flags.prefix and flags.prefix.resolve())
            run_commands(machine, page, report)
            if flags.prefix:
                run_programs(machine, page, pathlib.Path(name) / "all.h", report)
    check_tables(report, not flags.page and flags.prefix)
    if report.run == 0:
        report.failed.append("no command was found")
    print(f"docs_commands: {report.run} run, {report.skipped} not run, {len(report.failed)} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())

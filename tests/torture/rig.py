"""What every fault works with: calls of the command, and what they leave behind."""
import dataclasses
import json
import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Callable

PATIENCE = 600  # seconds


class Surprise(Exception):
    """What should not have happened."""


class Skip(Exception):
    """Why a fault cannot be made here."""


@dataclasses.dataclass
class Fault:
    name: str
    expected: str
    times: int
    quick: int
    run: Callable  # (rig, times) -> yields what happened, each time


@dataclasses.dataclass
class Ended:
    status: int  # negative: killed by that signal
    out: str
    err: str
    seconds: float
    peak_bytes: int = 0


def expect(holds, what):
    if not holds:
        raise Surprise(what)


def one_line(ended, *, status=None, has=()):
    """A failed call says why in one line, as the contract has it."""
    lines = [line for line in ended.err.splitlines() if line.startswith("headlens: error: ")]
    others = [line for line in ended.err.splitlines() if not line.startswith("headlens: ")]
    expect(len(lines) == 1 and not others, f"expected one line of error, got status {ended.status}: {ended.err[-400:]!r}")
    if status is not None:
        expect(ended.status == status, f"expected status {status}, got {ended.status}: {lines[0]}")
    for words in has:
        expect(words in lines[0], f"expected '{words}' in: {lines[0]}")
    return lines[0]


def timeless(text):
    """Without what the clock says, and the memory of a run that took another way."""
    text = re.sub(r'"(started|seconds|peak_bytes)": *"?[0-9TZ:.e-]+"?', r'"\1"', text)
    text = re.sub(r"[0-9.]+ s(, [0-9.]+ GiB)?\)", "s)", text)
    text = re.sub(r"20[0-9][0-9]-[0-9T:-]+Z(, [0-9.]+ s)?", "when", text)
    text = re.sub(r"[0-9.]+ s\b", "s", text)
    return text.replace(" --resume", "")


class Rig:
    def __init__(self, command, zoo, folder, random):
        self.command, self.zoo, self.folder, self.random = command, zoo, folder, random
        self.undisturbed_ = {}
        self.count_ = 0

    def new_folder(self):
        self.count_ += 1
        folder = self.folder / str(self.count_)
        folder.mkdir()
        return folder

    def start(self, words, where, before=(), limits=()):
        def ready():
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            for what, most in limits:
                resource.setrlimit(what, (most, most))

        return subprocess.Popen([*before, str(self.command), *map(str, words)], cwd=where, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=ready)

    def end(self, process, began=None):
        began = began or time.monotonic()
        out, err = process.communicate(timeout=PATIENCE)
        return Ended(process.returncode, out, err, time.monotonic() - began)

    def call(self, words, where=None, **more):
        began = time.monotonic()
        return self.end(self.start(words, where or self.new_folder(), **more), began)

    def call_measured(self, words, where=None):
        """The same with the most memory that was resident."""
        script = "import resource,subprocess,sys;p=subprocess.run(sys.argv[1:]);" \
                 "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr);sys.exit(p.returncode)"
        ended = self.call(words, where, before=["python3", "-c", script])
        *lines, peak = ended.err.splitlines()
        return dataclasses.replace(ended, err="\n".join(lines), peak_bytes=int(peak) * 1024)

    def good(self, words, where=None, **more):
        ended = self.call(words, where, **more)
        expect(ended.status == 0, f"{' '.join(map(str, words))}: status {ended.status}: {ended.err[-400:]!r}")
        return ended

    def undisturbed(self, job):
        """What a job leaves when nobody disturbs it, and how long it takes; done once."""
        if job.name not in self.undisturbed_:
            where = self.new_folder()
            ended = self.good(job.words(), where)
            self.undisturbed_[job.name] = (files_in(where), ended.seconds)
        return self.undisturbed_[job.name]


@dataclasses.dataclass
class Job:
    """A command to be disturbed; its output is `out`, a folder or a file, in the folder it is started in."""
    name: str
    call: list
    journal: str

    def words(self, resume=False, device="cpu"):
        return self.call + ["--device", device, "--out", "out", "--quiet"] + (["--resume"] if resume else [])


def files_in(where):
    """Every file that a job has left, without what the clock says."""
    return {str(p.relative_to(where)): timeless(p.read_text()) for p in sorted(Path(where).rglob("*")) if p.is_file()}


def whole_files_only(where):
    """Outputs are there whole or not at all, and nothing else is but the journal and its lock."""
    for path in Path(where).rglob("*"):
        if path.is_dir() or path.suffix in (".journal", ".lock"):
            continue
        expect(path.suffix != ".tmp", f"{path.name} was left behind")
        text = path.read_text()
        if path.suffix == ".json" or path.name == "out":
            json.loads(text)
        elif path.suffix == ".html":
            expect(text.rstrip().endswith("</html>"), f"{path.name} ends early")
        else:
            expect(text.endswith("\n"), f"{path.name} ends early")


SMALL = ["--batch-tokens", "512"]
JOBS = {job.name: job for job in [
    Job("find", ["find", "zoo:transformer", "--task", "mcq:options=4,n=48", *SMALL], "out/find.journal"),
    Job("find, Mamba-2", ["find", "zoo:mamba2", "--task", "mcq:options=4,n=24", *SMALL], "out/find.journal"),
    Job("reproduce", ["reproduce", "C1", "C2", "C5", "--models", "zoo:mamba2,zoo:hybrid", "--retrieval", "mcq:options=4,n=24",
                      "--knowledge", "world-facts:n=24"], "out/reproduce.journal"),
    Job("eval", ["eval", "zoo:hybrid", "--task", "mcq:options=4,n=256", *SMALL], "out.journal"),
    Job("generate", ["generate", "zoo:transformer", "--batch-tokens", "64", "--max-new-tokens", "24", "--ignore-end-tokens",
                     *[w for i in range(12) for w in ("--text", f"Paris is {i}")]], "out.journal"),
    Job("ablate", ["ablate", "zoo:mamba2", "--task", "mcq:options=4,n=128", "--heads", "1.0", *SMALL], "out.journal"),
    Job("patch", ["patch", "zoo:transformer", "--task", "mcq:options=4,n=24", "--site", "resid,z", "--batch-tokens", "1024"],
        "out/patch.journal"),
    Job("circuit", ["circuit", "zoo:transformer", "--task", "mcq:options=4,n=24", "--minimal", "--pairs", "--self-repair",
                    "--batch-tokens", "1024"], "out.journal"),
    Job("attribute", ["attribute", "zoo:hybrid", "--task", "mcq:options=4,n=64", *SMALL], "out.journal"),
    Job("scores", ["scores", "zoo:transformer", "--prompts", "8", "--task", "mcq:options=4,n=48", "--batch-tokens", "100"], "out.journal"),
    Job("graft", ["graft", "zoo:llamba-distilled", "--from", "zoo:transformer", "--all-layers", "--task",
                  "mcq:options=4,n=48", *SMALL], "out.journal"),
    Job("graft --train", ["graft", "zoo:llamba-distilled", "--train", "192", "--head", "1.3", "--task", "mcq:options=4,n=48",
                          "--train-task", "mcq:options=4,n=512", *SMALL], "out.journal"),
    Job("prune", ["prune", "zoo:transformer", "--task", "mcq:options=4,n=32", "--against", "world-facts:n=24", "--leave-one-out",
                  "--batch-tokens", "1024"], "out/prune.journal"),
    Job("compare", ["compare", "zoo:mamba2", "zoo:transformer", "--task", "mcq:options=4,n=24", "--batch-tokens", "1024"],
        "out/compare.journal"),
]}

"""Processes that are killed, stopped, resumed as another, or meet on one output."""
import os
import re
import signal
import struct
import subprocess
import time
import zlib
from pathlib import Path

from rig import JOBS, Fault, Surprise, expect, files_in, one_line, whole_files_only

SAME = "resumed to the same bytes"


def kill_until_done(rig, job, left):
    """Starts a job and kills it at random moments until it gets to its end. Returns how often it was killed."""
    files, seconds = rig.undisturbed(job)
    where, kills = rig.new_folder(), 0
    while True:
        process = rig.start(job.words(resume=kills > 0), where)
        if kills < left:
            try:
                process.wait(rig.random.uniform(0, 1.1 * seconds))
            except subprocess.TimeoutExpired:
                process.kill()
        ended = rig.end(process)
        if ended.status == -signal.SIGKILL:
            kills += 1
            whole_files_only(where)
            continue
        expect(ended.status == 0, f"status {ended.status} after {kills} kills: {ended.err[-300:]!r}")
        expect(files_in(where) == files, f"other files after {kills} kills")
        return kills


def kill_while_writing(rig, job):
    """Kills a job as soon as its first output, or the link that becomes it, is there."""
    files, _ = rig.undisturbed(job)
    where = rig.new_folder()
    process = rig.start(job.words(), where)
    out = where / "out"
    while process.poll() is None:
        names = os.listdir(out) if out.is_dir() else [out.name] if out.exists() else []
        if any(not n.endswith((".journal", ".lock")) for n in names):
            time.sleep(rig.random.uniform(0, 0.003))
            process.kill()
            break
    ended = rig.end(process)
    whole_files_only(where)
    if ended.status == 0:
        expect(files_in(where) == files, "other files")
        return "had ended"
    expect(rig.call(job.words(resume=True), where).status == 0, "not resumed")
    expect(files_in(where) == files, "other files")
    return SAME


def killed(*names):
    def run(rig, times):
        kills = {name: 0 for name in names}
        for name in names:
            share = -(-times // len(names))
            while kills[name] < share:
                kills[name] += kill_until_done(rig, JOBS[name], share - kills[name])
            for _ in range(kills[name]):
                yield SAME

    return run


def killed_while_writing(rig, times):
    for i in range(times):
        yield kill_while_writing(rig, JOBS[["find", "reproduce", "eval", "patch"][i % 4]])


def stopped(number, status):
    def run(rig, times):
        slowest = 0
        for i in range(times):
            job = JOBS[["find", "reproduce", "eval", "generate"][i % 4]]
            files, seconds = rig.undisturbed(job)
            where = rig.new_folder()
            process = rig.start(job.words(), where)
            time.sleep(rig.random.uniform(0.05, seconds))
            began = time.monotonic()
            process.send_signal(number)
            ended = rig.end(process, began)
            if ended.status == 0:
                yield "had ended"
                continue
            early = ended.status == -number  # before the program's first line: nothing was begun
            expect(early or ended.status == status, f"status {ended.status}: {ended.err[-200:]!r}")
            expect(early or re.fullmatch(r"headlens: stopped by SIG\w+.*\n", ended.err), f"said {ended.err!r}")
            slowest = max(slowest, ended.seconds)
            expect(ended.seconds < 1, f"took {ended.seconds:.2f} s to end")
            expect(not list(where.rglob("*.lock")), "its lock was left")
            whole_files_only(where)
            expect(rig.call(job.words(resume=True), where).status == 0, "not resumed")
            expect(files_in(where) == files, "other files after resuming")
            yield f"ended within 1 s and {SAME}"
        if slowest:
            print(f"         slowest end: {slowest:.3f} s")

    return run


def interrupted(rig, job):
    """A folder with the journal of a job that was killed in its middle."""
    _, seconds = rig.undisturbed(job)
    for _ in range(50):
        where = rig.new_folder()
        process = rig.start(job.words(), where)
        journal = where / job.journal
        wanted = rig.random.uniform(0.2, 0.8) * 20_000
        while process.poll() is None and not (journal.exists() and journal.stat().st_size > min(wanted, 3000)):
            time.sleep(0.002)
        process.kill()
        process.communicate()
        if journal.exists():
            return where, journal
    raise Surprise("no journal was ever left")


def other_run(rig, times):
    changes = [("another model", "model", lambda w: [x.replace("zoo:transformer", "zoo:hybrid") for x in w]),
               ("another task", "task", lambda w: [x.replace("n=48", "n=47") for x in w]),
               ("another seed", "examples", lambda w: w + ["--seed", "5"]),
               ("another dtype", "dtype", lambda w: w + ["--dtype", "float64"]),
               ("other options", "", lambda w: [x.replace("512", "1024") for x in w])]
    job = JOBS["find"]
    where, _ = interrupted(rig, job)
    for i in range(times):
        name, word, change = changes[i % len(changes)]
        ended = rig.call(change(job.words(resume=True)), where)
        one_line(ended, status=2, has=["is of another run", word])
        yield "refused, naming what differs"


def other_version(rig, times):
    job = JOBS["find"]
    for _ in range(times):
        where, journal = interrupted(rig, job)
        data = journal.read_bytes()
        magic = data.index(b"\n") + 1
        _, key, value = struct.unpack_from("<III", data, magic)
        end = magic + 12 + key + value
        header = data[magic + 12:end].replace(b'"headlens":"0', b'"headlens":"9', 1)
        body = struct.pack("<II", key, value) + header
        journal.write_bytes(data[:magic] + struct.pack("<I", zlib.crc32(body)) + body + data[end:])
        one_line(rig.call(job.words(resume=True), where), status=2, has=["is of another run: headlens"])
        yield "refused, naming the version"


def damaged(cut):
    def run(rig, times):
        job = JOBS["find"]
        files, _ = rig.undisturbed(job)
        for _ in range(times):
            where, journal = interrupted(rig, job)
            data = bytearray(journal.read_bytes())
            first = 30 + data.index(b"torch")  # behind the header's words
            at = rig.random.randrange(first, len(data)) if first < len(data) else len(data) - 1
            if cut:
                data = data[:at]
            else:
                data[at] ^= 1 << rig.random.randrange(8)
            journal.write_bytes(data)
            ended = rig.call(job.words(resume=True), where)
            if ended.status != 0:
                one_line(ended, status=1)
                yield "refused in one line (the header was hit)"
                continue
            expect(files_in(where) == files, "other files")
            yield SAME

    return run


def two_at_once(rig, times):
    for i in range(times):
        job = JOBS[["find", "eval"][i % 2]]
        files, _ = rig.undisturbed(job)
        where = rig.new_folder()
        first = rig.start(job.words(), where)
        lock = Path(f"{where / job.journal}.lock")
        while first.poll() is None and not (lock.exists() and lock.read_text()):
            time.sleep(0.001)
        second = rig.call(job.words(resume=i % 4 > 1), where)
        if rig.end(first).status != 0:
            raise Surprise("the first one failed")
        expect(files_in(where) == files, "other files")
        if second.status == 0:
            yield "the first had ended"
            continue
        one_line(second, status=1, has=[f"process {first.pid}"])
        yield "the second ended in one line that names the first; the first's files are right"


def lock_of_the_dead(rig, times):
    job = JOBS["find"]
    files, _ = rig.undisturbed(job)
    for _ in range(times):
        where, _ = interrupted(rig, job)
        Path(f"{where / job.journal}.lock").write_text("999999")
        expect(rig.call(job.words(resume=True), where).status == 0, "not resumed")
        expect(files_in(where) == files, "other files")
        yield SAME


OTHERS = ["eval", "generate", "ablate", "patch", "circuit", "attribute", "scores", "graft", "prune", "compare"]
PROCESS_FAULTS = [
    Fault("SIGKILL of `find` at a random moment", SAME, 50, 6, killed("find", "find, Mamba-2")),
    Fault("SIGKILL of `reproduce` at a random moment", SAME, 50, 4, killed("reproduce")),
    *[Fault(f"SIGKILL of `{name}` at a random moment", SAME, 10, 2, killed(name)) for name in OTHERS],
    Fault("SIGKILL of `graft --train` at a random moment", SAME, 10, 1, killed("graft --train")),
    Fault("SIGKILL while outputs are written", "whole files or none; " + SAME, 20, 4, killed_while_writing),
    Fault("SIGINT at a random moment", "ends within a second, status 130, one line; " + SAME, 20, 4,
          stopped(signal.SIGINT, 130)),
    Fault("SIGTERM at a random moment", "the same with status 143", 12, 4, stopped(signal.SIGTERM, 143)),
    Fault("--resume onto another model, task, seed, dtype, options", "refused, naming what differs", 10, 5, other_run),
    Fault("--resume with another version", "refused, naming the version", 3, 1, other_version),
    Fault("journal cut at a random byte", SAME, 12, 2, damaged(cut=True)),
    Fault("a random bit of the journal flipped", SAME + ", or one line", 12, 2, damaged(cut=False)),
    Fault("two processes on one output", "the second ends in one line", 8, 2, two_at_once),
    Fault("a lock left by a killed process", SAME, 3, 1, lock_of_the_dead),
]

"""Disks that are full or may not be written, and streams that take nothing more."""
import subprocess

from rig import JOBS, Fault, Skip, expect, files_in, one_line, whole_files_only

DISK = ["unshare", "-rm"]  # mounts of our own, gone with the process


def need_mounts():
    made = subprocess.run([*DISK, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    if made.returncode != 0:
        raise Skip("this system lets nobody mount in a namespace of their own")


def on_disk(rig, script, where, job):
    """Runs a shell script in which RUN and RESUME are the job's calls and `disk` a folder to mount on."""
    (where / "disk").mkdir()
    call = lambda resume: " ".join(f"'{w}'" for w in [str(rig.command), *job.words(resume)])  # noqa: E731
    script = script.replace("RUN", call(False)).replace("RESUME", call(True))
    return subprocess.run([*DISK, "bash", "-c", f"cd {where} && {script}"], capture_output=True, text=True)


def disk_full(rig, times):
    """A disk too small for the run, made larger afterwards."""
    need_mounts()
    for i in range(times):
        job = JOBS[["find", "eval", "reproduce", "patch"][i % 4]]
        files, _ = rig.undisturbed(job)
        where, kilobytes = rig.new_folder(), rig.random.choice([4, 8, 16, 32, 64, 128])
        (where / "result").mkdir()
        ended = on_disk(rig, f"mount -t tmpfs -o size={kilobytes}k none disk && cd disk && RUN 2>../first; "
                             "echo $? >../status; ls -A . out 2>/dev/null >../names; mount -o remount,size=64m . && "
                             "RESUME 2>../second; echo $? >../status2; cp -r out ../result/", where, job)
        first = (where / "first").read_text()
        expect((where / "status2").read_text().strip() == "0", f"not resumed: {(where / 'second').read_text()!r} {ended.stderr!r}")
        expect(files_in(where / "result") == files, "other files after resuming")
        expect(".tmp" not in (where / "names").read_text(), "a part of a file was left")
        if (where / "status").read_text().strip() == "0":
            yield "there was room"
            continue
        expect("No space left" in first and first.count("headlens: error: ") == 1, f"said {first!r}")
        yield "one line; with room again resumed to the same bytes"


def read_only(rig, times):
    need_mounts()
    for i in range(times):
        job = list(JOBS.values())[i % len(JOBS)]
        where = rig.new_folder()
        on_disk(rig, "mount -t tmpfs -o ro none disk && cd disk && RUN >../out 2>../err; echo $? >../status", where, job)
        err = (where / "err").read_text()
        expect((where / "status").read_text().strip() == "1", f"status {(where / 'status').read_text()}: {err!r}")
        expect("Read-only" in err and err.count("\n") == 1 and "expected" in err, f"said {err!r}")
        yield "one line"


def full_stdout(rig, times):
    for i in range(times):
        words = [["eval", "zoo:transformer", "--task", "mcq:options=4,n=8", "--device", "cpu", "--quiet"],
                 ["inspect", "zoo:hybrid"], ["task", "kv:pairs=4,n=8"], ["tokenize", "zoo:hybrid", "--text", "Paris"]][i % 4]
        made = subprocess.run([str(rig.command), *words], stdout=open("/dev/full", "w"), stderr=subprocess.PIPE, text=True)
        expect(made.returncode == 1 and made.stderr.count("\n") == 1 and "No space left" in made.stderr,
               f"status {made.returncode}: {made.stderr!r}")
        yield "one line"


def out_is_full_device(rig, times):
    for _ in range(times):
        ended = rig.call(["inspect", "zoo:hybrid", "--out", "/dev/full"])
        one_line(ended, status=1, has=["No space left"])
        yield "one line"


def file_size_limit(rig, times):
    """A limit on the size of files: what a quota looks like."""
    import resource
    for _ in range(times):
        where = rig.new_folder()
        most = rig.random.choice([500, 2_000, 6_000, 12_000])
        ended = rig.call(JOBS["find"].words(), where, limits=[(resource.RLIMIT_FSIZE, most)])
        if ended.status == 0:
            yield "there was room"
            continue
        one_line(ended, status=1, has=["File too large"])
        whole_files_only(where)
        yield "one line, whole files or none"


FILE_FAULTS = [
    Fault("disk full in the middle of a run", "one line; resumed to the same bytes when there is room", 12, 3, disk_full),
    Fault("read-only folder", "one line", 13, 3, read_only),
    Fault("no file may grow further (quota)", "one line, whole files or none", 6, 2, file_size_limit),
    Fault("stdout full", "one line", 4, 4, full_stdout),
    Fault("--out is a device that is full", "one line", 2, 1, out_is_full_device),
]

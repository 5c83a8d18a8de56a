"""A GPU that stops working in the middle of a run; a shim makes it (vanishing_gpu.c)."""
import json
import subprocess
from pathlib import Path

from rig import JOBS, Fault, Skip, expect, one_line, whole_files_only

BOUND = 2e-4  # nats, float32: sums on a GPU come in another order from run to run (docs/numerics.md)
GONE = "one line with the GPU's error and what is kept"


def need_gpu(rig):
    ended = rig.call(["eval", "zoo:transformer", "--task", "mcq:options=4,n=4", "--device", "cuda", "--quiet"])
    if ended.status != 0:
        one_line(ended, has=["visible CUDA device"] if "visible" in ended.err else ["expected a LibTorch built with CUDA"])
        raise Skip("no GPU")


def built_shim(rig):
    source, shim = Path(__file__).parent / "vanishing_gpu.c", rig.folder / "vanishing_gpu.so"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    except FileNotFoundError:
        raise Skip("no C compiler") from None
    return shim


def call_with(rig, shim, words, where, **variables):
    settings = [f"{name}={value}" for name, value in variables.items()]
    return rig.call(words, where, before=["env", f"LD_PRELOAD={shim}", *settings])


def result_of(job, where):
    return json.loads((where / "out" / "scores.json" if job.name == "find" else where / "out").read_text())


def most_ties(value):
    if isinstance(value, dict):
        return max([value.get("near_ties", 0), *map(most_ties, value.values())])
    return max(map(most_ties, value), default=0) if isinstance(value, list) else 0


def same(a, b, ties, where="result"):
    """As two undisturbed runs are: an answer may move only where the two best choices nearly tie."""
    expect(type(a) is type(b), f"{where}: {a} and {b}")
    if isinstance(a, dict):
        expect(a.keys() == b.keys(), f"{where}: other fields")
        for name in a.keys() - {"manifest"}:
            same(a[name], b[name], ties, f"{where}.{name}")
    elif isinstance(a, list):
        expect(len(a) == len(b), f"{where}: other lengths")
        for i, (x, y) in enumerate(zip(a, b)):
            same(x, y, ties, f"{where}[{i}]")
    elif isinstance(a, float):
        expect(abs(a - b) <= BOUND + (ties if "accuracy" in where or ".drop_" in where else 0), f"{where}: {a} and {b}")
    else:
        expect(a == b, f"{where}: {a} and {b}")


def vanishes(name):
    def run(rig, times):
        need_gpu(rig)
        shim, job, whole = built_shim(rig), JOBS[name], rig.new_folder()
        ended = call_with(rig, shim, job.words(device="cuda"), whole, HEADLENS_VANISH_COUNT="count")
        expect(ended.status == 0, f"undisturbed: status {ended.status}: {ended.err!r}")
        base, launches = result_of(job, whole), int((whole / "count").read_text())
        expect(launches > 100, f"{launches} launches seen")
        share = 2 * most_ties(base) / base.get("examples", base.get("base", {}).get("examples"))
        for i in range(times):
            where, after = rig.new_folder(), rig.random.randint(1, launches)
            ended = call_with(rig, shim, job.words(device="cuda"), where, HEADLENS_VANISH_AFTER=after)
            print(f"         gone after launch {after} of {launches}: status {ended.status}: {ended.err.strip()}", flush=True)
            if ended.status == 0:
                same(result_of(job, where), base, share)
                yield "had what it wanted of the GPU; the same result"
                continue
            line = one_line(ended, status=1, has=["[device] cuda:0", "CUDA error"])
            expect("out of memory" not in ended.err, "taken for lack of memory")
            kept = (where / job.journal).exists()
            expect(kept == (f"kept in {job.journal}" in line) and kept == ("--resume" in line), f"journal {kept}: {line}")
            whole_files_only(where)
            rig.good(job.words(resume=True, device="cuda"), where)
            same(result_of(job, where), base, share)
            yield f"{GONE}; resumed to the same result" if kept else "one line with the GPU's error; nothing was finished yet, run again to the same result"

    return run


GPU_FAULTS = [
    Fault(f"the GPU vanishes in the middle of `{name}`", f"{GONE}; resumed to the same result", 10, 2, vanishes(name))
    for name in ("find", "eval")
]

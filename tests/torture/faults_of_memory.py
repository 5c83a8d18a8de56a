"""Memory that is too little, and recordings too large for it."""
import json
import re
import resource

from rig import JOBS, Fault, expect, one_line

EVAL = ["eval", "zoo:transformer", "--task", "mcq:options=4,n=256", "--device", "cpu", "--json"]
COMMANDS = [EVAL, ["find", "zoo:mamba2", "--task", "mcq:options=4,n=32", "--device", "cpu", "--json", "--out", "out", "--maps", "0"],
            ["ablate", "zoo:transformer", "--task", "mcq:options=4,n=256", "--heads", "1.0", "--device", "cpu", "--json"],
            ["attribute", "zoo:transformer", "--task", "mcq:options=4,n=256", "--device", "cpu", "--json"]]


def figure_of(text):
    result = json.loads(text)
    for name in ("accuracy", "accuracy_drop", "difference"):
        if name in result:
            return result[name]
    return [head["accuracy"] for head in result["heads"]]


def close(a, b):
    pairs = zip(a, b) if isinstance(a, list) else [(a, b)]
    return all(abs(x - y) < 1e-4 for x, y in pairs)


def least_to_load(rig):
    """Megabytes of data with which the libraries load at all: below, the system ends the program, not we."""
    low, high = 0, 4096
    while high - low > 4:
        middle = (low + high) // 2
        loads = rig.call(["--version"], limits=[(resource.RLIMIT_DATA, middle << 20)]).status == 0
        low, high = (low, middle) if loads else (middle, high)
    return high


def too_little(rig, times):
    """A limit on the process's data, from too little to start with to nearly enough."""
    whole = [figure_of(rig.good(words).out) for words in COMMANDS]
    least = least_to_load(rig) + 16  # which allocation fails first differs from run to run
    for i in range(times):
        which = i % len(COMMANDS)
        megabytes = least + 240 * i // times
        ended = rig.call([*COMMANDS[which], "--batch-tokens", "200000"], limits=[(resource.RLIMIT_DATA, megabytes << 20)])
        if ended.status == 0:
            expect(close(figure_of(ended.out), whole[which]), f"another result with {megabytes} MB")
            yield "smaller batches, the same result" if "out of memory" in ended.err else "the same result"
            continue
        expect(ended.status == 1 and ended.err.count("headlens: error: ") == 1,
               f"status {ended.status} with {megabytes} MB: {ended.err[-300:]!r}")
        yield "one line"


MANY_TEXTS = ["scores", "zoo:transformer", "--prompts", "8192", "--period", "20", "--device", "cpu", "--json"]


def shrinks(rig, times):
    """Batches that cannot fit: memory has to run out before they do."""
    commands = [[w.replace("n=256", "n=2048") for w in EVAL], MANY_TEXTS]
    whole, peaks = {}, {}
    least = (least_to_load(rig) + 16) << 20
    for i in range(times):
        which = i % len(commands)
        words = [*commands[which], "--batch-tokens"]
        if which not in whole:
            whole[which] = rig.good([*words, "4096"]).out
            peaks[which] = rig.call_measured([*words, "4096"]).peak_bytes
        most = max(least, int(peaks[which] * rig.random.uniform(1.1, 1.4)))
        ended = rig.call([*words, "1000000"], limits=[(resource.RLIMIT_DATA, most)])
        if ended.status != 0:
            one_line(ended, status=1, has=["memory"])
            yield "one line"
            continue
        noted = "batch_tokens_that_fit" in json.loads(ended.out)
        same_result(ended.out, whole[which])
        expect(noted == ("going on with" in ended.err), "memory ran out without a note of it")
        if not noted:
            yield "there was room"
            continue
        yield "smaller batches, noted in the result; the same result"


CAPPED = [EVAL, ["scores", "zoo:hybrid", "--prompts", "16", "--task", "mcq:options=4,n=16", "--device", "cpu", "--json"],
          ["map", "zoo:mamba2", "--text", "A. Paris B. Rome C. Oslo " * 24, "--heads", "0.0,1.2", "--device", "cpu", "--json"],
          ["reproduce", "C1", "--models", "zoo:transformer", "--retrieval", "mcq:options=4,n=32", "--related", "kv:pairs=4,n=16",
           "--device", "cpu", "--json"]]


def numbers_of(value, skipped=("manifest", "seconds", "peak_bytes", "batch_tokens_that_fit")):
    if isinstance(value, dict):
        return [n for name, v in value.items() if name not in skipped for n in numbers_of(v)]
    if isinstance(value, list):
        return [n for v in value for n in numbers_of(v)]
    return [value] if isinstance(value, (int, float)) else []


def same_result(text, whole):
    """Batches of another size round otherwise; an answer may move only where two choices nearly tie."""
    a, b = json.loads(text), json.loads(whole)
    if "near_ties" in a:
        expect(abs(a["accuracy"] - b["accuracy"]) * a["examples"] <= a["near_ties"] + b["near_ties"], "another accuracy")
        return
    mine, theirs = numbers_of(a), numbers_of(b)
    expect(len(mine) == len(theirs), f"{len(mine)} numbers and {len(theirs)}")
    widest = max(abs(x - y) for x, y in zip(mine, theirs))
    expect(widest < 2e-4, f"numbers {widest} apart")


def capped(rig, times):
    whole = {}
    for i in range(times):
        which = i % len(CAPPED)
        if which not in whole:
            whole[which] = rig.good(CAPPED[which]).out
        cap = rig.random.uniform(0.001, 0.004) if rig.random.random() < 0.5 else rig.random.uniform(0.002, 0.2)
        ended = rig.call([*CAPPED[which], "--max-host-memory", f"{cap:.5f}"])
        if ended.status != 0:
            one_line(ended, status=2, has=["[memory]", "expected at least the", "GiB"])
            yield "one line with the figure"
            continue
        expect(re.search(r"\[memory\] predicted: weights .* GiB", ended.err), f"said {ended.err!r}")
        same_result(ended.out, whole[which])
        yield "within it, predicted in a line; the same result"


def spilled(rig, times):
    words = ["run", "zoo:hybrid", "--text", "Paris is the capital of France. " * 12, "--record", "*", "--device", "cpu", "--out"]
    where = rig.new_folder()
    rig.good([*words, "whole.safetensors"], where)
    whole = (where / "whole.safetensors").read_bytes()
    for _ in range(times):
        rig.good([*words, "part.safetensors", "--max-host-memory", f"{rig.random.uniform(0, len(whole)) / 2**30 + 1e-9:.9f}"], where)
        expect((where / "part.safetensors").read_bytes() == whole, "other bytes")
        expect(sorted(p.name for p in where.iterdir()) == ["part.safetensors", "whole.safetensors"], "something was left behind")
        yield "byte for byte the unspilled file"


def refused(rig, times):
    text = rig.folder / "ids.safetensors"
    write_ids(text, [7] * 100_000)
    for i in range(times):
        pattern, model = [("blocks.*.attn.hook_pattern", "zoo:transformer"), ("blocks.*.mixer.hook_map", "zoo:mamba2")][i % 2]
        ended = rig.call_measured(["run", model, "--ids", text, "--record", pattern, "--device", "cpu", "--out", "out.npz"])
        line = one_line(ended, status=1, has=["GiB", "headlens map --rows"])
        expect(ended.seconds < 60 and ended.peak_bytes < 3 << 30, f"took {ended.peak_bytes >> 20} MB first")
        expect(float(re.search(r"got ([0-9.e+]+) GiB", line)[1]) > 100, line)
        yield "refused before anything was made, with the figure and the other ways"


def write_ids(path, ids):
    header = json.dumps({"input_ids": {"dtype": "I64", "shape": [1, len(ids)], "data_offsets": [0, 8 * len(ids)]}}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"".join(i.to_bytes(8, "little") for i in ids))


MEMORY_FAULTS = [
    Fault("less memory than the process wants (up to 240 MB more than its libraries take)", "the same result, or one line", 16, 0, too_little),
    Fault("memory runs out in a batch", "smaller batches, noted; the same result", 8, 2, shrinks),
    Fault("--max-host-memory", "what fits in it, or one line with the figure", 16, 4, capped),
    Fault("a recording beyond --max-host-memory", "spilled to disk, the same bytes", 10, 2, spilled),
    Fault("all maps of 100 000 tokens recorded", "refused with figure and alternative", 2, 2, refused),
]

"""Weights that are no numbers, tasks with nothing in them, odd models, odd lengths; and the same call twice."""
import json
import math
import shutil
import struct

from rig import Fault, expect, one_line
from faults_of_memory import write_ids

CPU = ["--device", "cpu", "--quiet"]
TASK = "mcq:options=4,n=16"
BOUND = 2e-4  # nats, float32 through a dozen layers: docs/reliability.md


def copied_model(rig, name):
    folder = rig.new_folder() / "model"
    shutil.copytree(rig.zoo / name, folder)
    return folder


def spoil(folder, rng, value, only=None):
    """Puts `value` into a random place of a random float32 tensor; returns its name."""
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    start = 8 + struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:start])
    name = rng.choice([n for n, t in sorted(header.items()) if n != "__metadata__" and t["dtype"] == "F32" and (only is None or only in n)])
    begin, end = header[name]["data_offsets"]
    struct.pack_into("<f", data, start + rng.randrange(begin, end, 4), value)
    path.write_bytes(data)
    return name


def numbers_in(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [n for v in value for n in numbers_in(v)]
    return [value] if isinstance(value, (int, float)) else []


def strict(text):
    def refuse(word):
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


def bad_weights(rig, times):
    commands = [["eval"], ["find", "--out", "out", "--maps", "0"], ["ablate", "--heads", "1.0"], ["attribute"]]
    for i in range(times):
        zoo = ["transformer", "mamba2", "hybrid"][i % 3]
        model = copied_model(rig, zoo)
        tensor = spoil(model, rig.random, [math.nan, math.inf, -math.inf][i // 3 % 3])
        name, *more = commands[i % 4]
        where = rig.new_folder()
        call = lambda m: [name, m, "--task", TASK, *more, *CPU, "--json"]  # noqa: E731
        ended = rig.call(call(model), where)
        if ended.status == 0:  # a token that no prompt has
            result, clean = strict(ended.out), json.loads(rig.good(call(f"zoo:{zoo}")).out)
            for r in (result, clean):
                r.pop("manifest", None), r.pop("model", None)
            expect(numbers_in(result) == numbers_in(clean), f"{tensor} spoiled: other numbers")
            yield "the weight was not used: the numbers of the sound model"
            continue
        line = one_line(ended, status=1)
        expect(f"'{tensor}'" in line or "expected a log-probability" in line, f"{tensor} spoiled: {line}")
        expect(not list(where.rglob("*.json")), "a result was written")
        yield "one line naming the tensor" if f"'{tensor}'" in line else "one line naming the example"


def infinite_logits(rig, times):
    for i in range(times):
        model = copied_model(rig, "transformer")
        for _ in range(64):
            spoil(model, rig.random, 3e38, "down_proj" if i % 2 else "lm_head")
        ended = rig.call(["eval", model, "--task", TASK, *CPU])
        if ended.status == 0:
            yield "finite all the same"
            continue
        one_line(ended, status=1, has=["expected"])
        expect("blocks." in ended.err or "logits" in ended.err or "example" in ended.err or "ln_final" in ended.err, ended.err)
        yield "one line naming where it arises"


def jsonl(rig, prompts, choices=(" A.", " B.")):
    path = rig.new_folder() / "task.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "choices": list(choices), "answer": i % 2}) + "\n" for i, p in enumerate(prompts)))
    return f"jsonl:{path}"


WITH_TASK = [["eval"], ["find", "--out", "out"], ["ablate", "--heads", "1.0"], ["attribute"], ["prune"], ["scores"],
             ["circuit"], ["patch"], ["graft", "--from", "zoo:transformer", "--all-layers"],
             ["compare", "zoo:transformer", "--out", "out"]]


def with_task(task):
    for name, *more in WITH_TASK:
        first = more if more and not more[0].startswith("-") else []
        yield [name, "zoo:transformer", *first, "--task", task, *more[len(first):], *CPU]


def empty_task(rig, times):
    for _ in range(times):
        for task in (jsonl(rig, []), "kv:pairs=4,n=0", "mcq:options=4,n=0"):
            for words in with_task(task):
                ended = rig.call(words)
                one_line(ended)
                yield "one line"


def one_example(rig, times):
    for _ in range(times):
        for words in with_task("mcq:options=4,n=1"):
            ended = rig.call([*words, "--json"])
            if ended.status == 0:
                strict(ended.out)
                yield "a result, every number of it finite"
            else:
                one_line(ended, status=1, has=["examples, expected at least 2"])
                yield "one line: wants two examples"


def one_token(rig, times):
    for _ in range(times):
        for words in with_task(jsonl(rig, ["A", "B", "A", "B"])):
            ended = rig.call([*words, "--json"])
            if ended.status == 0:
                strict(ended.out)
                yield "a result, every number of it finite"
            else:
                one_line(ended)
                yield "one line"
        ended = rig.good(["generate", "zoo:mamba2", "--text", "A", "--max-new-tokens", "1", *CPU, "--json"])
        expect(len(strict(ended.out)["texts"][0]["tokens"]) == 1, "one token was asked for")
        yield "a result, every number of it finite"


def long_prompt(rig, times):
    ids = rig.folder / "ids.safetensors"
    write_ids(ids, [rig.random.randrange(605) for _ in range(100_000)])
    for model in ["mamba2", "llamba", "falcon-mamba", "hybrid", "transformer"][:times]:
        ended = rig.call_measured(["run", f"zoo:{model}", "--ids", ids, "--record", "hook_embed", "--out", "out.safetensors", *CPU])
        expect(ended.status == 0, f"{model}: {ended.err[-300:]!r}")
        expect(ended.peak_bytes < 6 << 30, f"{model} took {ended.peak_bytes >> 20} MB")
        print(f"         {model}: {ended.seconds:.0f} s, peak {ended.peak_bytes / 2**30:.2f} GiB")
        yield "a result, within 6 GiB"


def odd_models(rig, times):
    """No layers, one head: the bundled Transformer's and Mamba-2's shapes with random weights."""
    changes = [("transformer", {"num_hidden_layers": 0}), ("mamba2", {"num_hidden_layers": 0}),
               ("transformer", {"num_attention_heads": 1, "num_key_value_heads": 1}),
               ("mamba2", {"num_heads": 1, "head_dim": 128}), ("transformer", {"num_hidden_layers": 1})]
    for zoo, change in changes[:times]:
        model = rig.new_folder()
        config = json.loads((rig.zoo / zoo / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, **change}))
        shutil.copy(rig.zoo / zoo / "tokenizer.json", model)
        name = f"random:{model}"
        for words in (["run", name, "--text", "Paris", "--record", "logits", "--out", "out.safetensors"],
                      ["eval", name, "--task", TASK], ["find", name, "--task", TASK, "--out", "out"],
                      ["generate", name, "--text", "Paris", "--max-new-tokens", "3"]):
            ended = rig.call([*words, "--device", "cpu", "--quiet"])
            if ended.status == 0:
                yield "a result"
            else:
                line = one_line(ended)
                expect(change.get("num_hidden_layers") == 0 and "num_hidden_layers" in line, line)
                yield "one line: a model has a layer at least"


def unequal_lengths(rig, times):
    words = ["Paris", "Rome", "is", "the", "capital", "of", "France", "Italy"]
    for _ in range(times):
        prompts = [" ".join(rig.random.choice(words) for _ in range(rig.random.choice([1, 2, 7, 40, 200]))) for _ in range(24)]
        task = jsonl(rig, prompts, (" A.", " Paris is", " Rome"))
        for model in ("transformer", "mamba2", "hybrid"):
            results = [json.loads(rig.good(["eval", f"zoo:{model}", "--task", task, *CPU, "--json", "--batch-tokens", b]).out)
                       for b in ("1", "300", "16384")]
            for r in results:
                expect(abs(r["mean_logprob"] - results[0]["mean_logprob"]) < BOUND, f"{model}: {results}")
                expect(abs(r["accuracy"] - results[0]["accuracy"]) * r["examples"] <= r["near_ties"], f"{model}: {results}")
            yield "as alone, within the bound"


def same_twice(rig, times):
    from rig import JOBS, timeless
    for i in range(times):
        job = list(JOBS.values())[i % len(JOBS)]
        rig.undisturbed_.pop(job.name, None)
        first = rig.undisturbed(job)[0]
        rig.undisturbed_.pop(job.name)
        expect(rig.undisturbed(job)[0] == first, f"{job.name}: other bytes")
        yield "the same bytes"


def batch_sizes(rig, times):
    widest = 0.0
    for i in range(times):
        model = ["transformer", "mamba2", "hybrid", "llamba"][i % 4]
        seed = str(i)
        results = [json.loads(rig.good(["find", f"zoo:{model}", "--task", "mcq:options=4,n=32", "--seed", seed, "--out", "out", *CPU,
                                        "--json", "--maps", "0", "--batch-tokens", b]).out) for b in ("256", "3000", "16384")]
        for other in results[1:]:
            for a, b in zip([results[0]["base"], *results[0]["heads"]], [other["base"], *other["heads"]]):
                key = "mean_logprob" if "mean_logprob" in a else "logprob_drop"
                widest = max(widest, abs(a[key] - b[key]))
                flips = abs(a["accuracy"] - b["accuracy"]) * 32
                expect(flips <= max(a["near_ties"], b["near_ties"]) + 1e-6, f"{model}: {flips} answers moved, {a['near_ties']} near ties")
        expect(widest < BOUND, f"{model}: {widest} nats apart")
        yield f"within {BOUND} nats, no answer moved but near ties"
    print(f"         largest difference between batch sizes: {widest:.2e} nats")


def no_gpu(rig, times):
    for _ in range(times):
        ended = rig.call(["eval", "zoo:transformer", "--task", TASK, "--device", "cuda"], before=["env", "CUDA_VISIBLE_DEVICES="])
        one_line(ended, status=1, has=["cuda"])
        yield "one line"


INPUT_FAULTS = [
    Fault("NaN or infinity in a random weight", "one line naming the tensor, never in a result", 24, 6, bad_weights),
    Fault("logits that overflow", "one line naming where", 6, 2, infinite_logits),
    Fault("a task without examples", "one line", 1, 1, empty_task),
    Fault("a task of one example", "a result, or one line", 1, 1, one_example),
    Fault("prompts of one token", "a result, or one line", 1, 1, one_token),
    Fault("a prompt of 100 000 tokens", "a result within 6 GiB", 5, 1, long_prompt),
    Fault("no layers, one head", "a result, or one line", 5, 5, odd_models),
    Fault("a batch of unequal lengths", "as alone", 2, 1, unequal_lengths),
    Fault("the same call twice", "the same bytes", 13, 2, same_twice),
    Fault("other batch sizes", "scores within the bound, no answer moved but near ties", 4, 1, batch_sizes),
    Fault("no GPU where one is asked for", "one line", 2, 1, no_gpu),
]

#!/usr/bin/env python3
# tests/acceptance: prompts of evaluation sets held against lm-evaluation-harness itself.
"""Has the harness (the lm-eval package, 0.4.x) build its requests from local files, has `headlens task` build ours, and
compares every context, continuation and answer byte for byte. Data sets are read from DATA and never fetched; a set that
is not there is skipped by name. Exits 1 if anything differs, or if nothing could be compared.

    python check_harness.py DATA [--headlens build/release/bin/headlens]
"""
import argparse
import bz2
import csv
import gzip
import hashlib
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import types

# The harness's adapters to models import far more than prompts need.
sys.modules["lm_eval.models"] = types.ModuleType("lm_eval.models")
import datasets  # noqa: E402
import lm_eval  # noqa: E402
from lm_eval.api.task import ConfigurableTask  # noqa: E402
from lm_eval.utils import load_yaml_config  # noqa: E402

# Nothing here is kept for a later run, so nothing needs a name that lasts.
datasets.fingerprint.Hasher.hash = classmethod(lambda cls, value: f"{random.getrandbits(64):016x}")
TASKS = pathlib.Path(lm_eval.__file__).parent / "tasks"


def harness_task(yaml, splits, **changes):
    """The harness's own task over local rows: {split: [row...]}."""
    config = load_yaml_config(yaml_path=str(TASKS / yaml))
    config.update(changes)
    config.pop("tag", None)

    class Local(ConfigurableTask):
        def download(self, dataset_kwargs=None, **_):
            self.dataset = {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}

    task = Local(config=config)
    task.set_fewshot_seed(1234)
    return task


def harness_requests(task, shots):
    """[(contexts, continuations, gold)], tokens split where the harness splits them: white space at the end of a context
    goes to its continuation."""
    out = []
    for doc in task.eval_docs:
        context = task.fewshot_context(doc, shots)
        requests = task.construct_requests(doc, context, metadata=(None, 0, 1))
        if not isinstance(requests, list):
            out.append(([requests.args[0]], requests.args[1], task.doc_to_target(doc)))
            continue
        pairs = []
        for context, continuation in (r.args for r in requests):
            kept = context.rstrip()
            pairs.append((kept, context[len(kept):] + continuation))
        gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
        out.append(([p[0] for p in pairs], [p[1] for p in pairs], int(gold)))
    return out


def our_lines(binary, spec):
    done = subprocess.run([binary, "task", spec], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"headlens task {spec}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def our_requests(binary, spec):
    out = []
    for line in our_lines(binary, spec):
        leads = line.get("choice_leads", [""] * len(line["choices"]))
        out.append(([line["prompt"] + lead for lead in leads], line["choices"], line["answer"]))
    return out


def digest(requests):
    return hashlib.sha256(json.dumps(requests).encode()).hexdigest()[:16]


class Report:
    def __init__(self):
        self.compared = self.failed = 0

    def compare(self, name, ours, theirs):
        ours, theirs = [list(r) for r in ours], [list(r) for r in theirs]
        different = [i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b]
        same = len(ours) == len(theirs) and not different
        self.compared += len(ours)
        self.failed += not same
        print(f"{'ok  ' if same else 'FAIL'} {name}: {len(ours)} questions, sha256 {digest(ours)} / {digest(theirs)}")
        if different:
            print(f"  first of {len(different)}: number {different[0]}\n  ours   {ours[different[0]]!r}\n"
                  f"  theirs {theirs[different[0]]!r}")

    def skip(self, name, path):
        print(f"skipped {name}: no {path}")


def json_lines(path):
    return [json.loads(line) for line in open(path, encoding="utf-8") if line.strip()]


def mmlu_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return [{"question": r[0], "choices": r[1:5], "answer": "ABCD".index(r[5])} for r in csv.reader(file)]


def check_mmlu(report, binary, data):
    folder = data / "mmlu/data"
    if not folder.is_dir():
        return report.skip("mmlu", folder)
    for form, group, prefix in (("letters", "default", "mmlu"), ("text", "continuation", "mmlu")):
        for shots in (5, 0):
            theirs = []
            for test in sorted((folder / "test").glob("*_test.csv")):
                subject = test.name[: -len("_test.csv")]
                splits = {"test": mmlu_rows(test), "dev": mmlu_rows(folder / f"dev/{subject}_dev.csv")}
                task = harness_task(f"mmlu/{group}/{prefix}_{subject}.yaml", splits)
                theirs += harness_requests(task, shots)
            report.compare(f"mmlu {form}, {shots} shots", our_requests(binary, f"mmlu:{folder},form={form},shots={shots}"),
                           theirs)


def check_set(report, binary, name, spec, yaml, rows, path):
    """Without examples, and with the set's own beginning as the training split."""
    splits = {"test": rows, "train": rows[:4], "validation": rows[:1]}
    changes = {"test_split": "test", "fewshot_split": "train", "fewshot_config": {"sampler": "first_n"}}
    # The template's own splits would be looked for by the harness.
    task = harness_task(yaml, splits, **changes)
    report.compare(f"{name}, 0 shots", our_requests(binary, f"{spec}:{path}"), harness_requests(task, 0))
    with tempfile.TemporaryDirectory() as folder:
        pool = pathlib.Path(folder) / "pool.jsonl"
        lines = [dict(r) for r in rows[:4]]
        pool.write_text("".join(json.dumps(line) + "\n" for line in lines))
        ours = our_requests(binary, f"{spec}:{path},shots=3,examples={pool}")
    # The harness tells rows apart by their raw text, labels included; PIQA's have labels only here.
    report.compare(f"{name}, 3 shots", ours, harness_requests(task, 3))


def piqa_rows(folder):
    labels = (folder / "valid-labels.lst").read_text().split()
    return [{**row, "label": int(label)} for row, label in zip(json_lines(folder / "valid.jsonl"), labels)]


def hellaswag_rows(count):
    """Made-up rows with all that the clean-up looks for."""
    draw = random.Random(7)
    pieces = ["[header] How to", " [title]", "[step]", "  ", "   ", " ", "ÉCOLE", "Ünder", "ΟΔΟΣ", "İstanbul", "a [b [c] d]", "x]",
              "[open", ".", "He Runs", "[]", "\n", "[a\nb]", "\u00a0", "\u2003end", "Then, SHE", "1st", "ǆ", "\t"]
    text = lambda: "".join(draw.choice(pieces) + draw.choice(["", " "]) for _ in range(draw.randint(1, 9)))
    return [{"ind": i, "activity_label": "Act " + text(), "ctx_a": text(), "ctx_b": draw.choice(["", text()]),
             "endings": ["e" + text() for _ in range(4)], "label": str(draw.randrange(4))} for i in range(count)]


def unclean(text):
    """A text that the clean-up makes this one of: it halves runs of spaces, strips the ends and deletes brackets."""
    text = re.sub("  +", lambda run: 2 * run[0], text)
    return ("[]" if text[:1].isspace() else "") + text + ("[]" if text[-1:].isspace() else "")


def raw_hellaswag(number, context, endings, label):
    """A row of the published layout that is cleaned to this context: "LABEL: A. b", the sentence that breaks off as ctx_b."""
    activity, rest = context.split(": ", 1)
    first, full_stop, last = rest.rpartition(". ")
    if not full_stop or not last[:1].isalpha():
        first, last = rest, ""
    return {"ind": number, "activity_label": activity, "ctx_a": first + "." if last else first, "ctx_b": last.lower(),
            "endings": endings, "label": str(label)}


def real_hellaswag(data):
    """(rows of the published layout put together from requests of the harness's form, what those requests are)"""
    rows, requests = [], []
    for doc in json_lines(data / "hellaswag/val_1000.lm-eval-docs.jsonl"):
        query = unclean(doc["query"])
        row = raw_hellaswag(doc["ind"], query, [unclean(choice) for choice in doc["choices"]], doc["gold"])
        if row["ctx_b"] and row["ctx_b"].capitalize() != query.rpartition(". ")[2]:  # "he goes to Rome"
            row = {**row, "ctx_a": query.split(": ", 1)[1], "ctx_b": ""}
        rows.append(row)
        # White space left at a context's end goes to the continuation, as tokens are split.
        kept = doc["query"].rstrip()
        requests.append(([kept] * 4, [doc["query"][len(kept):] + " " + c for c in doc["choices"]], doc["gold"]))
    return rows, requests


def text_hellaswag(data):
    """All of the validation set from a six-line text form: context, label, four endings."""
    lines = bz2.open(data / "hellaswag/hellaswag_val_full.txt.bz2", "rt", encoding="utf-8").read().split("\n")
    return [raw_hellaswag(i, lines[i], lines[i + 2 : i + 6], int(lines[i + 1])) for i in range(0, len(lines) - 5, 6)]


def check_hellaswag(report, binary, data):
    with tempfile.TemporaryDirectory() as folder:
        rows = hellaswag_rows(3000)
        path = written(folder, "hellaswag.jsonl", rows)
        check_set(report, binary, "hellaswag (made-up rows)", "hellaswag", "hellaswag/hellaswag.yaml", rows, path)
        if not (data / "hellaswag").is_dir():
            return report.skip("hellaswag", data / "hellaswag")
        rows, requests = real_hellaswag(data)
        path = written(folder, "real.jsonl", rows)
        check_set(report, binary, "hellaswag", "hellaswag", "hellaswag/hellaswag.yaml", rows, path)
        report.compare("ready-made hellaswag", our_requests(binary, f"hellaswag:{path}"), requests)
        rows = text_hellaswag(data)
        path = written(folder, "text.jsonl", rows)
        check_set(report, binary, "hellaswag (all, from text)", "hellaswag", "hellaswag/hellaswag.yaml", rows, path)


def check_sets(report, binary, data):
    for name, spec, yaml, file in (
        ("arc_easy", "arc-easy", "arc/arc_easy.yaml", "arc/ARC-Easy.validation.jsonl"),
        ("arc_challenge", "arc-challenge", "arc/arc_easy.yaml", "arc/ARC-Challenge.validation.jsonl"),
        ("openbookqa", "openbookqa", "openbookqa/openbookqa.yaml", "openbookqa/main.validation.jsonl"),
        ("winogrande", "winogrande", "winogrande/default.yaml", "winogrande/winogrande_xl.validation.jsonl"),
        ("piqa", "piqa", "piqa/piqa.yaml", "piqa/valid.jsonl"),
    ):
        if not (data / file).is_file():
            report.skip(name, data / file)
            continue
        rows = piqa_rows(data / "piqa") if name == "piqa" else json_lines(data / file)
        with tempfile.TemporaryDirectory() as folder:
            path = data / file
            if name == "piqa":  # once with its labels beside it, once with labels in the lines
                report.compare("piqa, label file", our_requests(binary, f"piqa:{path}"),
                               harness_requests(harness_task(yaml, {"validation": rows, "train": rows[:1]}), 0))
                path = pathlib.Path(folder) / "valid.jsonl"
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            check_set(report, binary, name, spec, yaml, rows, path)


def mutual_rows(count):
    """Made-up dialogues: the set has no licence and is not at hand."""
    draw = random.Random(11)
    pieces = ["m : ", "f : ", "do n't", " '", "''", "`` ", " ,", " .", " ?", "\n", " ", "hello", "\u2003", " ;", " !", "it 's"]
    text = lambda: "x" + "".join(draw.choice(pieces) for _ in range(draw.randint(1, 20)))
    return [{"article": text(), "options": [text() for _ in range(4)], "answers": draw.choice("ABCD")} for _ in range(count)]


def write_mutual(folder, rows):
    for i, row in enumerate(rows):
        (pathlib.Path(folder) / f"dev_{i:05}.txt").write_text(json.dumps(row))


def check_mutual(report, binary, data):
    rows = mutual_rows(2000)
    with tempfile.TemporaryDirectory() as folder:
        write_mutual(folder, rows)
        task = harness_task("mutual/mutual.yaml", {"validation": rows, "train": rows[:1]})
        report.compare("mutual (made-up dialogues), text", our_requests(binary, f"mutual:{folder},form=text"),
                       harness_requests(task, 0))


def check_ready_made(report, binary, data):
    """Requests of another tool in the same formats: an oracle that shares no code with the harness."""
    for name, spec, file in (("arc_easy", "arc-easy", "arc/ARC-Easy.validation.jsonl"),
                             ("arc_challenge", "arc-challenge", "arc/ARC-Challenge.validation.jsonl"),
                             ("winogrande", "winogrande", "winogrande/winogrande_xl.validation.jsonl")):
        requests = data / f"oe-eval-requests/{name}/rc_0shot/requests.jsonl.gz"
        if not requests.is_file() or not (data / file).is_file():
            report.skip(f"ready-made {name}", requests)
            continue
        theirs = {}
        for line in gzip.open(requests, "rt", encoding="utf-8"):
            row = json.loads(line)
            if row["doc_id"] >= 1000000:  # unconditional copies
                continue
            contexts, continuations, _ = theirs.setdefault(row["doc_id"], ([], [], row["label"]))
            contexts.append(row["request"]["context"])
            continuations.append(row["request"]["continuation"])
        report.compare(f"ready-made {name}", our_requests(binary, f"{spec}:{data / file}"),
                       [theirs[i] for i in sorted(theirs)])


def our_prompts(binary, spec):
    return [([line["prompt"]], line["stop"], line["target"]) for line in our_lines(binary, spec)]


def generative(requests):
    """The harness's requests with the stop strings alone."""
    return [(contexts, options["until"], target) for contexts, options, target in requests]


def written(folder, name, rows):
    path = pathlib.Path(folder) / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def check_gsm8k(report, binary, data):
    file = data / "gsm8k/test.jsonl"
    if not file.is_file():
        return report.skip("gsm8k", file)
    rows = json_lines(file)
    with tempfile.TemporaryDirectory() as folder:
        train, test = written(folder, "train.jsonl", rows[:6]), written(folder, "test.jsonl", rows[6:])
        task = harness_task("gsm8k/gsm8k.yaml", {"test": rows[6:], "train": rows[:6]}, fewshot_config={"sampler": "first_n"})
        report.compare("gsm8k, 5 shots", our_prompts(binary, f"gsm8k:{test},examples={train}"),
                       generative(harness_requests(task, 5)))
        task = harness_task("gsm8k/gsm8k-cot.yaml", {"test": rows})
        cot = written(folder, "cot.jsonl", task.config.fewshot_config["samples"])
        report.compare("gsm8k_cot, 8 shots", our_prompts(binary, f"gsm8k-cot:{file},examples={cot}"),
                       generative(harness_requests(task, 8)))


def as_published(context):
    """0.4.9 writes the phrase of a chain of thought twice, or a space for it; BBH's authors have it once."""
    phrase = "Let's think step by step."
    return context.replace(f"{phrase}\n {phrase}", phrase).replace(f"{phrase}\n ", f"{phrase}\n")


def check_bbh(report, binary, data):
    folder = data / "bbh"
    if not folder.is_dir():
        return report.skip("bbh", folder)
    forms = (("bbh", "zeroshot", 0, lambda text: text), ("bbh", "fewshot", 3, lambda text: text),
             ("bbh-cot", "cot_fewshot", 3, as_published))
    for ours, group, shots, change in forms:
        theirs = []
        for file in sorted((folder / "bbh").glob("*.json")):
            rows = json.loads(file.read_text(encoding="utf-8"))["examples"]
            task = harness_task(f"bbh/{group}/{file.stem}.yaml", {"test": rows})
            requests = generative(harness_requests(task, shots))
            theirs += [([change(c) for c in contexts], until, target) for contexts, until, target in requests]
        report.compare(f"{ours}, {shots} shots", our_prompts(binary, f"{ours}:{folder},shots={shots}"), theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--headlens", default="build/release/bin/headlens")
    parser.add_argument("--only", default="", help="of mmlu, sets, hellaswag, mutual, ready_made, gsm8k, bbh; comma-separated")
    args = parser.parse_args()
    report = Report()
    checks = {"mmlu": check_mmlu, "sets": check_sets, "hellaswag": check_hellaswag, "mutual": check_mutual,
              "ready_made": check_ready_made, "gsm8k": check_gsm8k, "bbh": check_bbh}
    for name, check in checks.items():
        if not args.only or name in args.only.split(","):
            check(report, args.headlens, args.data)
    print(f"{report.compared} questions compared with lm-eval {lm_eval.__version__}, {report.failed} comparisons failed")
    return 1 if report.failed or not report.compared else 0


if __name__ == "__main__":
    sys.exit(main())

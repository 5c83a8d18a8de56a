#!/usr/bin/env python3
# tests/acceptance: accuracies on evaluation sets held against lm-evaluation-harness's own counting.
"""Makes a small random Llama in float64 over TOKENIZER, scores the first questions of each set under DATA in two ways, and
compares accuracy and accuracy_norm: `headlens eval`, and one transformers forward a choice, tokens split by the harness's
_encode_pair and verdicts by its process_results. Exits 1 if anything differs; a set that is not there is skipped by name.

    python check_harness_scores.py DATA TOKENIZER.json [--n 60] [--bos] [--headlens build/release/bin/headlens]
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import types

import check_harness as harness
import tokenizers
import torch
import transformers
from lm_eval.api.model import TemplateLM


def make_model(folder, tokenizer):
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        vocab_size=tokenizer.get_vocab_size(), initializer_range=0.3, max_position_embeddings=4096)
    model = transformers.LlamaForCausalLM(config).double().eval()
    model.save_pretrained(folder)
    return model


def our_result(args, folder, spec):
    words = [args.headlens, "eval", folder, "--task", spec, "--dtype", "float64", "--device", "cpu", "--quiet", "--json"]
    done = subprocess.run(words + (["--bos"] if args.bos else []), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    return json.loads(done.stdout)


def logprob(model, context, continuation):
    ids = torch.tensor([context + continuation])
    with torch.no_grad():
        scores = model(ids).logits[0, len(context) - 1 : -1].log_softmax(-1)
    return scores[range(len(continuation)), continuation].sum().item()


def their_result(model, encoder, task, shots):
    """Means of the harness's metrics over its questions."""
    sums, count = {}, 0
    for doc in task.eval_docs:
        requests = task.construct_requests(doc, task.fewshot_context(doc, shots), metadata=(None, 0, 1))
        results = [(logprob(model, *TemplateLM._encode_pair(encoder, *r.args)), False) for r in requests]
        if "r@1" in [metric["metric"] for metric in task.config.metric_list or []]:
            # MuTual's own function takes the largest of what it is given, and 0.4.9 hands it (log-probability, greedy)
            # pairs, of which that is the first False. Here it gets what it was written for.
            results = [result[0] for result in results]
        for name, value in task.process_results(doc, results).items():
            sums[name] = sums.get(name, 0.0) + float(value)
        count += 1
    return {name: value / count for name, value in sums.items()}


def checks(data, folder, n):
    """(name, spec, harness task, shots)"""
    for name, spec, yaml, file in (
        ("arc_easy", "arc-easy", "arc/arc_easy.yaml", "arc/ARC-Easy.validation.jsonl"),
        ("arc_challenge", "arc-challenge", "arc/arc_challenge.yaml", "arc/ARC-Challenge.validation.jsonl"),
        ("openbookqa", "openbookqa", "openbookqa/openbookqa.yaml", "openbookqa/main.validation.jsonl"),
        ("winogrande", "winogrande", "winogrande/default.yaml", "winogrande/winogrande_xl.validation.jsonl"),
        ("piqa", "piqa", "piqa/piqa.yaml", "piqa/valid.jsonl"),
    ):
        if not (data / file).is_file():
            print(f"skipped {name}: no {data / file}")
            continue
        rows = harness.piqa_rows(data / "piqa") if name == "piqa" else harness.json_lines(data / file)
        splits = {"validation": rows[:n], "train": rows[:1], "test": rows[:n]}
        yield name, f"{spec}:{data / file},n={n}", harness.harness_task(yaml, splits), 0
    sets = [("hellaswag (made-up rows)", harness.hellaswag_rows(n))]
    if (data / "hellaswag").is_dir():
        sets.append(("hellaswag", harness.real_hellaswag(data)[0][:n]))
    for name, rows in sets:
        path = harness.written(folder, f"{name}.jsonl", rows)
        task = harness.harness_task("hellaswag/hellaswag.yaml", {"validation": rows, "train": rows[:1]})
        yield name, f"hellaswag:{path}", task, 0
    rows = harness.mutual_rows(n)
    dialogues = pathlib.Path(folder) / "mutual"
    dialogues.mkdir()
    harness.write_mutual(dialogues, rows)
    task = harness.harness_task("mutual/mutual.yaml", {"validation": rows, "train": rows[:1]})
    yield "mutual (made-up dialogues), text", f"mutual:{dialogues},form=text", task, 0
    mmlu = data / "mmlu/data"
    if not mmlu.is_dir():
        print(f"skipped mmlu: no {mmlu}")
        return
    splits = {split: harness.mmlu_rows(mmlu / f"{split}/anatomy_{split}.csv") for split in ("dev", "test")}
    splits["test"] = splits["test"][:n]
    for form, group in (("letters", "default"), ("text", "continuation")):
        task = harness.harness_task(f"mmlu/{group}/mmlu_anatomy.yaml", splits)
        yield f"mmlu {form}", f"mmlu:{mmlu},subjects=anatomy,form={form},n={n}", task, 5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("tokenizer")
    parser.add_argument("--headlens", default="build/release/bin/headlens")
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--bos", action="store_true", help="tokenizers that add a start token only")
    args = parser.parse_args()
    tokenizer = tokenizers.Tokenizer.from_file(args.tokenizer)
    encoder = types.SimpleNamespace(
        tok_encode=lambda text, add_special_tokens=args.bos: tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)
    compared = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder, tokenizer)
        shutil.copy(args.tokenizer, pathlib.Path(folder) / "tokenizer.json")
        for name, spec, task, shots in checks(args.data, folder, args.n):
            ours, theirs = our_result(args, folder, spec), their_result(model, encoder, task, shots)
            pairs = [(ours["accuracy"], theirs["acc"] if "acc" in theirs else theirs["r@1"])]
            if "acc_norm" in theirs or ("accuracy_norm" in ours and "acc" in theirs):
                pairs.append((ours["accuracy_norm"], theirs["acc_norm"]))
            same = all(abs(a - b) < 1e-12 for a, b in pairs)  # both count the same whole numbers
            compared, failed = compared + 1, failed + (not same)
            print(f"{'ok  ' if same else 'FAIL'} {name}: {ours['examples']} questions, ours / harness: "
                  + ", ".join(f"{a:.4f} / {b:.4f}" for a, b in pairs) + f" (near ties {ours['near_ties']})")
    print(f"{compared} sets compared, {failed} failed")
    return 1 if failed or not compared else 0


if __name__ == "__main__":
    sys.exit(main())

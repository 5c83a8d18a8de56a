#!/usr/bin/env python3
# tests/acceptance: written answers held against lm-evaluation-harness's own generation, filters and counting.
"""Trains a small Llama for a minute on the first questions of GSM8K and BBH under DATA, so that some answers are right, some
wrong and some no answers at all. Then the harness (its HFLM and its evaluator, float64) and `headlens eval` write answers to
the same questions: the texts must be equal, and the accuracies by every rule. Exits 1 if anything differs.

    python check_harness_written.py DATA [--n 6] [--epochs 60] [--headlens build/release/bin/headlens]
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import check_harness as harness  # first: it keeps the harness from importing every kind of model
import lm_eval
import tokenizers
import torch
import transformers

sys.modules["lm_eval.models"].__path__ = [str(pathlib.Path(lm_eval.__file__).parent / "models")]
from lm_eval import evaluator  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

NEW_TOKENS = 48
BBH = ["navigate", "date_understanding", "object_counting", "word_sorting"]


class Set:
    """A task of ours, the harness's over the same rows, and texts to train on."""

    def __init__(self, name, spec, task, shots, lesson):
        self.name, self.spec, self.task, self.shots, self.lesson = name, spec, task, shots, lesson

    def lessons(self):
        return [(self.task.fewshot_context(doc, self.shots), self.lesson(i, doc)) for i, doc in enumerate(self.task.eval_docs)]


def tuned(yaml, splits, shots, **changes):
    config = harness.load_yaml_config(yaml_path=str(harness.TASKS / yaml))
    options = {**config["generation_kwargs"], "max_gen_toks": NEW_TOKENS}
    task = harness.harness_task(yaml, splits, generation_kwargs=options, num_fewshot=shots, **changes)
    return task


def sets(data, folder, n):
    rows = harness.json_lines(data / "gsm8k/test.jsonl")[:n]
    path = harness.written(folder, "gsm8k.jsonl", rows)
    short = lambda doc: doc["answer"].rpartition("\n#### ")
    # Some with their mark, some with a number alone, some with none.
    said = [lambda d: f" So.\n#### {short(d)[2]}", lambda d: f" It is ${short(d)[2]}.", lambda d: " #### none", lambda d: " Well."]
    yield Set("gsm8k", f"gsm8k:{path},shots=0,tokens={NEW_TOKENS}",
              tuned("gsm8k/gsm8k.yaml", {"test": rows, "train": rows[:1]}, 0), 0, lambda i, d: said[i % 4](d) + "\nQuestion:")
    task = tuned("gsm8k/gsm8k-cot.yaml", {"test": rows}, 0)
    said_cot = [lambda d: f" The answer is {short(d)[2]}.", lambda d: f" The answer is {short(d)[2]}", lambda d: f" {short(d)[2]}"]
    yield Set("gsm8k_cot", f"gsm8k-cot:{path},shots=0,tokens={NEW_TOKENS}", task, 0, lambda i, d: said_cot[i % 3](d) + "\nQ:")
    for name in BBH:
        folder_of = pathlib.Path(folder) / name
        (folder_of / "bbh").mkdir(parents=True)
        (folder_of / "cot-prompts").mkdir()
        rows = json.loads((data / f"bbh/bbh/{name}.json").read_text(encoding="utf-8"))["examples"][:n]
        (folder_of / f"bbh/{name}.json").write_text(json.dumps({"canary": "", "examples": rows}))
        chains = data / f"bbh/cot-prompts/{name}.txt"
        (folder_of / f"cot-prompts/{name}.txt").write_text(chains.read_text(encoding="utf-8"), encoding="utf-8")
        plain = [lambda d: d["target"], lambda d: " so " + d["target"].lower() + ".", lambda d: d["target"].strip("()") + "!",
                 lambda d: " Is it: A two, six fifty or no?"]
        yield Set(f"bbh {name}", f"bbh:{folder_of},tokens={NEW_TOKENS}", tuned(f"bbh/zeroshot/{name}.yaml", {"test": rows}, 0), 0,
                  lambda i, d: plain[i % 4](d) + "\n\nQ:")
        thought = [lambda d: f"So the answer is {d['target']}.", lambda d: f"the answer is {d['target']}", lambda d: "So."]
        yield Set(f"bbh-cot {name}", f"bbh-cot:{folder_of},shots=0,tokens={NEW_TOKENS}",
                  tuned(f"bbh/cot_fewshot/{name}.yaml", {"test": rows}, 0), 0, lambda i, d: thought[i % 3](d) + "\n\nQ:")


def make_tokenizer(texts, folder):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=2000, special_tokens=["<|end|>"], show_progress=False,
                                             initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(pathlib.Path(folder) / "tokenizer.json"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")


def train(lessons, tokenizer, epochs, folder):
    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        hidden_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=192,
        vocab_size=len(tokenizer), max_position_embeddings=4096, eos_token_id=tokenizer.eos_token_id, bos_token_id=None)
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pairs = [(tokenizer(prompt)["input_ids"], tokenizer(answer)["input_ids"]) for prompt, answer in lessons]
    for epoch in range(epochs):
        total = 0.0
        for i in torch.randperm(len(pairs)).tolist():
            prompt, answer = pairs[i]
            labels = torch.tensor([[-100] * len(prompt) + answer])
            loss = model(torch.tensor([prompt + answer]), labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / len(pairs):.3f}", flush=True)
    print(f"trained on {len(pairs)} answers", flush=True)
    model = model.double().eval()
    model.save_pretrained(folder)
    return model


def ours(binary, folder, spec):
    words = [binary, "eval", folder, "--task", spec, "--dtype", "float64", "--device", "cpu", "--quiet", "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    result = json.loads(done.stdout)
    stops = harness.our_lines(binary, spec)[0]["stop"]
    texts = [min((text.split(stop)[0] for stop in stops), key=len) for text in result["texts"]]
    return texts, {rule["rule"]: rule["accuracy"] for rule in result["rules"]}


def theirs(lm, one):
    name = one.task.config.task
    out = evaluator.evaluate(lm=lm, task_dict={name: one.task}, bootstrap_iters=0, log_samples=True)
    rules = {key.split(",")[1]: value for key, value in out["results"][name].items() if key.startswith("exact_match,")}
    samples = {s["doc_id"]: s["resps"][0][0] for s in out["samples"][name]}
    return [samples[i] for i in sorted(samples)], rules


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--headlens", default="build/release/bin/headlens")
    parser.add_argument("--n", type=int, default=6, help="questions of each set")
    parser.add_argument("--epochs", type=int, default=60)
    args = parser.parse_args()
    failed = right = 0
    with tempfile.TemporaryDirectory() as folder:
        all_sets = list(sets(args.data, folder, args.n))
        lessons = [lesson for one in all_sets for lesson in one.lessons()]
        tokenizer = make_tokenizer([prompt + answer for prompt, answer in lessons], folder)
        model = train(lessons, tokenizer, args.epochs, folder)
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=4096, device="cpu", dtype="float64")
        for one in all_sets:
            texts, rules = ours(args.headlens, folder, one.spec)
            their_texts, their_rules = theirs(lm, one)
            same = texts == their_texts and rules.keys() == their_rules.keys()
            same = same and all(abs(rules[name] - their_rules[name]) < 1e-12 for name in rules)  # both count whole numbers
            failed += not same
            right += sum(rules.values()) > 0
            print(f"{'ok  ' if same else 'FAIL'} {one.name}: {len(texts)} texts"
                  f"{'' if texts == their_texts else ' THAT DIFFER'}, ours / harness: "
                  + ", ".join(f"{name} {rules[name]:.4f} / {their_rules.get(name, float('nan')):.4f}" for name in rules))
            if texts != their_texts:
                first = next(i for i, (a, b) in enumerate(zip(texts, their_texts)) if a != b)
                print(f"  ours   {texts[first]!r}\n  theirs {their_texts[first]!r}")
    print(f"{len(all_sets)} sets compared, {failed} failed; {right} with right answers")
    return 1 if failed or right < len(all_sets) // 2 else 0


if __name__ == "__main__":
    sys.exit(main())

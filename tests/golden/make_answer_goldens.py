#!/usr/bin/env python3
# tests/golden: answers that lm-evaluation-harness's own filters read out of random completions of BBH's tasks.
"""Writes answers/bbh.jsonl: made questions and completions, put together at random from the pieces that the rules look
for, and what `flexible-extract` of lm-eval 0.4.9 answers. Another seed and --rows make a longer check:

    python make_answer_goldens.py [--rows 40] [--seed 0] [--out FILE]
"""
import argparse
import json
import pathlib
import random
import sys
import types

# The harness's adapters to models import far more than filters need.
sys.modules["lm_eval.models"] = types.ModuleType("lm_eval.models")
import lm_eval  # noqa: E402
from lm_eval.filters import build_filter_ensemble  # noqa: E402
from lm_eval.utils import load_yaml_config  # noqa: E402

ZEROSHOT = pathlib.Path(lm_eval.__file__).parent / "tasks/bbh/zeroshot"
WORDS = ["oak", "Elm", "fig tree", "a fig", "d'or", "1.5", "naïve", "ÉTÉ", "“so”", "no", "-", "$", "_x", "fig", "not plausible"]
NUMBERS = ["zero", "one", "two", "five", "six", "seven", "eight", "nine", "ten", "eleven", "fourteen", "sixteen", "eighteen",
           "twenty", "forty", "sixty", "eighty", "ninety", "hundred", "thousand", "million", "billion", "trillion"]


def flexible(task):
    config = load_yaml_config(yaml_path=str(ZEROSHOT / f"{task}.yaml"))
    [found] = [f for f in config["filter_list"] if f["name"] == "flexible-extract"]
    steps = []
    for step in found["filter"]:
        arguments = {key: value for key, value in step.items() if key != "function"}
        steps.append([step["function"], arguments or None])
    return build_filter_ensemble("flexible-extract", steps)


def answer(ensemble, question, text):
    """What the ensemble's filters give one after another; None where the harness itself gives up."""
    answers, docs = [[text]], [{"input": question}]
    try:
        for step in ensemble.filters:
            answers = step().apply(answers, docs)
    except (IndexError, ValueError):
        return None
    return list(answers)[0]


def joined(draw, pieces, most):
    return "".join(draw.choice(pieces) + draw.choice(["", " ", " "]) for _ in range(draw.randint(1, most)))


def options(draw):
    lines = [f"({letter}) {joined(draw, WORDS, 3)}" for letter in "ABCDE"[: draw.randint(0, 5)]]
    return draw.choice(["Which?", "Of (X) or so:"]) + "\nOptions:\n" + "\n".join(lines)


def words(draw):
    pool = ["oak", "elm", "fig", "figs", "été", "ox", "o'er", "oxen", "x_y", "oak"]
    return "Sort. List: " + " ".join(draw.choice(pool) for _ in range(draw.randint(1, 6)))


def case(draw, task):
    """(question, completion)"""
    if task == "word_sorting":
        return words(draw), joined(draw, ["oak", "elm", "fig", "figs", "été", "ox", "o'er", "oxen", ",", "\n", "Oak", "x_y", "_"], 9)
    if task in ("object_counting", "multistep_arithmetic_two"):
        pieces = NUMBERS + ["and", ",", "&", "\n", "-", "Five", "fish"] + (["7", "12"] if draw.random() < 0.2 else [])
        return "How many?", joined(draw, pieces, 6)
    if task == "dyck_languages":
        return "Close.", joined(draw, ["]", ")", "}", ">", "<", "[", '"', "x", "\n", " "], 6)
    phrases = ["True", "False", "yes", "No", "valid", "invalid", "not plausible", "plausible", "Plausible", "tells the truth", "is",
               "does not tell the truth", "is not telling the truth", "is telling the truth", "é", "_", ".", "\n", "nothing"]
    if task != "choices":
        return "Is it?", joined(draw, phrases, 5)
    pieces = WORDS + [":", ": ", "A", "B", "D", "\n", ".", "(", "OAK", "naÏve", "the"] + (["(B)", "(e)"] if draw.random() < 0.2 else [])
    question = options(draw)
    lines = [line[4:] for line in question.split("\n")[2:]]
    if lines and draw.random() < 0.6:  # an option's words, as they are or in other letters
        pieces = pieces[-8:] + 4 * [draw.choice([str.lower, str.upper, str.strip])(draw.choice(lines))]
    return question, joined(draw, pieces, 6)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40, help="of each kind of task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "answers/bbh.jsonl")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    kinds = {"boolean_expressions": 8, "formal_fallacies": 8, "navigate": 8, "sports_understanding": 4, "web_of_lies": 4,
             "object_counting": 1, "word_sorting": 1, "dyck_languages": 4, "ruin_names": 1}
    with args.out.open("w", encoding="utf-8") as out:
        for task, share in kinds.items():
            ensemble = flexible(task)
            for _ in range(max(1, args.rows // share)):
                question, text = case(draw, "choices" if task == "ruin_names" else task)
                row = {"task": task, "question": question, "text": text, "answer": answer(ensemble, question, text)}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

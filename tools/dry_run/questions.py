# tools/dry_run: made questions in the layouts of the published sets, as long as theirs.
"""write(folder) puts a few rows of each set there; they ask nothing, so no model does better than guessing."""
import csv
import json
import random

WORDS = ("the a river stone which of people made under light and to in city year two after energy was found when small number "
         "water plant cell right moves law north paper sound seven both").split()
ROWS = 16


def text(draw, words):
    return " ".join(draw.choice(WORDS) for _ in range(words)).capitalize()


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_mmlu(draw, folder):
    for split in ("dev", "val", "test"):
        (folder / split).mkdir(parents=True)
        with (folder / split / f"astronomy_{split}.csv").open("w", newline="") as file:
            for _ in range(ROWS):
                options = [text(draw, 6) for _ in range(4)]
                csv.writer(file).writerow([text(draw, 25) + "?", *options, draw.choice("ABCD")])


def write_bbh(draw, folder):
    (folder / "bbh").mkdir(parents=True)
    (folder / "cot-prompts").mkdir()
    think = "\nA: Let's think step by step.\n"
    chains = [f"Q: {text(draw, 50)}?{think}{text(draw, 60)}. So the answer is {draw.choice(['Yes', 'No'])}." for _ in range(3)]
    (folder / "cot-prompts/navigate.txt").write_text("canary\n-----\n" + "\n\n".join(["Find the way.", *chains]) + "\n")
    examples = [{"input": text(draw, 50) + "?", "target": draw.choice(["Yes", "No"])} for _ in range(ROWS)]
    (folder / "bbh/navigate.json").write_text(json.dumps({"canary": "", "examples": examples}))


def write(folder):
    draw = random.Random(1)
    folder.mkdir(parents=True, exist_ok=True)
    write_mmlu(draw, folder / "mmlu")
    arc = [{"id": str(i), "question": text(draw, 20) + "?",
            "choices": {"text": [text(draw, 4) for _ in range(4)], "label": list("ABCD")}, "answerKey": draw.choice("ABCD")}
           for i in range(ROWS)]
    lines(folder / "arc.jsonl", arc)
    solved = [{"question": text(draw, 45) + "?", "answer": text(draw, 60) + f"\n#### {draw.randint(1, 99)}"} for _ in range(ROWS)]
    lines(folder / "gsm8k.jsonl", solved)
    write_bbh(draw, folder / "bbh")
    talk = lambda turns: [f"{'MW'[i % 2]}: {text(draw, 12)}." for i in range(turns)]
    dream = []
    for i in range(ROWS):
        choices = [text(draw, 5) for _ in range(3)]
        dream.append([talk(8), [{"question": text(draw, 8) + "?", "choice": choices, "answer": draw.choice(choices)}], str(i)])
    (folder / "dream.json").write_text(json.dumps(dream))
    (folder / "mutual").mkdir()
    for i in range(ROWS):
        row = {"article": " ".join(talk(6)), "options": [text(draw, 12) for _ in range(4)], "answers": draw.choice("ABCD"), "id": str(i)}
        (folder / f"mutual/dev_{i}.txt").write_text(json.dumps(row))

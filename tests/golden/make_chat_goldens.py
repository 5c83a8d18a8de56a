#!/usr/bin/env python3
# tests/golden: what transformers writes for conversations by each chat template known here.
"""Writes chat/expected.json: our spelling of each template, its hash, and for each conversation the
text, or null where the template raises an error. Arguments name files of published templates: each
must write what the format of its name does, and its hash is printed for src/model/chat_format.cpp.

    pip install transformers==5.17.0 jinja2
    python tests/golden/make_chat_goldens.py [FORMAT=FILE.jinja ...]
"""

import itertools
import json
import random
import sys
from pathlib import Path

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

sys.path.insert(0, str(Path(__file__).resolve().parent))
from golden_tools.chat_templates import TEMPLATES  # noqa: E402

OUT = Path(__file__).resolve().parent / "chat"
CONTENTS = ["Hello", " \x1f\u00a0 two\nlines \u2003\n", "", "<think>\n\nhm\n</think>\n\nYes. ", "é日本 😀 <b>&amp;'\"",
            "a</think>b<think>c</think>\n\nd\n", "\n\nlate", "<tool_response>\n1\n</tool_response>"]


def conversations():
    random.seed(5)
    shapes = ["u", "ua", "uau", "su", "suau", "sua", "uaua", "uaa", "uu", "a", "usu", "suaua", "s", "uuaa"]
    names = {"s": "system", "u": "user", "a": "assistant"}
    for shape in shapes:
        for _ in range(3):
            yield [{"role": names[c], "content": random.choice(CONTENTS)} for c in shape]


def write(template, messages, prompt):
    try:
        texts, _ = render_jinja_template([messages], chat_template=template, bos_token="<bos>", eos_token="<eos>",
                                         add_generation_prompt=prompt)
        return texts[0]
    except Exception as error:  # what a template raises comes in many kinds
        if "take turns" in str(error) or "roles" in str(error) or "role not" in str(error):
            return None
        raise


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.removesuffix("\n").encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def main():
    OUT.mkdir(exist_ok=True)
    talks = list(conversations())
    cases = {}
    for name, template in TEMPLATES.items():
        texts = [write(template, t, p) for t, p in itertools.product(talks, (False, True))]
        cases[name] = {"template": template, "hash": fnv1a(template), "texts": texts}
        print(f"0x{fnv1a(template)} {name}")
    for argument in sys.argv[1:]:
        name, path = argument.split("=")
        published = Path(path).read_text(encoding="utf-8")
        for (talk, prompt), expected in zip(itertools.product(talks, (False, True)), cases[name]["texts"]):
            got = write(published, talk, prompt)
            if got != expected:
                sys.exit(f"{path}: {talk}, prompt {prompt}: expected {expected!r}, got {got!r}")
        print(f"0x{fnv1a(published)} {name} {path}")
    made_by = f"make_chat_goldens.py with transformers {transformers.__version__}"
    text = json.dumps({"made_by": made_by, "messages": talks, "cases": cases}, ensure_ascii=False,
                      separators=(",", ":"))
    (OUT / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

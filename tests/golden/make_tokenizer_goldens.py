#!/usr/bin/env python3
# tests/golden: makes small tokenizers and what Hugging Face's `tokenizers` does with them.
"""Writes tokenizers/<name>.json, one trait each, tokenizers/expected.json with the ids of a few
texts, and tokenizers/regexes.json with how patterns cut a text. Nothing is random.

    pip install tokenizers==0.23.3
    python tests/golden/make_tokenizer_goldens.py
"""

import json
import sys
from pathlib import Path

import tokenizers
from tokenizers import Regex, Tokenizer, pre_tokenizers

sys.path.insert(0, str(Path(__file__).resolve().parent))
from golden_tools.regexes import CORNERS, TEXT, WILD  # noqa: E402
from golden_tools.small_tokenizers import TOKENIZERS  # noqa: E402

OUT = Path(__file__).resolve().parent / "tokenizers"
TEXTS = [
    "",
    "Hello world, the 1234 in A: key!\nthat's it...",
    "  hello--world   don't ² ½\t\n\n é_1 ,.a. ",
    "HER her ther WORLD  <mask>  her<sep>  <|end|>hello<sep>\tx  émile y",
    "E\u0301te\u0323\u0302 ﬁ Å İß \u0301 日本㋿ 😀\u00a0\u3000x\r\n",
    " the▁▁and<b>x a <s>b</s>",
]
DECODE_EVERY = 61  # ids 0, 61, 122, ...: tokens that do not belong together, cut characters


def cases(tokenizer):
    plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    special = [tokenizer.encode(text, add_special_tokens=True).ids for text in TEXTS]
    size = tokenizer.get_vocab_size()
    scattered = list(range(0, size, DECODE_EVERY)) + [size - 1, size + 100]
    lists = [*special, scattered]
    return {
        "vocab_size": size,
        "ids": plain,
        "special_ids": special if special != plain else None,
        "scattered": scattered,
        "decoded": [tokenizer.decode(ids, skip_special_tokens=False) for ids in lists],
        "skipped": [tokenizer.decode(ids, skip_special_tokens=True) for ids in lists],
    }


def ends_in_bytes(pattern):
    """Where the pieces of TEXT end, in bytes of UTF-8."""
    cut = pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(TEXT)
    return [len(TEXT[:end].encode()) for _, (_, end) in cut]


def write(name, value, indent=None):
    separators = (",", ": ") if indent else (",", ":")
    text = json.dumps(value, ensure_ascii=False, separators=separators, indent=indent)
    (OUT / name).write_text(text + "\n", encoding="utf-8")


def main():
    OUT.mkdir(exist_ok=True)
    made_by = f"make_tokenizer_goldens.py with tokenizers {tokenizers.__version__}"
    expected = {}
    for name, spec in TOKENIZERS.items():
        write(f"{name}.json", spec)
        result = cases(Tokenizer.from_file(str(OUT / f"{name}.json")))
        if result["skipped"] == result["decoded"]:
            result["skipped"] = None
        if name.startswith(("pre_", "split_")) and name != "split_string":
            result["scattered"] = result["decoded"] = None  # one decoder for all of them
        expected[name] = {key: value for key, value in result.items() if value is not None}
    write("expected.json", {"made_by": made_by, "texts": TEXTS, "cases": expected})
    patterns = [{"pattern": p, "ends": ends_in_bytes(p)} for p in [*WILD, *CORNERS]]
    write("regexes.json", {"made_by": made_by, "text": TEXT, "patterns": patterns})
    print(sum(file.stat().st_size for file in OUT.iterdir()), "bytes in", OUT)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# tests/golden: makes small `tokenizer.model` files and what their own libraries do with them.
"""Writes tokenizers/models/<name>/tokenizer.model and tokenizers/models/expected.json. Ids are those
of Python's `sentencepiece` and `tiktoken`; texts of Llama's, Mistral's and Gemma's kind are held
against transformers' own conversion as well. Training is deterministic, on one thread.

    pip install tokenizers==0.23.3 transformers==5.17.0 sentencepiece==0.2.3 tiktoken==0.14.0 protobuf
    python tests/golden/make_tokenizer_model_goldens.py
"""

import base64
import json
import sys
from pathlib import Path

import sentencepiece
import tiktoken
from tokenizers import AddedToken, Tokenizer, decoders
from transformers import LlamaTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from golden_tools import model_files  # noqa: E402
from golden_tools.small_tokenizers import LLAMA3  # noqa: E402

OUT = Path(__file__).resolve().parent / "tokenizers" / "models"
TEXTS = [
    "",
    "her blue letter was found in the garden. The old clock won't open at 12, it's 1999!",
    "  two   spaces\tand\n\n\nlines \r\n end  ",
    " leading", "▁mark ▁▁ inside▁word ▁", "Überlingen 日本 😀 \u0301e é ﬁ Å \u00a0\u3000x",
    "<s>her</s> the<unk>old <s> clock <pad> x<bos>a<eos>", "[INST] her letter [/INST] a key</s>[INST]b",
    "<start_of_turn>user\nher<end_of_turn>\n", "def f(x):\n    return x + 1\n\n\n        pass", "   ", "a",
    "<|begin_of_text|>the <|eot_id|> key<|start_header_id|>x<|reserved_special_token_7|>",
]
BASE = 420  # tokens of the tiktoken file


def peer_of(name, sp):
    """The model as transformers reads it, with the normalizer of the family's published
    tokenizer.json; None for kinds that no family has."""
    if name not in ("llama", "mistral", "gemma"):
        return None
    spec = json.loads(LlamaTokenizer.from_pretrained(OUT / name).backend_tokenizer.to_str())
    steps = [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    if name != "gemma":
        steps.insert(0, {"type": "Prepend", "prepend": "▁"})
    spec.update(normalizer={"type": "Sequence", "normalizers": steps}, pre_tokenizer=None,
                added_tokens=[])  # it adds <s>, </s> and <unk> to any model
    peer = Tokenizer.from_str(json.dumps(spec))
    peer.add_special_tokens(list(model_files.special_pieces(sp)))
    symbols = model_files.SENTENCEPIECE[name].get("user_defined_symbols", [])
    peer.add_tokens([AddedToken(s, normalized=True) for s in symbols])
    return peer


def sentencepiece_case(name):
    path = OUT / name / "tokenizer.model"
    path.parent.mkdir(exist_ok=True)
    sp = model_files.train(name, path)
    special = set(model_files.special_pieces(sp).values())
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if model_files.SENTENCEPIECE[name].get("add_dummy_prefix", True):
        steps.append(decoders.Strip(" ", 1, 0))
    decoder = decoders.Sequence(steps)
    ids = [model_files.encode(sp, text) for text in TEXTS]
    if peer := peer_of(name, sp):
        for text, expected in zip(TEXTS, ids):
            got = peer.encode(text, add_special_tokens=False).ids
            assert got == expected, (name, text, got, expected)
    pieces = [[sp.id_to_piece(i) for i in row] for row in ids]
    kept = [[sp.id_to_piece(i) for i in row if i not in special] for row in ids]
    return {
        "vocab_size": sp.vocab_size(),
        "pieces": [sp.id_to_piece(i) for i in range(sp.vocab_size())],
        "ids": ids,
        "start": [sp.bos_id()] if sp.bos_id() >= 0 else [],
        "decoded": [decoder.decode(row) for row in pieces],
        "skipped": [decoder.decode(row) for row in kept],
    }


def tiktoken_case(name, names, config):
    ranks = model_files.tiktoken_ranks(model_files.CORPUS, BASE)
    special = {s: len(ranks) + i for i, s in enumerate(names)}
    encoding = tiktoken.Encoding(name, pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens=special)
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()]
    (OUT / name).mkdir(exist_ok=True)
    (OUT / name / "tokenizer.model").write_text("".join(lines))
    (OUT / name / "params.json").write_text(json.dumps({"vocab_size": len(ranks) + 256, **config}) + "\n")
    ids = [encoding.encode(text, allowed_special="all") for text in TEXTS]
    kept = [[i for i in row if i < len(ranks)] for row in ids]
    return {
        "vocab_size": encoding.n_vocab,
        "special": special,
        "ids": ids,
        "start": [len(ranks)],
        "decoded": [encoding.decode(row) for row in ids],
        "skipped": [encoding.decode(row) for row in kept],
    }


def llama3_names(named):
    """256 names: those given by place, the others reserved ones counted from 0 (Meta's llama3 and
    llama-models, tokenizer.py)."""
    reserved = iter(range(256))
    return [named.get(i) or f"<|reserved_special_token_{next(reserved)}|>" for i in range(256)]


LLAMA_3 = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 6: "<|start_header_id|>", 7: "<|end_header_id|>",
           9: "<|eot_id|>"}
LLAMA_31 = {**LLAMA_3, 4: "<|finetune_right_pad_id|>", 8: "<|eom_id|>", 10: "<|python_tag|>"}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    cases = {name: sentencepiece_case(name) for name in model_files.SENTENCEPIECE}
    cases["tiktoken_llama3"] = tiktoken_case("tiktoken_llama3", llama3_names(LLAMA_3), {})
    cases["tiktoken_llama31"] = tiktoken_case(
        "tiktoken_llama31", llama3_names(LLAMA_31), {"use_scaled_rope": True}
    )
    made_by = (f"make_tokenizer_model_goldens.py with sentencepiece {sentencepiece.__version__}, "
               f"tiktoken {tiktoken.__version__}")
    text = json.dumps({"made_by": made_by, "texts": TEXTS, "cases": cases}, ensure_ascii=False,
                      separators=(",", ":"))
    (OUT / "expected.json").write_text(text + "\n", encoding="utf-8")
    print({p.parent.name: p.stat().st_size for p in OUT.rglob("*.*")})


if __name__ == "__main__":
    main()

# tests/golden: small SentencePiece and tiktoken files, and what their own libraries do with them.
"""SENTENCEPIECE: name -> how it is trained; tiktoken_ranks(): a small byte-pair vocabulary."""

import contextlib
import re
import tempfile
from pathlib import Path

SUBJECTS = ["the old clock", "her blue letter", "a small river", "that quiet road", "our first key"]
VERBS = ["opens at", "stands near", "is older than", "does not match", "was found in", "won't leave"]
PLACES = ["the garden.", "room 12!", "a house, 3 doors on;", "Überlingen?", "1999 or 2024.", "日本 (east)."]
CORPUS = [f"{s} {v} {p}" for s in SUBJECTS for v in VERBS for p in PLACES]
CORPUS += ["def f(x):\n    return x + 1", "  two  spaces   here", "ÉTÉ été ﬁne Å"] * 3

PLAIN = dict(
    model_type="bpe",
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    byte_fallback=True,
    split_digits=True,
    allow_whitespace_only_pieces=True,
    vocab_size=560,
)
# Every family's own settings, as far as they decide how a text is cut.
SENTENCEPIECE = {
    "llama": dict(PLAIN),
    "mistral": dict(PLAIN, control_symbols=["[INST]", "[/INST]"]),
    "gemma": dict(
        PLAIN,
        add_dummy_prefix=False,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", bos_piece="<bos>", eos_piece="<eos>",
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\n\n", "▁▁", "▁▁▁", "her"],
    ),
    "phrases": dict(PLAIN, split_by_whitespace=False),  # pieces that reach over spaces
    "unknowns": dict(PLAIN, byte_fallback=False, vocab_size=300, hard_vocab_limit=False),
    "unigram": dict(model_type="unigram", vocab_size=85, bos_id=-1, pad_id=3),  # rewrites texts
}


# What the unigram model rewrites, in hexadecimal: "ﬁ" and the spaces that are not ASCII's.
RULES = ["FB01\t66 69", "A0\t20", "3000\t20", "9\t20", "A\t20", "D\t20"]


def train(name, path):
    import sentencepiece

    settings = dict(SENTENCEPIECE[name])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # the name is kept
        if settings["model_type"] == "unigram":
            Path("rules.tsv").write_text("".join(rule + "\n" for rule in RULES))
            settings["normalization_rule_tsv"] = "rules.tsv"
        with open(path, "wb") as out:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(CORPUS), model_writer=out, num_threads=1, minloglevel=2,
                **settings,
            )
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def special_pieces(sp):
    return {sp.id_to_piece(i): i for i in range(sp.vocab_size()) if sp.is_control(i) or sp.is_unknown(i)}


def encode(sp, text):
    """transformers' slow tokenizers: special pieces first, each stretch between them by the library."""
    special = special_pieces(sp)
    cut = "(" + "|".join(re.escape(s) for s in sorted(special, key=len, reverse=True)) + ")"
    ids = []
    for part in re.split(cut, text):
        ids += [special[part]] if part in special else sp.encode(part) if part else []
    return ids


def tiktoken_ranks(texts, size):
    """Bytes, then the pair that is most often there, until there are `size` tokens."""
    tokens = [bytes([b]) for b in range(256)]
    words = [[bytes([b]) for b in w.encode()] for t in texts for w in re.findall(r"\s?\S+|\s+", t)]
    while len(tokens) < size:
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        left, right = min(counts, key=lambda pair: (-counts[pair], pair))
        tokens.append(left + right)
        for word in words:
            i = 0
            while i + 1 < len(word):
                if word[i] == left and word[i + 1] == right:
                    word[i : i + 2] = [left + right]
                i += 1
    return {token: rank for rank, token in enumerate(dict.fromkeys(tokens))}

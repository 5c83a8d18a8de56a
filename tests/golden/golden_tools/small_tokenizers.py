# tests/golden: small tokenizers, each with a trait that checkpoints in the wild have.
"""TOKENIZERS: name -> the object of a tokenizer.json, version and null parts left out."""

ALPHABET = "abcdefghilmnorstuwxyABHIT0123 \n\t.,!?'-_▁éμ½²"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS = ["the", "and", "that", "her", "hello", "world", "don", "won", "ll", "12", "123", "in", "ing"]


def byte_alphabet():
    """The printable stand-ins of the 256 bytes, in byte order."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in shown else chr(next(others)) for b in range(256)]


def chains(words):
    """Merges that build each word from left to right."""
    merges = {}
    for word in words:
        for cut in range(1, len(word)):
            merges[(word[:cut], word[cut])] = None
    return list(merges)


def bpe(tokens, merges=(), **options):
    prefix = len(options.get("continuing_subword_prefix", ""))
    tokens = dict.fromkeys([*tokens, *(a + b[prefix:] for a, b in merges)])
    return {
        "type": "BPE",
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": [list(pair) for pair in merges],
        **options,
    }


def byte_bpe(words=(), **options):
    words = [*words, *("Ġ" + word for word in words)]
    return bpe(byte_alphabet(), chains(words), **options)


def show_splits(**parts):
    """A model that keeps characters apart and marks the last one of each word."""
    tokens = ["<?>", *ALPHABET, *(char + "$" for char in ALPHABET)]
    model = bpe(tokens, end_of_word_suffix="$", unk_token="<?>")
    return {"model": model, "decoder": {"type": "BPEDecoder", "suffix": "$"}, **parts}


def word_level(words, **parts):
    vocab = {word: index for index, word in enumerate(["<unk>", *words])}
    return {"model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}, **parts}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(use_regex=True, add_prefix_space=False):
    return {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def metaspace(scheme, cut=True):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


def added(id_, content, **flags):
    names = ["single_word", "lstrip", "rstrip", "normalized", "special"]
    return {"id": id_, "content": content, **{name: flags.get(name, False) for name in names}}


def template(*single):
    ids = {piece: {"id": piece, "ids": [n], "tokens": [piece]} for piece, n in single if piece != "A"}
    pieces = [
        {"Sequence": {"id": "A", "type_id": 0}}
        if piece == "A"
        else {"SpecialToken": {"id": piece, "type_id": 0}}
        for piece, _ in single
    ]
    return {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": ids}


def sentencepiece():
    """BPE as Llama-2 and Mistral have it: no pre-tokenizer, bytes for what is not in the vocabulary."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *ALPHABET]
    merges = chains(["▁the", "▁hello", "▁world", "and", "ll", "▁▁"])
    model = bpe(pieces, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    special = [added(n, pieces[n], special=True) for n in range(3)]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return {
        "added_tokens": special,
        "normalizer": sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace),
        "post_processor": template(("<s>", 1), ("A", 0)),
        "decoder": sequence("decoders", back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip),
        "model": model,
    }


def with_string_merges(tokenizer):
    model = tokenizer["model"]
    model["merges"] = [" ".join(pair) for pair in model["merges"]]
    return tokenizer


def fused_unknown(fuse):
    model = bpe(["<?>", *"abc", "ab"], [("a", "b")], unk_token="<?>", fuse_unk=fuse)
    return {"model": model, "pre_tokenizer": {"type": "WhitespaceSplit"}}


def normalizers():
    plain = {name: {"type": name} for name in ["NFC", "NFKC", "NFKD", "Lowercase"]}
    plain["StripAccents"] = sequence("normalizers", {"type": "NFD"}, {"type": "StripAccents"})
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    replace = {"type": "Replace", "pattern": {"Regex": r"\s{2,}"}, "content": " "}
    plain["Strip"] = sequence("normalizers", strip, replace)
    for name, spec in plain.items():
        bytes_too = sequence("normalizers", spec, {"type": "ByteLevel"})
        yield f"normalizer_{name}", {
            "normalizer": bytes_too,
            "decoder": byte_level(),
            "model": byte_bpe(),
        }


def splits():
    for behavior in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        yield f"split_{behavior}", show_splits(pre_tokenizer=split(r"[.,!?]", behavior))
        yield f"split_{behavior}_inverted", show_splits(
            pre_tokenizer=split(r"\w+|\s", behavior, invert=True)
        )
    yield "split_string", show_splits(pre_tokenizer=split(".", "Removed", kind="String"))
    for name in ["Whitespace", "WhitespaceSplit", "BertPreTokenizer"]:
        yield f"pre_{name}", show_splits(pre_tokenizer={"type": name})
    yield "pre_Punctuation", show_splits(
        pre_tokenizer={"type": "Punctuation", "behavior": "Contiguous"}
    )
    for alone in [False, True]:
        yield f"pre_Digits_{alone}", show_splits(
            pre_tokenizer={"type": "Digits", "individual_digits": alone}
        )
    yield "pre_CharDelimiterSplit", show_splits(
        pre_tokenizer={"type": "CharDelimiterSplit", "delimiter": "-"}
    )
    for scheme in ["always", "first", "never"]:
        yield f"metaspace_{scheme}", {
            **show_splits(pre_tokenizer=metaspace(scheme, scheme != "never")),
            "added_tokens": [added(len(ALPHABET) * 2 + 1, "<b>", special=True)],
            "decoder": metaspace(scheme),
        }


def zoo():
    words = ["\n", "key", "value", "A", "B", "Answer", "the", "hello", "world", ":", ".", ",", "1"]
    return word_level(words, pre_tokenizer=split(r"\n|\w+|[^\w\s]", "Removed", invert=True))


def added_tokens():
    base = byte_bpe(WORDS)
    size = len(base["vocab"])
    flags = [
        ("<|end|>", {"special": True}),
        ("<mask>", {"special": True, "lstrip": True}),
        ("<sep>", {"special": True, "rstrip": True}),
        ("her", {"single_word": True}),
        ("WORLD", {"normalized": True}),
        ("Émile", {"normalized": True, "single_word": True, "lstrip": True, "rstrip": True}),
        ("  ", {}),
        ("   ", {}),
        ("hello", {"special": True}),  # in the model's vocabulary already
    ]
    free = iter(range(size, size + len(flags)))
    ids = [base["vocab"].get(text) or next(free) for text, _ in flags]
    return {
        "added_tokens": [added(n, text, **kinds) for n, (text, kinds) in zip(ids, flags)],
        "normalizer": sequence("normalizers", {"type": "NFC"}, {"type": "Lowercase"}),
        "pre_tokenizer": byte_level(add_prefix_space=True),
        "post_processor": sequence(
            "processors", byte_level(), template(("A", 0), ("<|end|>", size))
        ),
        "decoder": byte_level(),
        "model": base,
    }


TOKENIZERS = {
    "zoo": zoo(),
    "word_level": word_level(
        ["hello", "world", "the", "[CLS]", "[SEP]", ".", "don", "'", "t"],
        normalizer={"type": "Lowercase"},
        pre_tokenizer={"type": "Whitespace"},
        post_processor={"type": "BertProcessing", "sep": ["[SEP]", 5], "cls": ["[CLS]", 4]},
    ),
    "gpt2": with_string_merges(
        {"model": byte_bpe(WORDS), "pre_tokenizer": byte_level(), "decoder": byte_level()}
    ),
    "llama3": {
        "model": byte_bpe([*WORDS, "ther", "xyz"][::-1], ignore_merges=True),
        "pre_tokenizer": sequence("pretokenizers", split(LLAMA3), byte_level(use_regex=False)),
        "post_processor": sequence("processors", byte_level(), template(("in", 300), ("A", 0))),
        "decoder": byte_level(),
    },
    "falcon": {
        "model": byte_bpe(WORDS),
        "pre_tokenizer": sequence(
            "pretokenizers",
            {"type": "Punctuation", "behavior": "Contiguous"},
            byte_level(),
            {"type": "Digits", "individual_digits": False},
            split("[0-9][0-9][0-9]"),
        ),
        "decoder": byte_level(),
    },
    "sentencepiece": sentencepiece(),
    "subword_prefix": {
        "model": bpe(
            ["<?>", *"abcdehlo", *("##" + c for c in "abcdehlo")],
            [("h", "##e"), ("##l", "##l"), ("he", "##ll")],
            continuing_subword_prefix="##",
            unk_token="<?>",
        ),
        "pre_tokenizer": {"type": "WhitespaceSplit"},
    },
    "unknown_fused": fused_unknown(True),
    "unknown_apart": fused_unknown(False),
    "added_tokens": added_tokens(),
    **dict(normalizers()),
    **dict(splits()),
}
PARTS = ["added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"]
for _tokenizer in TOKENIZERS.values():
    _tokenizer["version"] = "1.0"
    for _part in PARTS:
        _tokenizer.setdefault(_part, [] if _part == "added_tokens" else None)

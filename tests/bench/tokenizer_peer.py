#!/usr/bin/env python3
"""Megabytes a CPU second of our tokenizer and of the peer (Hugging Face's `tokenizers`, for a .model
file `sentencepiece`), one thread each, on the same pieces of the same text:
tokenizer_peer.py TOKENIZER_BENCH TEXT TOKENIZER.json|SENTENCEPIECE.model...
Needs those Python packages; fails where the two give another number of tokens."""

import os
import pathlib
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers

PIECE = 4096


def pieces_of(path):
    data = pathlib.Path(path).read_bytes()
    begin = 0
    while begin < len(data):
        line = data.find(b"\n", min(len(data), begin + PIECE))
        end = len(data) if line < 0 else line + 1
        yield data[begin:end].decode("utf-8")
        begin = end


def peer(path, pieces):
    if path.endswith(".model"):
        import sentencepiece

        encode = sentencepiece.SentencePieceProcessor(model_file=path).encode
    else:
        tokenizer = tokenizers.Tokenizer.from_file(path)
        encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids  # noqa: E731
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        tokens = sum(len(encode(p)) for p in pieces)
        best = min(best, time.process_time() - start)
    return tokens, best


def main():
    bench, text, *paths = sys.argv[1:]
    pieces = list(pieces_of(text))
    size = sum(len(p.encode("utf-8")) for p in pieces)
    print(f"| tokenizer | tokens | headlens MB/s, first pass | peer MB/s (tokenizers "
          f"{tokenizers.__version__}) | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for path in paths:
        ours = subprocess.run([bench, path, text], check=True, capture_output=True, text=True)
        bytes_, tokens, rate, first = ours.stdout.split()
        theirs, seconds = peer(path, pieces)
        if int(bytes_) != size or int(tokens) != theirs:
            sys.exit(f"{path}: expected {theirs} tokens of {size} bytes, got {tokens} of {bytes_}")
        their_rate = size / seconds / 1e6
        name = pathlib.Path(path)
        print(f"| {name.parent.name}/{name.name} | {tokens} | {float(rate):.1f}, {float(first):.1f} | {their_rate:.1f} "
              f"| {float(rate) / their_rate:.1f} |")


if __name__ == "__main__":
    main()

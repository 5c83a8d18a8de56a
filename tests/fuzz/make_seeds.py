#!/usr/bin/env python3
# tests/fuzz: the inputs that fuzzing begins with, a folder a target, made from the goldens.
"""make_seeds.py OUT: writes OUT/TARGET/NAME, and OUT/TARGET.dict. Small files only: an input of a few hundred bytes is
mutated a hundred times as often as one of a hundred thousand. Python 3.9, nothing else."""

import base64
import hashlib
import io
import json
import struct
import sys
import zipfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
GOLDEN = TESTS / "golden"


class Seeds:
    def __init__(self, out):
        self.out = Path(out)

    def add(self, target, data, limit=16384):
        data = data.encode() if isinstance(data, str) else data
        folder = self.out / target
        folder.mkdir(parents=True, exist_ok=True)
        if len(data) <= limit:
            (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def safetensors(tensors, metadata=None, pad=0):
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text + data


def npy(dtype, shape, values, fortran=False, version=1):
    text = f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + values


def npz(arrays, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(name + ".npy"), array, method)
    return out.getvalue()


def add_npz(seeds):
    for dtype, width in [("<f8", 8), ("<f4", 4), ("<f2", 2), ("<i8", 8), ("<i4", 4), ("<i2", 2), ("|i1", 1), ("|u1", 1), ("|b1", 1)]:
        seeds.add("npz", npy(dtype, (2, 1), b"\0\1" * width))
    for version in (2, 3):
        seeds.add("npz", npy("|u1", (2, 3), bytes(6), fortran=True, version=version))
    seeds.add("npz", npy("<f4", (), bytes(4)))
    seeds.add("npz", npy("<f4", (0, 3), b""))
    seeds.add("npz", npz({"a": npy("<f4", (1,), bytes(4)), "b/c": npy("|u1", (2, 2), bytes(4), fortran=True)}))
    seeds.add("npz", npz({"a": npy("<f4", (4,), bytes(16))}, zipfile.ZIP_DEFLATED))
    seeds.add("npz", npz({}))


def add_weights(seeds):
    four = bytes(range(4))
    for dtype, width in [("F32", 4), ("BF16", 2), ("F16", 2), ("F64", 8), ("I64", 8), ("I32", 4), ("I16", 2), ("I8", 1),
                         ("U8", 1), ("BOOL", 1)]:
        seeds.add("safetensors", safetensors({"a": (dtype, [2, 1], b"\0\1" * width)}))
    seeds.add("safetensors", safetensors({"a": ("U8", [4], four), "b": ("F32", [1], four)}, {"format": "pt"}))
    seeds.add("safetensors", safetensors({"a": ("F32", [0, 3], b""), "b": ("F32", [], four)}, pad=5))
    seeds.add("safetensors", safetensors({"a": ("U8", [1], b"a"), "b": ("F32", [1], four)}))  # b is not aligned
    seeds.add("safetensors", safetensors({}))
    for weight_map in [{"a": "a.safetensors", "b": "sub/b.safetensors"}, {"a": "a.safetensors"},
                       {"outside": "../outside.safetensors"}, {"outside": "sub/../../outside.safetensors"},
                       {"outside": "/dev/shm/outside.safetensors"}, {"b": "./sub//b.safetensors"},
                       {"outside": "..\0"}, {"a": "a.safetensors\0.bin"}]:
        seeds.add("index", json.dumps({"metadata": {"total_size": 2}, "weight_map": weight_map}))
    for path in sorted((TESTS / "core" / "torch_files").glob("*.bin")):
        seeds.add("torch_file", path.read_bytes())
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith("data.pkl"):
                        seeds.add("pickle", archive.read(name))
    for i in range(40):
        seeds.add("written", hashlib.sha512(bytes([i])).digest() * (1 + i % 3))
    seeds.add("written", bytes([2, 1]) + b"a" + bytes([0, 2, 2, 2]) + four * 4 + bytes([2]) + b"bc" + bytes([9, 1, 3]) + b"\0\1\1")


def add_configs(seeds):
    for path in sorted(GOLDEN.glob("*/config.json")):
        config = json.loads(path.read_text())
        seeds.add("config", json.dumps(config, separators=(",", ":")))


def varint(value):
    out = b""
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, value):
    """A field of a protobuf message: a number, a float or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def sentencepiece(kind, pieces, byte_fallback=False, char_map=b"", trainer=b""):
    """A ModelProto of a few pieces; `kind` 1 unigram, 2 BPE, 3 words, 4 characters."""
    out = b""
    for piece, score, sort in pieces:
        out += field(1, field(1, piece.encode()) + field(2, score) + field(3, sort))
    out += field(2, field(3, kind) + (field(35, 1) if byte_fallback else b"") + trainer)
    return out + field(3, field(1, b"identity") + (field(2, char_map) if char_map else b""))


def add_tokenizers(seeds):
    for path in sorted((GOLDEN / "tokenizers").glob("*.json")):
        if path.name in ("expected.json", "regexes.json", "zoo.json"):
            continue
        text = json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":"))
        seeds.add("tokenizer_json", text, limit=2500)
        seeds.add("tokenizer_json", text + "\0It's a  test\u00e9\u0301 12", limit=2500)
    for part in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "ByteLevel"]:
        seeds.add("tokenizer_json", word_level({"normalizer": {"type": part}}))
    for normalizer in [{"type": "Prepend", "prepend": "_"}, {"type": "Strip", "strip_left": True, "strip_right": True},
                       {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"}]:
        seeds.add("tokenizer_json", word_level({"normalizer": {"type": "Sequence", "normalizers": [normalizer]}}))
    for part in ["Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Punctuation"]:
        seeds.add("tokenizer_json", word_level({"pre_tokenizer": {"type": part}}))
    for kind in ["ByteLevel", "ByteFallback", "Fuse", "Metaspace"]:
        decoder = {"type": kind, "replacement": "\u2581"} if kind == "Metaspace" else {"type": kind}
        seeds.add("tokenizer_json", word_level({"decoder": {"type": "Sequence", "decoders": [decoder]}}))
    seeds.add("tokenizer_json", word_level({"post_processor": {
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
        "special_tokens": {"<s>": {"ids": [1]}}}}))
    for path in sorted((GOLDEN / "tokenizers" / "models").glob("*/tokenizer.model")):
        if "tiktoken" not in path.parent.name:
            seeds.add("sentencepiece", path.read_bytes())
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    words = [("\u2581", -1.0, 1), ("a", -2.0, 1), ("\u2581a", -1.5, 1), ("b", -3.0, 4), ("l", -2.5, 1), ("ll", -2.6, 1)]
    for kind in (1, 2, 3, 4):
        seeds.add("sentencepiece", sentencepiece(kind, pieces + words))
    byte_pieces = [(f"<0x{i:02X}>", 0.0, 6) for i in range(256)]
    seeds.add("sentencepiece", sentencepiece(2, pieces + byte_pieces + words, byte_fallback=True))
    lines = [f"{base64.b64encode(token.encode()).decode()} {256 + i}\n" for i, token in enumerate(["He", "ll", "Hell", " w"])]
    for i in range(len(lines) + 1):
        seeds.add("tiktoken", "".join(lines[:i]))
    seeds.add("tiktoken", "!" + lines[0])
    regexes = json.loads((GOLDEN / "tokenizers" / "regexes.json").read_text())
    for entry in regexes["patterns"]:
        seeds.add("regex", entry["pattern"] + "\0It's  12 aab\n")
    for pattern in ["(a+)+$", "(?<=a)b", "(?i)x|y", "[[:alpha:]&&[^a]]", "(a{1,9}){2}", "\\b\\w+\\b", "(?<n>a)\\k<n>"]:
        seeds.add("regex", pattern + "\0aaab aab")
    for i in range(15):
        seeds.add("text", bytes([i]) + "Hello  w\u00f6rld, it's 12\n<s>\u2581x".encode())
        seeds.add("text", bytes([i]) + bytes(range(65, 81)) + b"\x05\0\0\0\0\0\0\0")


def word_level(parts):
    base = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "<unk>": 1}, "unk_token": "<unk>"}}
    return json.dumps({**base, **parts})


def add_texts(seeds):
    chat = json.loads((GOLDEN / "chat" / "expected.json").read_text())
    for case in chat["cases"].values():
        template = case["template"]
        for messages in chat["messages"][:3]:
            turns = [part for m in messages for part in (m["role"], m["content"])]
            seeds.add("chat", "\0".join([template, "<bos>", "<eos>", *turns]))
        seeds.add("chat", json.dumps({"chat_template": template, "bos_token": {"content": "<s>"}, "eos_token": "</s>"}))
        seeds.add("chat", json.dumps({"chat_template": [{"name": "default", "template": template}]}))
    example = {"prompt": "a b", "choices": [" x", " y"], "answer": 1}
    full = {**example, "segments": [[0, 1]], "choice_leads": ["", "z"], "choice_lengths": [1, 2], "corrupted": "a c",
            "corrupted_answer": 0}
    for lines in [[example], [full], [example, full], [{**example, "ansewr": 2}]]:
        seeds.add("jsonl", "\n".join(json.dumps(line) for line in lines))
    seeds.add("jsonl", 'question,A,B,C,D,B\n"a ""b"", c",1,2,3,4,A\n')
    for question in [
        {"question": {"stem": "q", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]}, "answerKey": "A"},
        {"question": "q", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"},
        {"question_stem": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"},
        {"query": "q", "choices": ["a", "b"], "gold": 0}, {"goal": "g", "sol1": "a", "sol2": "b", "label": 1},
        {"activity_label": "x", "ctx_a": "a", "ctx_b": "b", "endings": ["c", "d [title] e"], "label": "1"},
        {"sentence": "the _ is", "option1": "a", "option2": "b", "answer": "1"}]:
        seeds.add("questions", json.dumps(question))
    header = json.dumps({"identity": {"model": "m"}, "notes": {"started": "now"}})
    for records in ["", "\0value", "\0value\0another"]:
        seeds.add("journal", header + records)
    seeds.add("journal", "headlens.journal/1\n" + "\0" * 12)


# Words that the fuzzer may put in, beside the keys and short strings of a target's seeds.
JSON_WORDS = ["{}", "[]", "null", "true", "false", "NaN", "Infinity", "-1", "0", "1e308", "2147483648", "4294967296",
              "9223372036854775807", "18446744073709551615", '{"__float__": "Infinity"}', "\\ud800", '":', '",']
WORDS = {
    "safetensors": JSON_WORDS + ["dtype", "shape", "data_offsets", "__metadata__", "F8_E4M3"],
    "index": JSON_WORDS + ["weight_map", "../", "..", "./", "/", "sub/", "outside.safetensors", "\\u0000"],
    "torch_file": ["PK\x01\x02", "PK\x03\x04", "PK\x05\x06", "PK\x06\x06", "PK\x06\x07", "archive/data.pkl", "data/0", "little"],
    "npz": ["PK\x01\x02", "PK\x03\x04", "PK\x05\x06", "\x93NUMPY", "'descr': '", "'fortran_order': True,", "'shape': (", "<f4", "|u1",
            "9223372036854775807", "4611686018427387904", "-1", "0, "],
    "pickle": ["ctorch._utils\n_rebuild_tensor_v2\n", "ctorch\nFloatStorage\n", "ccollections\nOrderedDict\n",
               "ctorch._utils\n_rebuild_parameter\n", "storage", "cpu", "\x85", "\x86", "\x87", "\x94", "\x93", "\x8c"],
    "regex": ["(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i)", "(?i:", "(?#", "(*", "[[:alpha:]]", "&&", "[^", "\\p{L}", "\\P{N}",
              "\\p{^Lu}", "\\s", "\\S", "\\w", "\\b", "\\B", "\\h", "\\R", "\\A", "\\z", "\\x{10FFFF}", "\\u00e9", "{1,3}",
              "{2}+", "*?", "++", "\\1", "\\k<n>", "(?<n>"],
    "chat": JSON_WORDS + ["user", "assistant", "system", "<think>", "</think>", "<tool_response>", "\x00", "chat_template"],
    "text": ["<s>", "</s>", "<0x41>", "<|eot_id|>", "\u2581", "\u0130", "e\u0301", "\ufdfa", "\U0001f600", "\u200d", "\r\n"],
    "journal": JSON_WORDS + ["identity", "notes", "\x00"],
}


def strings_in(value, found):
    if isinstance(value, dict):
        found.update(value)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
        if isinstance(item, (dict, list)):
            strings_in(item, found)
        elif isinstance(item, str):
            found.add(item)


def write_dictionary(folder):
    words = set(WORDS.get(folder.name, JSON_WORDS))
    for path in folder.iterdir():
        try:
            strings_in(json.loads(path.read_bytes().split(b"\0")[0]), words)
        except ValueError:
            continue
    encoded = sorted({word.encode("latin-1" if max(word) < "\u0100" else "utf-8") for word in words if 0 < len(word) < 40})
    lines = ['"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in encoded]
    folder.with_suffix(".dict").write_text("\n".join(lines[:600]) + "\n")


def main():
    seeds = Seeds(sys.argv[1])
    for add in (add_weights, add_npz, add_configs, add_tokenizers, add_texts):
        add(seeds)
    for folder in sorted(p for p in seeds.out.iterdir() if p.is_dir()):
        write_dictionary(folder)
        sizes = [p.stat().st_size for p in folder.iterdir()]
        print(f"{folder.name}: {len(sizes)} seeds, {sum(sizes)} bytes")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A checkpoint of Llama-3.1-8B's shape for load_bench, and how transformers loads it:
load_peer.py write DIR [--layers 32] [--scale 1]   random bfloat16 bytes, 16 GB in four shards with an index
load_peer.py load DIR [--device cuda]              one from_pretrained; prints the line that load_bench prints
`write` needs nothing but Python, `load` torch, transformers and accelerate. --layers 2 --scale 0.05 makes a toy."""

import argparse
import json
import os
import pathlib
import struct
import time


def tensors(config):
    """(name, shape) in the order of the published shards."""
    width, mlp, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    yield "model.embed_tokens.weight", (vocab, width)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", (width,)
        yield layer + "mlp.down_proj.weight", (width, mlp)
        yield layer + "mlp.gate_proj.weight", (mlp, width)
        yield layer + "mlp.up_proj.weight", (mlp, width)
        yield layer + "post_attention_layernorm.weight", (width,)
        yield layer + "self_attn.k_proj.weight", (keys, width)
        yield layer + "self_attn.o_proj.weight", (width, queries)
        yield layer + "self_attn.q_proj.weight", (queries, width)
        yield layer + "self_attn.v_proj.weight", (keys, width)
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (vocab, width)


def llama_8b(layers, scale):
    scaled = lambda whole, least: max(least, int(whole * scale))
    kv_heads, d_head = scaled(8, 1), 2 * scaled(64, 8)
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": scaled(128256, 128),
        "hidden_size": 4 * kv_heads * d_head, "intermediate_size": scaled(14336, 32), "num_hidden_layers": layers,
        "num_attention_heads": 4 * kv_heads, "num_key_value_heads": kv_heads, "head_dim": d_head,
        "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 131072,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192},
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "bos_token_id": 0, "eos_token_id": 0}


def size_of(shape):
    size = 2
    for n in shape:
        size *= n
    return size


def write_shard(path, members):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in members:
        end = offset + size_of(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Of each pair of bytes the upper gets the exponent of a small number: finite in bfloat16.
    block = bytearray(os.urandom(1 << 24))
    block[1::2] = bytes(0x3C | (b & 0x81) for b in block[1::2])
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        while offset > 0:
            file.write(block[:min(offset, len(block))])
            offset -= min(offset, len(block))


def write(args):
    config = llama_8b(args.layers, args.scale)
    members = list(tensors(config))
    total = sum(size_of(shape) for _, shape in members)
    args.dir.mkdir(parents=True, exist_ok=True)
    (args.dir / "config.json").write_text(json.dumps(config, indent=2))
    count = 4
    shards, held = [[] for _ in range(count)], 0
    for name, shape in members:
        shards[min(count - 1, held * count // total)].append((name, shape))
        held += size_of(shape)
    weight_map = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        write_shard(args.dir / file, shard)
        weight_map.update({name: file for name, _ in shard})
    (args.dir / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2))
    print(f"{args.dir}: {total * 1e-9:.2f} GB in {count} shards")


def status_bytes(field):
    for line in open("/proc/self/status", encoding="ascii"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def load(args):
    import torch
    import transformers
    transformers.logging.disable_progress_bar()
    torch.ones(1024, 1024, device=args.device).sum().item()
    transformers.LlamaForCausalLM  # imported lazily, not to be timed
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    resident, own = status_bytes("VmRSS"), status_bytes("RssAnon")
    start = time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(args.dir, dtype=torch.bfloat16,
                                                              device_map=args.device)
    if args.device != "cpu":
        torch.cuda.synchronize()
    took = time.perf_counter() - start
    size = sum(p.numel() * p.element_size() for p in model.parameters()) * 1e-9
    print(f"| {'transformers':<12} | {took:7.2f} | {size:6.2f} | {size / took:6.2f} | "
          f"{(status_bytes('VmHWM') - resident) * 1e-9:6.2f} | {(status_bytes('RssAnon') - own) * 1e-9:6.2f} |",
          flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("write", "load"))
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--scale", type=float, default=1)
    args = parser.parse_args()
    (write if args.what == "write" else load)(args)


if __name__ == "__main__":
    main()

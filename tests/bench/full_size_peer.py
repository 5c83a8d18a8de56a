#!/usr/bin/env python3
"""A random checkpoint of Llama-3.1-8B's shape, what transformers makes of it, and how long its forwards take:
full_size_peer.py DIR [--device cuda] [--scale 1]
Writes DIR as a Hugging Face directory in bfloat16 (16 GB), with a small byte-level tokenizer and golden.safetensors: logits
and residuals of one prompt in float32, for `headlens verify`. Prints transformers' forwards as full_size_bench prints ours.
Needs the Python packages torch and transformers. --scale 0.03 makes a toy of the same make-up."""

import argparse
import pathlib
import shutil
import statistics
import time

import safetensors.torch
import torch
import transformers

TOKENIZER = pathlib.Path(__file__).resolve().parents[1] / "golden" / "tokenizers" / "llama3.json"


def llama_8b(scale):
    scaled = lambda whole, least: max(least, int(whole * scale))
    kv_heads, d_head = scaled(8, 1), 2 * scaled(64, 8)
    return transformers.LlamaConfig(
        vocab_size=scaled(128256, 1024), hidden_size=4 * kv_heads * d_head, intermediate_size=scaled(14336, 32),
        num_hidden_layers=scaled(32, 4), num_attention_heads=4 * kv_heads, num_key_value_heads=kv_heads,
        head_dim=d_head, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
        rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        max_position_embeddings=131072)


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def time_forward(model, ids, device):
    """Median milliseconds of five forwards after one that is not counted."""
    times = []
    for _ in range(6):
        wait(device)
        start = time.perf_counter()
        model(ids, use_cache=False)
        wait(device)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def print_forwards(model, device, scale):
    print("| transformers (sdpa)                          |         ms | peak GiB |\n| --- | --- | --- |")
    for full in (512, 2048, 8192):
        pos = max(16, int(full * scale))
        ids = torch.randint(model.config.vocab_size, (1, pos), device=device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        ms = time_forward(model, ids, device)
        peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if device == "cuda" else "-"
        print(f"| {f'forward 1 x {pos}':<44} | {ms:10.2f} | {peak:>8} |", flush=True)


def write_golden(model, path, device):
    """Residuals after the first and the middle layer, and logits, in float32 on the same device."""
    layers = model.config.num_hidden_layers
    ids = torch.randint(model.config.vocab_size, (1, 64), device=device)
    out = model.float()(ids, use_cache=False, output_hidden_states=True)
    tensors = {"input_ids": ids, "logits": out.logits}
    for layer in (0, layers // 2):
        tensors[f"blocks.{layer}.hook_resid_post"] = out.hidden_states[layer + 1]
    safetensors.torch.save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", type=float, default=1)
    args = parser.parse_args()
    torch.manual_seed(1)
    with torch.no_grad(), torch.device(args.device):
        model = transformers.AutoModelForCausalLM.from_config(llama_8b(args.scale), dtype=torch.bfloat16).eval()
        print_forwards(model, args.device, args.scale)
        start = time.perf_counter()
        model.save_pretrained(args.dir, max_shard_size="5GB")
        print(f"checkpoint written in {time.perf_counter() - start:.0f} s", flush=True)
        shutil.copy(TOKENIZER, args.dir / "tokenizer.json")
        write_golden(model, args.dir / "golden.safetensors", args.device)


if __name__ == "__main__":
    main()

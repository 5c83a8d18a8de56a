#!/usr/bin/env python3
"""The plain loop that sweep_bench's CPU row is held to: every head of a Llama checkpoint zeroed in turn, one whole forward
of every batch each, in Python torch. sweep_peer.py CHECKPOINT BATCHES.json [--all-logits], with BATCHES.json from
`sweep_bench --only zoo --dump BATCHES.json`. Threads: OMP_NUM_THREADS. Needs the Python packages torch and safetensors.
Logits are made at the judged positions only, which a plain loop seldom does; --all-logits makes them everywhere."""

import argparse
import json
import pathlib
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


class Llama:
    def __init__(self, directory):
        self.config = json.loads((directory / "config.json").read_text())
        self.weights = load_file(directory / "model.safetensors")
        c = self.config
        self.heads, self.kv_heads, self.d_head = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        self.layers = c["num_hidden_layers"]

    def linear(self, x, name):
        return F.linear(x, self.weights[name + ".weight"])

    def norm(self, x, name):
        return F.rms_norm(x, x.shape[-1:], self.weights[name + ".weight"], self.config["rms_norm_eps"])

    def rotate(self, x, cos, sin):
        half = x.shape[-1] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * cos + turned * sin

    def forward(self, ids, positions, cut=None, all_logits=False):
        """Logits at positions [row, n], with head `cut` = (layer, head) zeroed at the input of o_proj."""
        rows, pos = ids.shape
        frequencies = self.config["rope_theta"] ** (-torch.arange(0, self.d_head, 2) / self.d_head)
        angles = torch.arange(pos)[:, None] * torch.cat([frequencies, frequencies])
        cos, sin = angles.cos(), angles.sin()
        x = F.embedding(ids, self.weights["model.embed_tokens.weight"])
        for i in range(self.layers):
            at = f"model.layers.{i}."
            h = self.norm(x, at + "input_layernorm")
            split = lambda name, n: self.linear(h, at + "self_attn." + name).view(rows, pos, n, self.d_head).transpose(1, 2)
            q, k, v = split("q_proj", self.heads), split("k_proj", self.kv_heads), split("v_proj", self.kv_heads)
            q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
            z = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)
            if cut and cut[0] == i:
                z = z.clone()
                z[:, :, cut[1]] = 0
            x = x + self.linear(z.flatten(2), at + "self_attn.o_proj")
            h = self.norm(x, at + "post_attention_layernorm")
            gate = F.silu(self.linear(h, at + "mlp.gate_proj")) * self.linear(h, at + "mlp.up_proj")
            x = x + self.linear(gate, at + "mlp.down_proj")
        place = positions[:, :, None].expand(-1, -1, x.shape[-1])
        head = lambda x: self.linear(self.norm(x, "model.norm"), "lm_head")
        if not all_logits:
            return head(x.gather(1, place))
        logits = head(x)
        return logits.gather(1, positions[:, :, None].expand(-1, -1, logits.shape[-1]))


def judge(logits, batch):
    """(right or not, log-probability of the right choice) of each example of a batch."""
    row, slot, token = batch["picks"]
    picked = logits.double().log_softmax(-1)[row, slot, token].tolist()
    out = []
    for begin, counts, answer in batch["choices"]:
        scores = []
        for count in counts:
            scores.append(sum(picked[begin:begin + count]))
            begin += count
        out.append((scores.index(max(scores)) == answer, scores[answer]))
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("batches", type=pathlib.Path)
    parser.add_argument("--all-logits", action="store_true")
    args = parser.parse_args()
    model = Llama(args.checkpoint)
    batches = json.loads(args.batches.read_text())
    for batch in batches:
        for name in ("ids", "positions", "picks"):
            batch[name] = torch.tensor(batch[name])
        batch["picks"] = tuple(batch["picks"])
    with torch.inference_mode():
        def run(cut):
            verdicts = []
            for batch in batches:
                verdicts += judge(model.forward(batch["ids"], batch["positions"], cut, args.all_logits), batch)
            right, logprob = zip(*verdicts)
            return sum(right) / len(right), sum(logprob) / len(logprob)

        run(None)  # warm
        start, cpu = time.perf_counter(), time.process_time()
        results = {(layer, head): run((layer, head)) for layer in range(model.layers) for head in range(model.heads)}
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    for (layer, head), (accuracy, logprob) in results.items():
        print(f"  {layer}.{head} accuracy {accuracy:.4f} mean log-probability {logprob:.5f}")
    print(f"plain loop: {1e3 * seconds:8.1f} ms, {1e3 * cpu:8.1f} of CPU, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()

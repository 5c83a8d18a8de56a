#!/usr/bin/env python3
# tests/acceptance: small random models of other people's making, with tokenizers and a task, for check_find.py.
"""Writes DIR/<family>/ (a Hugging Face directory saved by transformers) for six families, with weights wide enough that
choices differ, a byte-level BPE or a word tokenizer each, and DIR/<family>/task.jsonl: prompts of unequal length, choices
of several tokens, segments.

    python make_held_out_models.py DIR
    headlens find DIR/llama --task jsonl:DIR/llama/task.jsonl --out DIR/llama/out
    python check_find.py DIR/llama DIR/llama/task.jsonl DIR/llama/out/scores.json
"""
import json
import random
import sys
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

WORDS = (
    "river stone lamp green seven apple north winter paper glass copper violin harbour sugar velvet thunder "
    "ladder pepper candle silver meadow basket anchor needle walnut feather"
).split()
SIZES = {"hidden_size": 48, "num_hidden_layers": 3}
ATTENTION = {"num_attention_heads": 6, "num_key_value_heads": 2}


def llama(vocab):
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SIZES, **ATTENTION, vocab_size=vocab, intermediate_size=80, head_dim=12)
    )


def mamba(vocab):
    return transformers.MambaForCausalLM(transformers.MambaConfig(**SIZES, vocab_size=vocab, state_size=6))


def falcon_mamba(vocab):
    config = transformers.FalconMambaConfig(**SIZES, vocab_size=vocab, state_size=5, intermediate_size=72)
    return transformers.FalconMambaForCausalLM(config)


def mamba2(vocab):
    config = transformers.Mamba2Config(
        **SIZES, vocab_size=vocab, state_size=8, num_heads=6, head_dim=16, n_groups=2, chunk_size=8
    )
    return transformers.Mamba2ForCausalLM(config)


def bamba(vocab):
    config = transformers.BambaConfig(
        **SIZES, **ATTENTION, vocab_size=vocab, intermediate_size=64, attn_layer_indices=[1], mamba_n_heads=6,
        mamba_d_head=16, mamba_n_groups=1, mamba_d_state=8, mamba_expand=2, mamba_chunk_size=8,
    )  # fmt: skip
    return transformers.BambaForCausalLM(config)


def nemotron_h(vocab):
    config = transformers.NemotronHConfig(
        hidden_size=48, vocab_size=vocab, intermediate_size=64, **ATTENTION, head_dim=12, mamba_num_heads=6,
        mamba_head_dim=16, n_groups=2, ssm_state_size=8, chunk_size=8,
        layers_block_type=["mamba", "mlp", "attention", "mamba", "mlp"],
    )  # fmt: skip
    return transformers.NemotronHForCausalLM(config)


FAMILIES = {f.__name__: f for f in (llama, mamba, falcon_mamba, mamba2, bamba, nemotron_h)}


def widen(model, seed):
    """Matrices of gain 1.5, so that every layer moves the residual and choices lie apart."""
    generator = torch.Generator().manual_seed(seed)
    noise = lambda p: torch.randn(p.shape, generator=generator)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("A_log"):
                p.add_(0.3 * noise(p))
            elif "embed" in name or name == "lm_head.weight":
                p.copy_(noise(p) * (1 if "embed" in name else 0.6))
            elif p.dim() >= 2:
                p.copy_(1.5 * noise(p) / p[0].numel() ** 0.5)
            elif "dt_bias" in name or "dt_proj" in name:
                p.add_(0.5 * noise(p))
            elif "norm" in name or name.endswith("D"):
                p.copy_(1 + 0.3 * noise(p))
            else:
                p.copy_(0.1 * noise(p))
    return model.eval()


def bpe():
    """Byte-level BPE; its words share pieces, so choices have one to several tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([f" {a} {b}: {a}\n" for a in WORDS[::2] for b in WORDS[::3]], trainer)
    return tokenizer


def word_level():
    """A word or a sign a token; some words of the task are unknown to it."""
    vocabulary = ["<unk>", "<eos>", ":", "?", ".", ",", "\n", "A", "B", "C", "D", "is", "the", "Which"] + WORDS[:20]
    tokenizer = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Punctuation()]
    )
    return tokenizer


def question(rng, tokenizer, index):
    """Lines 'word: word' and a question; the choices are values of one to three words."""
    count = rng.randint(2, 6)
    keys = rng.sample(WORDS, count)
    values = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 3))) for _ in range(count)]
    prompt, segments = "Which\n" if index % 3 else "", []
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    for key, value in zip(keys, values):
        start = len(encode(prompt)) if prompt else 0
        prompt += f"{key}: {value}\n"
        segments.append([start, len(encode(prompt)) - 1])
    answer = rng.randrange(count)
    prompt += f"{keys[answer]}:"
    line = {"prompt": prompt, "choices": [" " + v for v in values], "answer": answer}
    if index % 10:  # some examples have no segments
        line["segments"] = segments
    return line


def write(family, out, seed):
    tokenizer = bpe() if seed % 2 == 0 else word_level()
    model = widen(FAMILIES[family](tokenizer.get_vocab_size() + 3), seed)  # padded embedding rows
    model.save_pretrained(out)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(out)
    rng = random.Random(seed)
    lines = [question(rng, tokenizer, i) for i in range(60)]
    (out / "task.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def main():
    torch.manual_seed(0)
    for seed, family in enumerate(FAMILIES):
        write(family, Path(sys.argv[1]) / family, seed)


if __name__ == "__main__":
    main()

# tests/acceptance: seeded random configs of every family, odd on purpose.
"""Each function draws the keyword arguments of one family's transformers config: sizes that share no
factor, any ratio of heads, biases, every kind of rotary positions, windows, groups, multipliers."""

import transformers

COMMON = {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}


def maybe(rng, value, chance=0.5):
    return value if rng.random() < chance else None


def coin(rng):
    return rng.random() < 0.5


def eps(rng):
    return rng.choice([1e-6, 1e-5, 1e-4, 1e-3])


def drop_none(config):
    return {key: value for key, value in config.items() if value is not None}


def scaled_rope(rng, kind, freqs, longest):
    """What a kind of rotary positions needs besides its name and theta."""
    original = rng.choice([8, 24, 48, 256])
    if kind == "linear":
        return {"factor": rng.uniform(1, 6)}
    if kind == "dynamic":
        return {"factor": rng.uniform(1, 6)}
    if kind == "llama3":
        low = rng.uniform(0.5, 2)
        return {
            "factor": rng.uniform(2, 8),
            "low_freq_factor": low,
            "high_freq_factor": low + rng.uniform(0.5, 4),
            "original_max_position_embeddings": original,
        }
    if kind == "yarn":
        mscales = coin(rng)
        return drop_none(
            {
                "factor": rng.uniform(1.5, 16),
                "original_max_position_embeddings": original,
                "attention_factor": maybe(rng, rng.uniform(0.6, 1.4), 0.3),
                "mscale": rng.uniform(0.5, 1.5) if mscales else None,
                "mscale_all_dim": rng.uniform(0.5, 1.5) if mscales else None,
                "beta_fast": maybe(rng, rng.uniform(4, 40)),
                "beta_slow": maybe(rng, rng.uniform(0.3, 2)),
                "truncate": maybe(rng, coin(rng)),
            }
        )
    return drop_none(
        {
            "short_factor": [rng.uniform(1, 2) for _ in range(freqs)],
            "long_factor": [rng.uniform(1, 20) for _ in range(freqs)],
            "original_max_position_embeddings": min(original, longest),
            "factor": maybe(rng, rng.uniform(1, 8), 0.3),
            "attention_factor": maybe(rng, rng.uniform(0.7, 1.5), 0.3),
        }
    )


KINDS = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"]


def rope(rng, width, longest, kinds=KINDS):
    kind = rng.choice(kinds)
    theta = rng.choice([100.0, 1000.0, 10000.0, 500000.0])
    base = {"rope_type": kind, "rope_theta": theta}
    return base if kind == "default" else base | scaled_rope(rng, kind, width // 2, longest)


def attention(rng, kinds=KINDS, free_width=True):
    """Sizes and positions of a family that is like Llama."""
    kv = rng.choice([1, 1, 2, 3])
    heads = kv * rng.choice([1, 2, 3])
    width = rng.choice([4, 6, 8, 10, 14])
    hidden = heads * rng.choice([4, 6, 7, 9, 11]) if free_width else heads * width
    longest = rng.choice([16, 64, 200])
    return {
        "vocab_size": rng.randint(40, 120),
        "hidden_size": hidden,
        "intermediate_size": rng.randint(9, 70),
        "num_hidden_layers": rng.randint(1, 4),
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "rms_norm_eps": eps(rng),
        "max_position_embeddings": longest,
        "tie_word_embeddings": coin(rng),
        "rope_parameters": rope(rng, width, longest, kinds),
    } | ({"head_dim": width} if free_width else {})


def llama(rng):
    return attention(rng) | {"attention_bias": coin(rng), "mlp_bias": coin(rng)}


def mistral(rng):
    return attention(rng) | {"sliding_window": rng.choice([None, 1, 3, 8, 40])}


def windows(rng, config):
    layers = config["num_hidden_layers"]
    kinds = [rng.choice(["full_attention", "sliding_attention"]) for _ in range(layers)]
    return {
        "use_sliding_window": coin(rng),
        "sliding_window": rng.choice([2, 5, 33]),
        "max_window_layers": rng.randint(0, layers),
    } | ({} if coin(rng) else {"use_sliding_window": True, "layer_types": kinds})


def qwen2(rng):
    config = attention(rng, free_width=False)
    return config | windows(rng, config)


def qwen3(rng):
    config = attention(rng) | {"attention_bias": coin(rng)}
    return config | windows(rng, config)


def gemma2(rng):
    config = attention(rng)
    kinds = ["full_attention", "sliding_attention"]
    drawn = [rng.choice(kinds) for _ in range(config["num_hidden_layers"])]
    caps = {
        "attn_logit_softcapping": rng.choice([None, 2.0, 5.0, 50.0]),
        "final_logit_softcapping": rng.choice([None, 6.0, 30.0]),
    }
    more = {
        "query_pre_attn_scalar": rng.choice([5, 16, 60, 144]),
        "sliding_window": rng.choice([1, 4, 32]),
        "attention_bias": coin(rng),
    }
    return config | more | caps | ({"layer_types": drawn} if coin(rng) else {})


def phi3(rng):
    config = attention(rng, ["default"], free_width=False)
    width = config["hidden_size"] // config["num_attention_heads"]
    part = rng.choice([1.0, 0.5]) if width % 4 == 0 else 1.0
    turned = int(width * part)
    positions = rope(rng, turned, config["max_position_embeddings"], ["default", "longrope"])
    original = positions.pop("original_max_position_embeddings", 64)
    return config | {
        "rope_parameters": positions | {"partial_rotary_factor": part},
        "original_max_position_embeddings": original,
        "sliding_window": rng.choice([None, None, 2, 9, 40]),
    }


def olmo2(rng):
    return attention(rng, free_width=False) | {"attention_bias": coin(rng)}


def gpt_neox(rng):
    heads, width = rng.randint(1, 4), rng.choice([8, 12, 16])
    return {
        "vocab_size": rng.randint(40, 120),
        "hidden_size": heads * width,
        "intermediate_size": rng.randint(9, 70),
        "num_hidden_layers": rng.randint(1, 4),
        "num_attention_heads": heads,
        "layer_norm_eps": eps(rng),
        "max_position_embeddings": 200,
        "use_parallel_residual": coin(rng),
        "attention_bias": coin(rng),
        "tie_word_embeddings": coin(rng),
        "hidden_act": rng.choice(["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"]),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": rng.choice([100.0, 10000.0]),
            "partial_rotary_factor": rng.choice([0.25, 0.5, 1.0]) if width != 12 else 0.5,
        },
    }


def gpt2(rng):
    heads = rng.randint(1, 4)
    return {
        "vocab_size": rng.randint(40, 120),
        "n_embd": heads * rng.choice([5, 8, 11]),
        "n_layer": rng.randint(1, 4),
        "n_head": heads,
        "n_positions": rng.choice([130, 160]),
        "n_inner": maybe(rng, rng.randint(9, 70)),
        "layer_norm_epsilon": eps(rng),
        "scale_attn_weights": rng.random() < 0.8,
        "scale_attn_by_inverse_layer_idx": coin(rng),
        "tie_word_embeddings": coin(rng),
        "activation_function": rng.choice(["gelu_new", "gelu", "gelu_pytorch_tanh", "relu"]),
    }


def mamba(rng):
    return {
        "vocab_size": rng.randint(40, 120),
        "hidden_size": rng.randint(9, 30),
        "state_size": rng.randint(1, 9),
        "num_hidden_layers": rng.randint(1, 3),
        "expand": rng.randint(1, 3),
        "conv_kernel": rng.randint(2, 4),
        "time_step_rank": rng.randint(1, 5),
        "use_bias": coin(rng),
        "use_conv_bias": coin(rng),
        "tie_word_embeddings": coin(rng),
        "layer_norm_epsilon": eps(rng),
    }


def falcon_mamba(rng):
    return mamba(rng) | {"mixer_rms_eps": eps(rng), "intermediate_size": rng.randint(9, 60)}


def ssd(rng):
    """Heads, their width, groups."""
    groups = rng.choice([1, 1, 2, 3])
    return groups * rng.randint(1, 3), 2 * rng.randint(2, 6), groups


def limit(rng):
    return rng.choice([(0.0, float("inf")), (0.0, float("inf")), (0.15, 1.2)])


def mamba2(rng):
    heads, width, groups = ssd(rng)
    return {
        "vocab_size": rng.randint(40, 120),
        "hidden_size": heads * width // 2,
        "expand": 2,
        "num_heads": heads,
        "head_dim": width,
        "state_size": rng.randint(1, 9),
        "n_groups": groups,
        "num_hidden_layers": rng.randint(1, 3),
        "conv_kernel": rng.randint(2, 4),
        "chunk_size": rng.choice([1, 5, 64, 256]),
        "use_bias": coin(rng),
        "use_conv_bias": coin(rng),
        "time_step_limit": limit(rng),
        "tie_word_embeddings": coin(rng),
        "layer_norm_epsilon": eps(rng),
    }


def mamba_keys(rng, heads, width, groups):
    return {
        "mamba_n_heads": heads,
        "mamba_d_head": width,
        "mamba_n_groups": groups,
        "mamba_d_state": rng.randint(1, 9),
        "mamba_d_conv": rng.randint(2, 4),
        "mamba_expand": 2,
        "mamba_chunk_size": rng.choice([1, 5, 64]),
        "mamba_conv_bias": coin(rng),
    }


def bamba(rng):
    config = attention(rng, ["default"], free_width=False)
    width = rng.choice([4, 8, 12])
    config["hidden_size"] = config["num_attention_heads"] * width
    inner = 2 * config["hidden_size"]
    heads = rng.choice([n for n in range(1, 9) if inner % n == 0])
    groups = rng.choice([n for n in (1, 2, 3) if heads % n == 0])
    layers = config["num_hidden_layers"] + 1
    kept = [i for i in range(layers) if coin(rng)] or [0]
    return config | {
        "num_hidden_layers": layers,
        "attn_layer_indices": kept,
        "mamba_proj_bias": coin(rng),
        "time_step_limit": limit(rng),
        "rope_parameters": config["rope_parameters"] | {"partial_rotary_factor": 0.5},
        **mamba_keys(rng, heads, inner // heads, groups),
    }


def nemotron_h(rng):
    heads, width, groups = ssd(rng)
    kv = rng.choice([1, 2])
    kinds = ["linear_attention", "mlp", "full_attention"]
    biased = coin(rng)
    return {
        "vocab_size": rng.randint(40, 120),
        "hidden_size": rng.randint(9, 40),
        "layers_block_type": [rng.choice(kinds) for _ in range(rng.randint(1, 5))],
        "num_attention_heads": kv * rng.randint(1, 3),
        "num_key_value_heads": kv,
        "head_dim": rng.choice([5, 8, 10]),
        "intermediate_size": rng.randint(9, 70),
        "mamba_num_heads": heads,
        "mamba_head_dim": width,
        "n_groups": groups,
        "ssm_state_size": rng.randint(1, 9),
        "conv_kernel": rng.randint(2, 4),
        "chunk_size": rng.choice([1, 8, 64]),
        "use_bias": biased,
        "mamba_proj_bias": biased,  # the same thing by another name; only the first is read
        "use_conv_bias": coin(rng),
        "mlp_bias": coin(rng),
        "layer_norm_epsilon": eps(rng),
    }


def jamba(rng):
    config = attention(rng, ["default"], free_width=False)
    del config["rope_parameters"]
    period = rng.randint(1, 4)
    return config | {
        "num_hidden_layers": config["num_hidden_layers"] + 1,
        "attn_layer_period": period,
        "attn_layer_offset": rng.randrange(period),
        "num_experts": 1,
        "num_experts_per_tok": 1,
        "mamba_d_state": rng.randint(2, 9),
        "mamba_d_conv": rng.randint(2, 4),
        "mamba_expand": rng.randint(1, 3),
        "mamba_dt_rank": rng.choice(["auto", 2, 5]),
        "mamba_conv_bias": coin(rng),
        "mamba_proj_bias": coin(rng),
    }


def falcon_h1(rng):
    config = attention(rng)
    heads, width, groups = ssd(rng)

    def factors(count):
        return [round(rng.uniform(0.5, 1.6), 3) for _ in range(count)]

    names = ["lm_head", "embedding", "key", "attention_out", "attention_in", "ssm_in", "ssm_out"]
    return config | {
        **mamba_keys(rng, heads, width, groups),
        "mamba_d_ssm": heads * width,
        "mamba_proj_bias": coin(rng),
        "projectors_bias": coin(rng),
        "attention_bias": coin(rng),
        "mlp_bias": coin(rng),
        "mamba_rms_norm": coin(rng),
        "mamba_norm_before_gate": coin(rng),
        "time_step_limit": limit(rng),
        "mlp_multipliers": factors(2),
        "ssm_multipliers": factors(5),
        **{f"{name}_multiplier": factor for name, factor in zip(names, factors(len(names)))},
    }


def zamba2(rng):
    adapters = coin(rng)
    heads = rng.choice([1, 2, 4])
    hidden = heads * rng.choice([3, 5, 6])
    inner = 2 * hidden
    mamba_heads = rng.choice([n for n in (1, 2, 3, 4, 6) if inner % n == 0])
    groups = rng.choice([n for n in (1, 2, 3) if mamba_heads % n == 0])
    layers = [rng.choice(["linear_attention", "hybrid"]) for _ in range(rng.randint(2, 6))]
    layers[rng.randrange(len(layers))] = "hybrid"
    return {
        "vocab_size": rng.randint(40, 120),
        "hidden_size": hidden,
        "intermediate_size": rng.randint(9, 40),
        "num_hidden_layers": len(layers),
        "layers_block_type": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": None if adapters else rng.choice([n for n in (1, 2, 4) if heads % n == 0]),
        "num_mem_blocks": rng.randint(1, layers.count("hybrid")),
        "adapter_rank": rng.randint(1, 5),
        "use_mem_rope": coin(rng),
        "use_shared_attention_adapter": adapters,
        "use_long_context": rng.random() < 0.2,
        "add_bias_linear": coin(rng),
        "mamba_d_state": rng.randint(1, 9),
        "mamba_d_conv": rng.randint(2, 4),
        "mamba_expand": 2,
        "mamba_ngroups": groups,
        "n_mamba_heads": mamba_heads,
        "chunk_size": rng.choice([1, 6, 64]),
        "time_step_min": rng.choice([0.001, 0.2]),
        "rms_norm_eps": eps(rng),
        "tie_word_embeddings": True,  # untied, transformers no longer shares the blocks either
        "rope_parameters": {"rope_type": "default", "rope_theta": rng.choice([100.0, 10000.0])},
    }


FAMILIES = {
    "llama": ("Llama", llama),
    "mistral": ("Mistral", mistral),
    "qwen2": ("Qwen2", qwen2),
    "qwen3": ("Qwen3", qwen3),
    "gemma2": ("Gemma2", gemma2),
    "phi3": ("Phi3", phi3),
    "olmo2": ("Olmo2", olmo2),
    "gpt_neox": ("GPTNeoX", gpt_neox),
    "gpt2": ("GPT2", gpt2),
    "mamba": ("Mamba", mamba),
    "falcon_mamba": ("FalconMamba", falcon_mamba),
    "mamba2": ("Mamba2", mamba2),
    "bamba": ("Bamba", bamba),
    "nemotron_h": ("NemotronH", nemotron_h),
    "jamba": ("Jamba", jamba),
    "falcon_h1": ("FalconH1", falcon_h1),
    "zamba2": ("Zamba2", zamba2),
}


def build(family, rng):
    """-> a model of random make-up with transformers' own first weights"""
    kind, draw = FAMILIES[family]
    config = getattr(transformers, f"{kind}Config")(**COMMON | draw(rng))
    name = "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
    return getattr(transformers, name)._from_config(config, attn_implementation="eager")

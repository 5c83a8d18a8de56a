# tests/golden/golden_tools: small models, each with an odd setting or two of its family.
from . import released
from .attention_models import PLAIN_ROPE
from .family import Family, of
from .hybrid_models import FALCON_H1, JAMBA, ZAMBA2

LLAMA = {
    "hidden_size": 24,
    "intermediate_size": 26,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 12,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 500.0,
    "short_factor": [1.0, 1.1, 1.3, 1.2, 1.5, 1.7],
    "long_factor": [1.2, 2.0, 3.5, 5.0, 8.0, 11.0],
}
HALF_LONG = {
    **LONG,
    "partial_rotary_factor": 0.5,
    "short_factor": [1.0, 1.2, 1.6],
    "long_factor": [1.2, 3.5, 9.0],
}
PHI3 = {**LLAMA, "sliding_window": None, "tie_word_embeddings": False}
del PHI3["head_dim"]
PHI3["num_attention_heads"] = 2
QWEN = {key: value for key, value in LLAMA.items() if key != "head_dim"} | {
    "num_hidden_layers": 3,
    "rope_parameters": PLAIN_ROPE,
}
NEOX = {
    "hidden_size": 24,
    "intermediate_size": 34,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
    },
}
GPT2 = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32}
SMALL_ZAMBA2 = ZAMBA2 | {
    "hidden_size": 16,
    "intermediate_size": 18,
    "num_hidden_layers": 4,
    "layers_block_type": ["hybrid", "linear_attention", "hybrid", "hybrid"],
}
SMALL_FALCON_H1 = FALCON_H1 | {
    "hidden_size": 20,
    "intermediate_size": 22,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "mamba_d_ssm": 24,
    "mamba_n_heads": 4,
}
SMALL_JAMBA = JAMBA | {"hidden_size": 20, "intermediate_size": 22}


def llama_with(**rope):
    return of("Llama", **LLAMA, rope_parameters={"rope_theta": 500.0, **rope})


def outline(seed, build, **more):
    return Family(seed, build, set(), sketch=True, **more)


REWRITTEN = "a longer text changes what came before it, so no greedy steps"

VARIANTS = {
    "llama_linear": outline(51, llama_with(rope_type="linear", factor=2.5), old_dialect=True),
    "llama_dynamic": outline(
        52,
        of(
            "Llama",
            **LLAMA | {"max_position_embeddings": 8},
            rope_parameters={"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0},
        ),
        old_dialect=True,
        decode=False,
        note=REWRITTEN,
    ),
    "llama_yarn": outline(53, llama_with(**YARN), old_dialect=True),
    "llama_yarn_attention_factor": outline(54, llama_with(**YARN, attention_factor=0.8)),
    "llama_yarn_mscale": outline(55, llama_with(**YARN, mscale=0.7, mscale_all_dim=1.2)),
    "llama_yarn_betas": outline(
        56, llama_with(**YARN, beta_fast=4.0, beta_slow=0.5, truncate=False)
    ),
    "llama_longrope": outline(
        57,
        llama_with(**LONG, original_max_position_embeddings=8),
        decode=False,
        note=REWRITTEN,
    ),
    "llama_longrope_factor": outline(
        58,
        llama_with(
            **LONG, original_max_position_embeddings=8, factor=6.0, attention_factor=1.3
        ),
        decode=False,
        note=REWRITTEN,
    ),
    "llama_partial_unread": outline(
        59,
        llama_with(rope_type="default", partial_rotary_factor=0.5),
        note="Llama never reads partial_rotary_factor: rotary over the whole head",
    ),
    "llama_redundant_keys": outline(
        60,
        llama_with(rope_type="default"),
        extra={
            "layer_types": ["full_attention", "full_attention"],
            "use_sliding_window": False,
            "sliding_window": None,
            "max_window_layers": 2,
        },
        others={"llama_released": released.llama},
    ),
    "mistral_no_window": outline(
        61,
        of(
            "Mistral",
            **LLAMA | {"head_dim": None, "num_attention_heads": 2},
            sliding_window=None,
            tie_word_embeddings=True,
            rope_parameters=PLAIN_ROPE,
        ),
        extra={"head_dim": None},
    ),
    "qwen2_windows": outline(
        62,
        of("Qwen2", **QWEN, use_sliding_window=True, sliding_window=4, max_window_layers=1),
        old_dialect=True,
    ),
    "qwen2_layer_types": outline(
        63,
        of(
            "Qwen2",
            **QWEN,
            use_sliding_window=True,
            sliding_window=3,
            max_window_layers=3,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
        note="layer_types is followed, max_window_layers is not",
    ),
    "qwen3_biased": outline(
        64,
        of(
            "Qwen3",
            **QWEN,
            head_dim=10,
            attention_bias=True,
            tie_word_embeddings=True,
            use_sliding_window=True,
            sliding_window=4,
            max_window_layers=2,
        ),
        old_dialect=True,
    ),
    "gemma2_uncapped": outline(
        65,
        of(
            "Gemma2",
            **LLAMA,
            attn_logit_softcapping=None,
            final_logit_softcapping=None,
            query_pre_attn_scalar=144,
            sliding_window=4,
            attention_bias=True,
            layer_types=["full_attention", "sliding_attention"],
            tie_word_embeddings=False,
            rope_parameters=PLAIN_ROPE,
        ),
    ),
    "phi3_longrope_long": outline(
        66,
        of("Phi3", **PHI3, original_max_position_embeddings=8, rope_parameters=LONG),
        old_dialect=True,
        decode=False,
        note=REWRITTEN,
    ),
    "phi3_longrope_short": outline(
        67,
        of(
            "Phi3",
            **PHI3 | {"max_position_embeddings": 128},
            original_max_position_embeddings=32,
            rope_parameters=HALF_LONG,
        ),
        old_dialect=True,
    ),
    "phi3_partial": outline(
        68,
        of(
            "Phi3",
            **PHI3 | {"num_key_value_heads": 2},
            original_max_position_embeddings=64,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 500.0,
                "partial_rotary_factor": 0.5,
            },
        ),
        old_dialect=True,
    ),
    "olmo2_biased": outline(
        69,
        of(
            "Olmo2",
            **QWEN,
            attention_bias=True,
            tie_word_embeddings=True,
        ),
    ),
    "gpt_neox_sequential": outline(
        70,
        of("GPTNeoX", **NEOX, use_parallel_residual=False),
        old_dialect=True,
        others={"gpt_neox_released": released.gpt_neox},
    ),
    "gpt_neox_unbiased": outline(
        71,
        of(
            "GPTNeoX",
            **NEOX,
            attention_bias=False,
            hidden_act="gelu_fast",
            tie_word_embeddings=True,
        ),
    ),
    "gpt_neox_gelu_new": outline(72, of("GPTNeoX", **NEOX, hidden_act="gelu_new")),
    "gpt2_inverse_layer": outline(
        73,
        of("GPT2", **GPT2, scale_attn_by_inverse_layer_idx=True),
        others={"gpt2_released": released.gpt2},
    ),
    "gpt2_unscaled": outline(
        74, of("GPT2", **GPT2, scale_attn_weights=False, activation_function="relu")
    ),
    "gpt2_inner": outline(
        75,
        of(
            "GPT2",
            **GPT2,
            n_inner=37,
            tie_word_embeddings=False,
            activation_function="gelu_pytorch_tanh",
        ),
    ),
    "jamba_auto_rank": outline(
        76,
        of(
            "Jamba",
            **SMALL_JAMBA
            | {
                "attn_layer_period": 2,
                "attn_layer_offset": 0,
                "num_key_value_heads": 4,
                "mamba_dt_rank": "auto",
                "mamba_conv_bias": False,
                "mamba_proj_bias": True,
                "tie_word_embeddings": True,
            },
        ),
        extra={"mamba_dt_rank": "auto"},
    ),
    "falcon_h1_before_gate": outline(
        77,
        of(
            "FalconH1",
            **SMALL_FALCON_H1
            | {
                "mamba_norm_before_gate": True,
                "projectors_bias": True,
                "mamba_proj_bias": True,
                "attention_bias": True,
                "mlp_bias": True,
                "time_step_limit": [0.2, 1.1],
            },
        ),
    ),
    "falcon_h1_no_norm": outline(
        78,
        of(
            "FalconH1",
            **{key: value for key, value in SMALL_FALCON_H1.items() if key != "head_dim"}
            | {
                "mamba_rms_norm": False,
                "mamba_d_ssm": None,
                "mamba_d_head": "auto",
                "mamba_n_heads": 4,
                "mamba_conv_bias": False,
                "tie_word_embeddings": True,
            },
        ),
    ),
    "zamba2_adapters": outline(
        79,
        of(
            "Zamba2",
            **SMALL_ZAMBA2
            | {
                "use_shared_attention_adapter": True,
                "use_mem_rope": False,
                "add_bias_linear": True,
            },
        ),
        old_dialect=True,
        others={"zamba2_released": released.zamba2},
    ),
    "zamba2_grouped": outline(
        82,
        of(
            "Zamba2",
            **SMALL_ZAMBA2
            | {"num_mem_blocks": 1, "num_key_value_heads": 2, "mamba_ngroups": 1},
        ),
    ),
    "zamba2_untied": outline(
        81,
        of(
            "Zamba2",
            **SMALL_ZAMBA2
            | {
                "hidden_size": 12,
                "num_hidden_layers": 3,
                "layers_block_type": ["hybrid", "linear_attention", "hybrid"],
                "num_mem_blocks": 1,
                "tie_word_embeddings": False,
            },
        ),
        note="with tie_word_embeddings false transformers does not share the blocks either: each "
        "hybrid layer has its own weights, in the file too",
    ),
}

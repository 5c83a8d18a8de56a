# tools/dry_run: configs of the study's four models, whole and cut down.
"""SHAPES[name](vocab, tiny) is a config.json; HEADS[name] a Gather and an Aggregate head to cut, whole and tiny."""


def llama(vocab, tiny):
    width, layers, heads, kv_heads, mlp = (64, 4, 4, 2, 128) if tiny else (4096, 32, 32, 8, 14336)
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": max(vocab, 0 if tiny else 128256),
            "hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 8192},
            "tie_word_embeddings": False, "torch_dtype": "bfloat16"}


def falcon_mamba(vocab, tiny):
    width, layers, state, rank = (64, 4, 8, 4) if tiny else (4096, 64, 16, 256)
    return {"architectures": ["FalconMambaForCausalLM"], "model_type": "falcon_mamba", "vocab_size": max(vocab, 0 if tiny else 65024),
            "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers, "state_size": state,
            "time_step_rank": rank, "conv_kernel": 4, "expand": 16, "use_conv_bias": True, "use_bias": False,
            "mixer_rms_eps": 1e-6, "layer_norm_epsilon": 1e-5, "residual_in_fp32": True, "tie_word_embeddings": False,
            "torch_dtype": "bfloat16"}


def llamba(vocab, tiny):
    width, layers, state, heads, mlp = (64, 4, 16, 4, 128) if tiny else (4096, 32, 64, 32, 14336)
    return {"architectures": ["LlambaLMHeadModel"], "model_type": "llamba", "vocab_size": max(vocab, 0 if tiny else 128256),
            "pad_vocab_size_multiple": 8, "tie_embeddings": False, "lm_head_bias": False, "d_model": width, "n_layer": layers,
            "resid_dropout": 0.0, "norm_epsilon": 1e-5, "mlp_cfg": {"intermediate_size": mlp, "bias": False, "act_fn": "silu"},
            "ssm_cfg": {"d_state": state, "n_v_heads": heads, "n_qk_heads": heads, "expand": 1, "chunk_size": 128,
                        "activation": "identity", "bias": False},
            "torch_dtype": "bfloat16"}


def zamba2(vocab, tiny):
    width, heads, mlp, state, adapter = (64, 4, 128, 16, 8) if tiny else (3584, 32, 14336, 64, 128)
    layers, hybrid = (6, [1, 3]) if tiny else (81, [6] + list(range(11, 81, 6)))
    head_dim = 32 if tiny else 64
    return {"architectures": ["Zamba2ForCausalLM"], "model_type": "zamba2", "vocab_size": max(vocab, 0 if tiny else 32000),
            "hidden_size": width, "num_hidden_layers": layers, "hybrid_layer_ids": hybrid,
            "layers_block_type": ["hybrid" if i in hybrid else "mamba" for i in range(layers)],
            "num_attention_heads": heads, "num_key_value_heads": heads, "attention_hidden_size": 2 * width,
            "attention_head_dim": 2 * width // heads, "intermediate_size": mlp, "hidden_act": "gelu", "adapter_rank": adapter,
            "mamba_d_state": state, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_headdim": head_dim, "mamba_ngroups": 2,
            "n_mamba_heads": 2 * width // head_dim, "chunk_size": 256, "num_mem_blocks": 2, "use_mem_rope": True,
            "use_shared_attention_adapter": False, "use_shared_mlp_adapter": True, "add_bias_linear": False,
            "use_conv_bias": True, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": True, "torch_dtype": "bfloat16"}


SHAPES = {"llama": llama, "falcon-mamba": falcon_mamba, "llamba": llamba, "zamba2": zamba2}
# The study's heads, but for Zamba2, where it names layers only: two of a shared block (its Mamba-2 heads are counted first).
HEADS = {"llama": ("16.22,17.24", "1.2,2.1"), "falcon-mamba": ("35.0-511,36.0-511", "1.0-7,2.0-7"),
         "llamba": ("16.10,17.3", "1.2,2.1"), "zamba2": ("41.112,47.115", "1.4,3.5")}

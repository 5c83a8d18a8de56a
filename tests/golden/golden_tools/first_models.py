# tests/golden/golden_tools: the tiny models of the first families.
import transformers

from . import llamba
from .family import COMMON, Family, of
from .native import mamba2_config, mamba_config, writers
from .weights import VOCAB


def build_llama():
    config = transformers.LlamaConfig(
        **COMMON,
        hidden_size=36,
        intermediate_size=52,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        rms_norm_eps=1e-5,
        max_position_embeddings=256,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )
    return transformers.LlamaForCausalLM._from_config(config, attn_implementation="eager")


def build_llama_tied():
    config = transformers.LlamaConfig(
        **COMMON,
        hidden_size=36,
        intermediate_size=50,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=3,
        rms_norm_eps=1e-6,
        max_position_embeddings=128,
        attention_bias=False,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    return transformers.LlamaForCausalLM._from_config(config, attn_implementation="eager")


def build_mamba():
    config = transformers.MambaConfig(
        **COMMON,
        hidden_size=28,
        state_size=5,
        num_hidden_layers=3,
        expand=2,
        conv_kernel=4,
        time_step_rank=3,
        use_bias=True,
        use_conv_bias=True,
        tie_word_embeddings=True,
    )
    return transformers.MambaForCausalLM(config)


def build_falcon_mamba():
    config = transformers.FalconMambaConfig(
        **COMMON,
        hidden_size=32,
        expand=16,
        intermediate_size=56,
        state_size=6,
        num_hidden_layers=3,
        conv_kernel=3,
        time_step_rank=5,
        use_bias=False,
        use_conv_bias=True,
        tie_word_embeddings=False,
        mixer_rms_eps=1e-3,
    )
    return transformers.FalconMambaForCausalLM(config)


def build_mamba2():
    config = transformers.Mamba2Config(
        **COMMON,
        hidden_size=36,
        expand=2,
        num_heads=4,
        head_dim=18,
        state_size=7,
        n_groups=2,
        num_hidden_layers=3,
        conv_kernel=4,
        chunk_size=5,
        use_bias=True,
        use_conv_bias=False,
        time_step_limit=(0.2, 1.1),
        tie_word_embeddings=False,
        layer_norm_epsilon=1e-5,
    )
    return transformers.Mamba2ForCausalLM(config)


def build_bamba():
    config = transformers.BambaConfig(
        **COMMON,
        hidden_size=36,
        intermediate_size=44,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=1,
        attn_layer_indices=[1],
        mamba_n_heads=6,
        mamba_d_head=12,
        mamba_n_groups=2,
        mamba_d_state=5,
        mamba_d_conv=3,
        mamba_expand=2,
        mamba_chunk_size=6,
        mamba_conv_bias=True,
        mamba_proj_bias=False,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1000.0,
            "partial_rotary_factor": 0.5,
        },
    )
    return transformers.BambaForCausalLM._from_config(config, attn_implementation="eager")


def build_nemotron_h():
    config = transformers.NemotronHConfig(
        **COMMON,
        hidden_size=36,
        layers_block_type=["linear_attention", "mlp", "full_attention", "linear_attention"],
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        intermediate_size=46,
        mamba_num_heads=6,
        mamba_head_dim=8,
        n_groups=3,
        ssm_state_size=5,
        conv_kernel=4,
        chunk_size=8,
        use_bias=False,
        use_conv_bias=True,
        mlp_bias=False,
        max_position_embeddings=256,
    )
    return transformers.NemotronHForCausalLM._from_config(config, attn_implementation="eager")


FIRST = {
    "llama": Family(11, build_llama, {0}, old_dialect=True, padded=True),
    "llama_tied": Family(12, build_llama_tied, {2}),
    "mamba": Family(
        13, build_mamba, {1}, {1}, padded=True, others=writers("mamba", mamba_config)
    ),
    "falcon_mamba": Family(14, build_falcon_mamba, {2}),
    "mamba2": Family(
        15,
        build_mamba2,
        {0},
        {0},
        old_dialect=True,
        padded=True,
        note="transformers' cached one-token step does not clamp dt, its prefill does",
    ),
    "mamba2_one_group": Family(
        19,
        of(
            "Mamba2",
            vocab_size=VOCAB + 7,
            hidden_size=28,
            expand=2,
            num_heads=4,
            head_dim=14,
            state_size=6,
            n_groups=1,
            num_hidden_layers=2,
            chunk_size=5,
            tie_word_embeddings=True,
        ),
        {1},
        extra={"norm_before_gate": True},  # stored by some converters, read by nobody
        others=writers("mamba2", mamba2_config),
    ),
    "mamba2_no_groups": Family(
        20,
        of("Mamba2", hidden_size=24, num_heads=8, head_dim=6, state_size=3, num_hidden_layers=2),
        set(),
        sketch=True,
        without=["n_groups"],
        note="n_groups is 8 where config.json has none",
    ),
    "bamba": Family(16, build_bamba, {1, 2}, old_dialect=True, padded=True),
    "nemotron_h": Family(17, build_nemotron_h, {1, 2, 3}),
    "llamba": Family(
        18,
        llamba.build,
        {1},
        {1},
        note="not in transformers: reference written from the public description",
    ),
}

# tests/golden/golden_tools: one entry a golden: its config, and where to listen in its model.
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Callable

import transformers
from transformers.models.bamba import modeling_bamba
from transformers.models.falcon_mamba import modeling_falcon_mamba
from transformers.models.llama import modeling_llama
from transformers.models.mamba import modeling_mamba
from transformers.models.mamba2 import modeling_mamba2
from transformers.models.nemotron_h import modeling_nemotron_h

from . import llamba
from .record import (
    listen_to_attention,
    on_output,
    replaced,
    tap_attention,
    tap_block,
    tap_mlp,
    tap_norm,
    tap_resid_mid,
)
from .ssm import listen_to_conv, listen_to_s6, listen_to_ssd, tap_mixer_ends
from .weights import VOCAB, make_ids, randomize

COMMON = {"vocab_size": VOCAB, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}


@dataclass
class Family:
    seed: int
    build: Callable  # () -> model
    tap: Callable  # (model, recording) -> None: forward hooks
    listen: Callable  # (recording) -> context manager: module-level functions wrapped
    detail: set  # layers whose every site is kept (of the others, an outline)
    wide: set = field(default_factory=set)  # layers whose states and A_bar, B_bar are kept as well
    old_dialect: bool = False  # also written as <name>_v4
    note: str = ""

    def make(self):
        return randomize(self.build(), self.seed)

    def ids(self):
        return make_ids(self.seed)


def tap_ends(rec, embed, final_norm, lm_head, eps):
    on_output(embed, lambda x: rec.put("hook_embed", x))
    tap_norm(rec, final_norm, "ln_final", eps)
    on_output(lm_head, lambda x: rec.put("logits", x))


# --- Llama ---


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


def tap_llama(model, rec):
    eps = model.config.rms_norm_eps
    tap_ends(rec, model.model.embed_tokens, model.model.norm, model.lm_head, eps)
    for i, block in enumerate(model.model.layers):
        tap_block(rec, i, block)
        tap_norm(rec, block.input_layernorm, f"blocks.{i}.ln1", eps)
        tap_attention(rec, i, block.self_attn)
        tap_resid_mid(rec, i, block.post_attention_layernorm)
        tap_norm(rec, block.post_attention_layernorm, f"blocks.{i}.ln2", eps)
        tap_mlp(rec, i, block.mlp)


def listen_llama(rec):
    return replaced(modeling_llama, eager_attention_forward=listen_to_attention(rec))


# --- Mamba, Falcon-Mamba ---


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


def tap_mamba1(model, rec):
    backbone, eps = model.backbone, model.config.layer_norm_epsilon
    tap_ends(rec, backbone.embeddings, backbone.norm_f, model.lm_head, eps)
    for i, block in enumerate(backbone.layers):
        mixer = block.mixer
        tap_block(rec, i, block)
        tap_norm(rec, block.norm, f"blocks.{i}.ln1", eps)
        tap_mixer_ends(rec, i, mixer, None, slice(mixer.intermediate_size, None))
        low_rank = f"blocks.{i}.mixer.hook_dt_lowrank"
        if hasattr(mixer, "dt_layernorm"):
            on_output(mixer.dt_layernorm, lambda x, at=low_rank: rec.put(at, x))
        else:
            rank = mixer.time_step_rank
            on_output(mixer.x_proj, lambda x, at=low_rank, r=rank: rec.put(at, x[..., :r]))


def listen_mamba1(modeling):
    def listen(rec):
        return replaced(
            modeling, causal_conv1d_fn=listen_to_conv(rec), mamba_selective_scan=listen_to_s6(rec)
        )

    return listen


# --- Mamba-2 ---


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


def tap_ssd_mixer(rec, index, mixer):
    tap_mixer_ends(rec, index, mixer, mixer.head_dim, slice(0, mixer.intermediate_size))


def tap_mamba2(model, rec):
    backbone, eps = model.backbone, model.config.layer_norm_epsilon
    tap_ends(rec, backbone.embeddings, backbone.norm_f, model.lm_head, eps)
    for i, block in enumerate(backbone.layers):
        tap_block(rec, i, block)
        tap_norm(rec, block.norm, f"blocks.{i}.ln1", eps)
        tap_ssd_mixer(rec, i, block.mixer)


def listen_ssd(modeling, rotary=None):
    @contextmanager
    def listen(rec):
        with ExitStack() as stack:
            stack.enter_context(
                replaced(
                    modeling,
                    causal_conv1d_fn=listen_to_conv(rec),
                    mamba2_chunk_scan=listen_to_ssd(rec),
                )
            )
            if rotary is not None:
                attend = listen_to_attention(rec, rotary=rotary)
                stack.enter_context(replaced(modeling, eager_attention_forward=attend))
            yield

    return listen


# --- Bamba ---


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


def tap_bamba(model, rec):
    eps = model.config.rms_norm_eps
    tap_ends(rec, model.model.embed_tokens, model.model.final_layernorm, model.lm_head, eps)
    for i, block in enumerate(model.model.layers):
        tap_block(rec, i, block)
        tap_norm(rec, block.input_layernorm, f"blocks.{i}.ln1", eps)
        if block.block_type == "full_attention":
            tap_attention(rec, i, block.self_attn)
        else:
            tap_ssd_mixer(rec, i, block.mamba)
        tap_resid_mid(rec, i, block.pre_ff_layernorm)
        tap_norm(rec, block.pre_ff_layernorm, f"blocks.{i}.ln2", eps)
        tap_mlp(rec, i, block.feed_forward)


# --- Nemotron-H ---


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


def tap_nemotron_h(model, rec):
    eps = model.config.layer_norm_epsilon
    tap_ends(rec, model.model.embeddings, model.model.norm_f, model.lm_head, eps)
    for i, block in enumerate(model.model.layers):
        tap_block(rec, i, block)
        tap_norm(rec, block.norm, f"blocks.{i}.ln{2 if block.block_type == 'mlp' else 1}", eps)
        if block.block_type == "full_attention":
            tap_attention(rec, i, block.mixer)
        elif block.block_type == "mlp":
            tap_mlp(rec, i, block.mixer)
        else:
            tap_ssd_mixer(rec, i, block.mixer)


FAMILIES = {
    "llama": Family(11, build_llama, tap_llama, listen_llama, {0}, old_dialect=True),
    "llama_tied": Family(12, build_llama_tied, tap_llama, listen_llama, {2}),
    "mamba": Family(13, build_mamba, tap_mamba1, listen_mamba1(modeling_mamba), {1}, {1}),
    "falcon_mamba": Family(
        14, build_falcon_mamba, tap_mamba1, listen_mamba1(modeling_falcon_mamba), {2}
    ),
    "mamba2": Family(
        15,
        build_mamba2,
        tap_mamba2,
        listen_ssd(modeling_mamba2),
        {0},
        {0},
        old_dialect=True,
        note="transformers' cached one-token step does not clamp dt, its prefill does",
    ),
    "bamba": Family(
        16,
        build_bamba,
        tap_bamba,
        listen_ssd(modeling_bamba, rotary=True),
        {1, 2},
        old_dialect=True,
    ),
    "nemotron_h": Family(
        17,
        build_nemotron_h,
        tap_nemotron_h,
        listen_ssd(modeling_nemotron_h, rotary=False),
        {1, 2, 3},
    ),
    "llamba": Family(
        18,
        llamba.build,
        llamba.tap,
        llamba.listen,
        {1},
        {1},
        note="not in transformers: reference written from the public description",
    ),
}

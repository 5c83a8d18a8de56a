# tests/golden/golden_tools: where to listen in each of transformers' models.
"""`tap` hangs forward hooks on a model's modules, `listen` wraps the functions that its modelling
file calls. Both go by the class of the model, so that any checkpoint of a known one can be recorded."""

import sys
from contextlib import contextmanager

from . import llamba
from .record import (
    listen_to_attention,
    on_input,
    on_output,
    replaced,
    split_heads,
    tap_attention,
    tap_block,
    tap_cut,
    tap_ends,
    tap_mlp,
    tap_norm,
    tap_plain_mlp,
    tap_resid_mid,
)
from .ssm import listen_to_conv, listen_to_s6, listen_to_ssd, tap_mixer_ends

# --- Attention and an MLP ---


def tap_llama(model, rec):
    """Llama, Mistral, Qwen2, Qwen3, Phi-3."""
    layers = model.model.layers
    tap_ends(rec, model, layers[0], model.model.norm)
    for i, block in enumerate(layers):
        tap_block(rec, i, block)
        tap_norm(rec, block.input_layernorm, f"blocks.{i}.ln1")
        tap_attention(rec, i, block.self_attn)
        tap_resid_mid(rec, i, block.post_attention_layernorm)
        tap_norm(rec, block.post_attention_layernorm, f"blocks.{i}.ln2")
        tap_mlp(rec, i, block.mlp)


def tap_post_normed(model, rec):
    """Gemma-2 (norms before and after each part) and OLMo-2 (after only)."""
    layers = model.model.layers
    tap_ends(rec, model, layers[0], model.model.norm)
    for i, block in enumerate(layers):
        tap_block(rec, i, block)
        after_attention = block.post_attention_layernorm
        after_mlp = block.post_feedforward_layernorm
        tap_attention(rec, i, block.self_attn, out=after_attention)
        tap_mlp(rec, i, block.mlp, out=after_mlp)
        tap_norm(rec, after_attention, f"blocks.{i}.ln1_post")
        tap_norm(rec, after_mlp, f"blocks.{i}.ln2_post")
        if hasattr(block, "input_layernorm"):
            tap_norm(rec, block.input_layernorm, f"blocks.{i}.ln1")
            tap_resid_mid(rec, i, block.pre_feedforward_layernorm)
            tap_norm(rec, block.pre_feedforward_layernorm, f"blocks.{i}.ln2")
        else:
            tap_resid_mid(rec, i, block.mlp)


def tap_gpt_neox(model, rec):
    layers = model.gpt_neox.layers
    tap_ends(rec, model, layers[0], model.gpt_neox.final_layer_norm)
    for i, block in enumerate(layers):
        attn = block.attention

        def heads(x, i=i, width=attn.head_size):
            for name, part in zip("qkv", split_heads(x, 3 * width).chunk(3, dim=-1)):
                rec.put(f"blocks.{i}.attn.hook_{name}", part)

        tap_block(rec, i, block)
        tap_norm(rec, block.input_layernorm, f"blocks.{i}.ln1")
        on_output(attn.query_key_value, heads)
        tap_cut(rec, i, attn.dense, attn.head_size, attn)
        if not block.use_parallel_residual:
            tap_resid_mid(rec, i, block.post_attention_layernorm)
        tap_norm(rec, block.post_attention_layernorm, f"blocks.{i}.ln2")
        tap_plain_mlp(rec, i, block.mlp, block.mlp.dense_h_to_4h, block.mlp.dense_4h_to_h)


def tap_gpt2(model, rec):
    body = model.transformer
    batch = []

    def tokens(x):
        batch[:] = [x.shape[0]]
        rec.put("hook_embed", x)

    on_output(body.wte, tokens)
    on_output(body.wpe, lambda x: rec.put("hook_pos_embed", x.expand(*batch, -1, -1)))
    tap_norm(rec, body.ln_f, "ln_final")
    model.register_forward_hook(lambda _, args, out: rec.put("logits", out.logits))
    for i, block in enumerate(body.h):
        attn = block.attn

        def heads(x, i=i, width=attn.head_dim):
            for name, part in zip("qkv", x.chunk(3, dim=-1)):
                rec.put(f"blocks.{i}.attn.hook_{name}", split_heads(part, width))

        tap_block(rec, i, block)
        tap_norm(rec, block.ln_1, f"blocks.{i}.ln1")
        on_output(attn.c_attn, heads)
        transposed = attn.c_proj  # a Conv1D: its weight is [in, out]
        tap_cut(rec, i, attn.c_proj, attn.head_dim, attn, weight=lambda m=transposed: m.weight.T)
        tap_resid_mid(rec, i, block.ln_2)
        tap_norm(rec, block.ln_2, f"blocks.{i}.ln2")
        tap_plain_mlp(rec, i, block.mlp, block.mlp.c_fc, block.mlp.c_proj)


# --- State-space layers only ---


def tap_s6_mixer(rec, index, mixer):
    tap_mixer_ends(rec, index, mixer, None, slice(mixer.intermediate_size, None))
    low_rank = f"blocks.{index}.mixer.hook_dt_lowrank"
    if hasattr(mixer, "dt_layernorm"):
        on_output(mixer.dt_layernorm, lambda x: rec.put(low_rank, x))
    else:
        on_output(mixer.x_proj, lambda x: rec.put(low_rank, x[..., : mixer.time_step_rank]))


def tap_ssd_mixer(rec, index, mixer, **scales):
    gate = slice(0, mixer.intermediate_size)
    tap_mixer_ends(rec, index, mixer, mixer.head_dim, gate, **scales)


def tap_mamba(tap_mixer):
    def tap(model, rec):
        backbone, eps = model.backbone, model.config.layer_norm_epsilon
        tap_ends(rec, model, backbone.layers[0], backbone.norm_f, eps)
        for i, block in enumerate(backbone.layers):
            tap_block(rec, i, block)
            tap_norm(rec, block.norm, f"blocks.{i}.ln1", eps)
            tap_mixer(rec, i, block.mixer)

    return tap


# --- Both kinds of layers ---


def tap_mixed(tap_mamba_mixer):
    """Bamba and Jamba: either kind of mixer, then an MLP."""

    def tap(model, rec):
        layers = model.model.layers
        tap_ends(rec, model, layers[0], model.model.final_layernorm)
        for i, block in enumerate(layers):
            tap_block(rec, i, block)
            tap_norm(rec, block.input_layernorm, f"blocks.{i}.ln1")
            if getattr(block, "self_attn", None) is not None:
                tap_attention(rec, i, block.self_attn)
            else:
                tap_mamba_mixer(rec, i, block.mamba)
            tap_resid_mid(rec, i, block.pre_ff_layernorm)
            tap_norm(rec, block.pre_ff_layernorm, f"blocks.{i}.ln2")
            tap_mlp(rec, i, block.feed_forward)

    return tap


def tap_nemotron_h(model, rec):
    eps, layers = model.config.layer_norm_epsilon, model.model.layers
    tap_ends(rec, model, layers[0], model.model.norm_f, eps)
    for i, block in enumerate(layers):
        tap_block(rec, i, block)
        tap_norm(rec, block.norm, f"blocks.{i}.ln{2 if block.block_type == 'mlp' else 1}", eps)
        if block.block_type == "full_attention":
            tap_attention(rec, i, block.mixer)
        elif block.block_type == "mlp":
            tap_mlp(rec, i, block.mixer)
        else:
            tap_ssd_mixer(rec, i, block.mixer)


def tap_falcon_h1(model, rec):
    layers = model.model.layers
    tap_ends(rec, model, layers[0], model.model.final_layernorm)
    for i, block in enumerate(layers):
        attn, mixer, mlp = block.self_attn, block.mamba, block.feed_forward
        tap_block(rec, i, block)
        tap_norm(rec, block.input_layernorm, f"blocks.{i}.ln1")
        tap_attention(
            rec, i, attn, k_scale=attn.key_multiplier, out_scale=block.attn_out_multiplier
        )
        tap_ssd_mixer(
            rec, i, mixer, in_scale=mixer.mup_vector, out_scale=block.ssm_out_multiplier
        )
        tap_resid_mid(rec, i, block.pre_ff_layernorm)
        tap_norm(rec, block.pre_ff_layernorm, f"blocks.{i}.ln2")
        tap_mlp(rec, i, mlp, gate_scale=mlp.gate_multiplier)


def tap_zamba2(model, rec):
    layers = model.model.layers
    tap_ends(rec, model, layers[0], model.model.final_layernorm)
    for i, block in enumerate(layers):
        tap_block(rec, i, block)
        if hasattr(block, "shared_transformer"):
            tap_shared_transformer(rec, i, block.shared_transformer)
            on_output(block.linear, lambda x, i=i: rec.put(f"blocks.{i}.hook_shared_out", x))
            tap_norm(rec, block.mamba_decoder.input_layernorm, f"blocks.{i}.ln_mixer")
            tap_ssd_mixer(rec, i, block.mamba_decoder.mamba)
        else:
            tap_norm(rec, block.input_layernorm, f"blocks.{i}.ln1")
            tap_ssd_mixer(rec, i, block.mamba)


def tap_shared_transformer(rec, index, shared):
    """Zamba2's attention and MLP: projections that are shared, plus this layer's own low-rank ones."""
    at, attn, mlp = f"blocks.{index}", shared.self_attn, shared.feed_forward
    place = attn.layer_dic[index]

    def put_heads(name):
        return lambda x: rec.put(f"{at}.attn.hook_{name}", split_heads(x, attn.head_dim))

    def put_halves(x):
        for name, half in zip(("pre", "pre_linear"), x.chunk(2, dim=-1)):
            rec.put(f"{at}.mlp.hook_{name}", half)

    tap_norm(rec, shared.input_layernorm, f"{at}.ln1")
    for name in "qkv":
        adapters = getattr(attn, f"linear_{name}_adapter_list", None)
        adapter = None if adapters is None else adapters[place]
        on_sum(getattr(attn, f"{name}_proj"), adapter, put_heads(name))
    tap_cut(rec, index, attn.o_proj, attn.head_dim, attn)
    tap_norm(rec, shared.pre_ff_layernorm, f"{at}.ln2")
    on_sum(mlp.gate_up_proj, mlp.gate_up_proj_adapter_list[place], put_halves)
    on_input(mlp.down_proj, lambda x: rec.put(f"{at}.mlp.hook_post", x))
    on_output(mlp, lambda x: rec.put(f"{at}.hook_mlp_out", x))


def on_sum(first, second, act):
    """What two modules that run one after the other give together; of one, if there is no second."""
    if second is None:
        on_output(first, act)
        return
    held = []
    on_output(first, held.append)
    on_output(second, lambda x: act(held.pop() + x))


TAPS = {
    "LlamaForCausalLM": tap_llama,
    "MistralForCausalLM": tap_llama,
    "Qwen2ForCausalLM": tap_llama,
    "Qwen3ForCausalLM": tap_llama,
    "Phi3ForCausalLM": tap_llama,
    "Gemma2ForCausalLM": tap_post_normed,
    "Olmo2ForCausalLM": tap_post_normed,
    "GPTNeoXForCausalLM": tap_gpt_neox,
    "GPT2LMHeadModel": tap_gpt2,
    "MambaForCausalLM": tap_mamba(tap_s6_mixer),
    "FalconMambaForCausalLM": tap_mamba(tap_s6_mixer),
    "Mamba2ForCausalLM": tap_mamba(tap_ssd_mixer),
    "BambaForCausalLM": tap_mixed(tap_ssd_mixer),
    "JambaForCausalLM": tap_mixed(tap_s6_mixer),
    "NemotronHForCausalLM": tap_nemotron_h,
    "FalconH1ForCausalLM": tap_falcon_h1,
    "Zamba2ForCausalLM": tap_zamba2,
    "Llamba": llamba.tap,
}
WITHOUT_ROTARY = {"GPT2LMHeadModel", "NemotronHForCausalLM", "JambaForCausalLM"}


def tap(model, rec):
    TAPS[type(model).__name__](model, rec)


def turns(model):
    """Does the model have rotary positions?"""
    name = type(model).__name__
    return name not in WITHOUT_ROTARY and getattr(model.config, "use_mem_rope", True)


@contextmanager
def listen(model, rec):
    modeling = sys.modules[type(model).__module__]
    wrappers = {
        "eager_attention_forward": listen_to_attention(rec, rotary=turns(model)),
        "causal_conv1d_fn": listen_to_conv(rec),
        "mamba2_chunk_scan": listen_to_ssd(rec),
        "mamba_selective_scan": listen_to_s6(rec),
    }
    with replaced(modeling, **{n: w for n, w in wrappers.items() if hasattr(modeling, n)}):
        yield

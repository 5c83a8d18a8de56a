# tests/golden/golden_tools: the inside of the SSM mixers, by wrapping the functions they call.
"""What the mixers do not expose is recomputed here in plain torch from what they hand to their
scan: dt after softplus and clamp, the map from its definition (O(L^2), nothing chunked) and the
state from the sequential recurrence. Each map is held against the scan's own output: M x + D x."""

import torch
import torch.nn.functional as F

from .record import on_input, on_output, scaled, split_heads


def listen_to_conv(rec):
    """A wrapper for `causal_conv1d_fn`: its input, and its output before the activation."""

    def make(original):
        def conv(x, weight, bias=None, activation=None, **kwargs):
            rec.put_here("mixer.hook_conv_in", x.transpose(1, 2))
            before = original(x, weight, bias, activation=None, **kwargs)
            rec.put_here("mixer.hook_conv", before.transpose(1, 2))
            return original(x, weight, bias, activation=activation, **kwargs)

        return conv

    return make


def check_map(m, x, skip, ssm_out):
    """m [batch, head, q, k], x [batch, pos, head, width]; skip is D x."""
    y = torch.einsum("bhqk,bkhd->bqhd", m, x)
    error = (y + skip - ssm_out).abs().max().item()
    bound = (1e-11 if x.dtype == torch.float64 else 1e-4) * max(1.0, ssm_out.abs().max().item())
    if error > bound:
        raise RuntimeError(f"M x + D x differs from the scan by {error}")


def decay_between(log_decay):
    """[batch, pos] -> [batch, q, k]: sum over k < t <= q, one by one; -inf above the diagonal."""
    length = log_decay.shape[1]
    lower = torch.ones(length, length, dtype=torch.bool, device=log_decay.device).tril()
    terms = log_decay[:, :, None].expand(-1, -1, length)  # [batch, t, k]
    total = terms.masked_fill(~lower.tril(-1), 0).cumsum(dim=1)
    return total.masked_fill(~lower, -torch.inf)


def ssd_map(log_decay, write, b, c):
    """M_ij = (C_i . B_j) exp(sum of log decay over j < t <= i) write_j.

    log_decay, write [batch, pos, head]; b, c [batch, pos, group, d_state] -> [batch, head, q, k]
    """
    heads, groups = log_decay.shape[2], b.shape[2]
    rows = []
    for h in range(heads):
        g = h // (heads // groups)
        cb = torch.einsum("bqn,bkn->bqk", c[:, :, g], b[:, :, g])
        rows.append(cb * decay_between(log_decay[..., h]).exp() * write[:, None, :, h])
    return torch.stack(rows, dim=1)


def ssd_states(log_decay, write, x, b):
    """The recurrence, one position at a time -> [batch, pos, head, d_head, d_state]."""
    heads, groups = log_decay.shape[2], b.shape[2]
    b = b.repeat_interleave(heads // groups, dim=2)
    state, states = 0, []
    for t in range(x.shape[1]):
        update = write[:, t, :, None, None] * x[:, t, :, :, None] * b[:, t, :, None, :]
        state = log_decay[:, t].exp()[:, :, None, None] * state + update
        states.append(state)
    return torch.stack(states, dim=1)


def tap_mixer_ends(rec, index, mixer, width, gate_slice, in_scale=1, out_scale=1):
    """The whole in_proj, the gate in it, the input of out_proj and what is added to the residual."""
    at = f"blocks.{index}.mixer"

    def in_proj(x):
        x = x if isinstance(in_scale, int) else x * in_scale
        rec.put(f"{at}.hook_in_proj", x)
        rec.put(f"{at}.hook_gate", x[..., gate_slice])

    on_output(mixer.in_proj, in_proj)
    heads = (lambda x: x) if width is None else (lambda x: split_heads(x, width))
    on_input(mixer.out_proj, lambda x: rec.put(f"{at}.hook_z", heads(x)))
    on_output(mixer.out_proj, lambda x: rec.put(f"{at}.hook_out", scaled(x, out_scale)))


def listen_to_ssd(rec):
    """A wrapper for `mamba2_chunk_scan`."""

    def make(original):
        def scan(x, dt, a, b, c, **kwargs):
            out = original(x, dt, a, b, c, **kwargs)
            low, high = kwargs["dt_limit"]
            delta = F.softplus(dt + kwargs["dt_bias"]).clamp(low, high).float()
            wide_x, wide_b, wide_c = x.float(), b.float(), c.float()
            log_decay, keeps_state = delta * a, rec.keeps_here("state")
            m = ssd_map(log_decay, delta, wide_b, wide_c) if rec.keeps_here("map") else None
            if m is not None and rec.strict:
                check_map(m, wide_x, kwargs["D"][:, None] * x, out)
            for name, tensor in {
                "ssm_input": x,
                "dt_pre": dt,
                "dt": delta,
                "A": a,
                "B": b,
                "C": c,
                "map": m,
                "y": original(x, dt, a, b, c, **{**kwargs, "D": None}),
                "ssm_out": out,
                "state": ssd_states(log_decay, delta, wide_x, wide_b) if keeps_state else None,
            }.items():
                rec.put_mixer(name, tensor)
            return out

        return scan

    return make


def s6_terms(delta, a, b):
    """A_bar = exp(dt A) and B_bar = dt B, each [batch, pos, channel, d_state]."""
    return (delta[..., None] * a).exp(), delta[..., None] * b[:, :, None, :]


def s6_map(delta, a, b, c):
    """alpha_ij = sum_n C_i[n] exp(A[n] sum of dt over j < t <= i) dt_j B_j[n]

    delta [batch, pos, channel]; a [channel, d_state]; b, c [batch, pos, d_state]
    -> [batch, channel, q, k]
    """
    maps = []
    for channel in range(delta.shape[2]):
        spans = decay_between(delta[..., channel])  # [batch, q, k], -inf where k > q
        kept = torch.isfinite(spans)
        decay = (spans.masked_fill(~kept, 0)[..., None] * a[channel]).exp() * kept[..., None]
        weight = torch.einsum("bqn,bkn,bqkn->bqk", c, b, decay)
        maps.append(weight * delta[:, None, :, channel])
    return torch.stack(maps, dim=1)


def s6_states(a_bar, b_bar, x):
    state, states = 0, []
    for t in range(x.shape[1]):
        state = a_bar[:, t] * state + b_bar[:, t] * x[:, t, :, None]
        states.append(state)
    return torch.stack(states, dim=1)


def listen_to_s6(rec):
    """A wrapper for `mamba_selective_scan` (channels before positions, as its kernel has them)."""

    def make(original):
        def scan(x, dt, a, b, c, **kwargs):
            plain = {**kwargs, "z": None}
            out = original(x, dt, a, b, c, **plain).transpose(1, 2)
            y = original(x, dt, a, b, c, **{**plain, "D": None}).transpose(1, 2)
            delta = F.softplus(dt + kwargs["delta_bias"][:, None]).transpose(1, 2).float()
            xs, bs, cs = (t.transpose(1, 2) for t in (x, b, c))
            wide_x, wide_b, wide_c = xs.float(), bs.float(), cs.float()
            m = s6_map(delta, a, wide_b, wide_c) if rec.keeps_here("map") else None
            if m is not None and rec.strict:
                check_map(m, wide_x[..., None], (kwargs["D"] * xs)[..., None], out[..., None])
            a_bar, b_bar, state = None, None, None
            if rec.keeps_here("state"):
                a_bar, b_bar = s6_terms(delta, a, wide_b)
                state = s6_states(a_bar, b_bar, wide_x)
            for name, tensor in {
                "ssm_input": xs,
                "dt_pre": dt.transpose(1, 2),
                "dt": delta,
                "A": a,
                "B": bs,
                "C": cs,
                "A_bar": a_bar,
                "B_bar": b_bar,
                "map": m,
                "y": y,
                "ssm_out": out,
                "state": state,
            }.items():
                rec.put_mixer(name, tensor)
            return original(x, dt, a, b, c, **kwargs)

        return scan

    return make

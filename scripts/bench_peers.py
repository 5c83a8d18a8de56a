#!/usr/bin/env python3
"""Times what others do for the rows of our benchmarks, and joins both in one table:
bench_peers.py [--only REGEX]... [--json OUT] [--ours FILE]... [--peers FILE]... [--cap SECONDS] [--compiled] [--device cpu]
Peers: transformers, TransformerLens, mamba_ssm, causal_conv1d and PyTorch's own attention, each as it is installed; one that
cannot be imported is called absent, a row that fails says why. --ours reads what the programs of tests/bench wrote with
--json FILE, rows of the same names; --peers reads an earlier --json of this script and times nothing itself. --compiled adds
decoding with a compiled static cache (its first call compiles for half a minute). --device cpu tries the script itself, on toys."""

import argparse
import contextlib
import functools
import gc
import importlib.metadata
import json
import platform
import re
import signal
import statistics
import sys
import time

import torch

from bench_table import cell, join, load

OPTIONS = None  # the command line
CUDA = True  # False tries this script: toy sizes, wall clock
ROWS = []  # (what, function, its arguments), in the order of the table
CEILINGS = {}  # what this card copies and multiplies a second, measured first
MODELS = {}  # at most one: the next kind pushes the last one out


def rows(name, *cases):
    """Files a function under one name a case, `name` filled in with that case."""

    def file(function):
        ROWS.extend((name.format(*case), function, case) for case in cases)
        return function

    return file


# --- clocks -----------------------------------------------------------------------------------------------------------


def device():
    return "cuda" if CUDA else "cpu"


def once_ms(call):
    """One call between two events on an idle device: launch gaps and all."""
    if not CUDA:
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def median_ms(call, repeats, warm=2):
    for _ in range(warm):
        call()
    return statistics.median(once_ms(call) for _ in range(repeats))


def replay_ms(call, calls):
    """A call's time on the GPU: `calls` of them in one graph, so that no launch is waited for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    return median_ms(graph.replay, 20) / calls


def kernel(call, peer, limit_ms):
    """Two figures: `called_ms` as Python calls it, `ms` what the GPU works."""
    called = median_ms(call, 20, warm=3)
    ms = replay_ms(call, 1 if called > 4 else 10) if CUDA else called
    return {"ms": ms, "called_ms": called, "peer": peer, "limit_ms": limit_ms}


def whole(call, peer, limit_ms, repeats=5):
    """A model's call, and the memory at its peak, weights included."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    ms = median_ms(call, repeats, warm=1)
    peak = torch.cuda.max_memory_allocated() / 2**30 if CUDA else None
    return {"ms": ms, "called_ms": ms, "peer": peer, "limit_ms": limit_ms, "peak_gib": peak}


def measure_ceilings():
    size = 8192 if CUDA else 256
    a, b = (torch.randn(size, size, device=device(), dtype=torch.bfloat16) for _ in range(2))
    CEILINGS["flops"] = 2 * size**3 / (1e-3 * median_ms(lambda: a @ b, 20))
    source = torch.randn(2**30 if CUDA else 2**20, device=device(), dtype=torch.bfloat16)
    target = torch.empty_like(source)
    CEILINGS["bytes"] = 2 * source.nbytes / (1e-3 * median_ms(lambda: target.copy_(source), 20))
    # Special-function units: 16 results a clock in each multiprocessor.
    CEILINGS["exps"] = 132 * 16 * 1.98e9


def limit(flops=0, moved=0, exps=0):
    return 1e3 * max(flops / CEILINGS["flops"], moved / CEILINGS["bytes"], exps / CEILINGS["exps"])


# --- what the rows share ----------------------------------------------------------------------------------------------


def randn(*shape, dtype=torch.bfloat16, grad=False):
    return torch.randn(*shape, device=device(), dtype=dtype, requires_grad=grad)


def version(package):
    return f"{package} {importlib.metadata.version(package)}"


def with_backward(forward, leaves):
    """Forward and every leaf's gradient; the gradient of the output is fixed."""
    grad = torch.randn_like(forward())
    return lambda: torch.autograd.grad(forward(), leaves, grad)


def drop_models():
    MODELS.clear()
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()


def model(kind, make):
    if kind not in MODELS:
        drop_models()
        MODELS[kind] = make()
    return MODELS[kind]


@contextlib.contextmanager
def uninstalled(*packages):
    """transformers chooses a scan's kernels while it imports the family, so packages it must not use are hidden then."""
    kept = {package: sys.modules.get(package) for package in packages}
    sys.modules.update(dict.fromkeys(packages))
    try:
        yield
    finally:
        for package, module in kept.items():
            del sys.modules[package]
            if module:
                sys.modules[package] = module


def random_model(config):
    import transformers

    with torch.device(device()):
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def tokens(config, batch, length):
    return torch.randint(config.vocab_size, (batch, length), device=device())


# --- transformers: a Transformer --------------------------------------------------------------------------------------


def llama():
    import transformers

    full = dict(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
                num_key_value_heads=8, head_dim=128)
    toy = dict(vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
               num_key_value_heads=1, head_dim=16)
    return model("llama", lambda: random_model(transformers.LlamaConfig(
        **(full if CUDA else toy), rms_norm_eps=1e-5, max_position_embeddings=131072, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=None, pad_token_id=0, attn_implementation="sdpa",
        rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})))


def weights(m):
    return sum(p.numel() for name, p in m.named_parameters() if "embed_tokens" not in name)


def llama_flops(m, batch, length):
    c = m.config
    attention = 2 * length * length * c.num_attention_heads * c.head_dim * c.num_hidden_layers  # half of 4 L^2: causal
    return batch * (2 * weights(m) * length + attention)


@rows("llama-8b forward {}x{}", (1, 512), (1, 2048), (1, 8192), (1, 32768), (32, 1024))
def llama_forward(batch, length):
    """Logits of every position, as transformers gives them when nothing is said."""
    m = llama()
    m.set_attn_implementation("sdpa")
    ids = tokens(m.config, batch, length if CUDA else 32)
    return whole(lambda: m(ids, use_cache=False), version("transformers"), limit(flops=llama_flops(m, batch, length)))


@rows("llama-8b forward + entropy from eager maps {}x{}", (1, 2048), (1, 8192))
def llama_eager_entropy(batch, length):
    """The only way to every head's entropy there: maps of L x L, kept for all layers."""
    m = llama()
    m.set_attn_implementation("eager")
    ids = tokens(m.config, batch, length if CUDA else 32)

    def entropies():
        maps = (p.float() for p in m(ids, use_cache=False, output_attentions=True, logits_to_keep=1).attentions)
        return [-(p * (p + 1e-12).log()).sum(-1).mean(-1) for p in maps]

    return whole(entropies, version("transformers"), limit(flops=llama_flops(m, batch, length)), repeats=3)


def decode(length, new, **cache):
    """Milliseconds a token after the first: the prompt's share is taken off."""
    m = llama()
    m.set_attn_implementation("sdpa")
    ids = tokens(m.config, 1, length if CUDA else 16)
    say = lambda count: m.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
                                   do_sample=False, **cache)
    ms = (median_ms(lambda: say(new), 3, warm=1) - median_ms(lambda: say(1), 3, warm=1)) / (new - 1)
    whole_bytes = sum(p.nbytes for p in m.parameters())
    return {"ms": ms, "called_ms": ms, "peer": version("transformers"), "limit_ms": limit(moved=whole_bytes)}


@rows("llama-8b decode 1x{}+{}", (512, 64))
def llama_decode(length, new):
    return decode(length, new)


@rows("llama-8b decode 1x{}+{} static cache, compiled", (512, 64))
def llama_decode_compiled(length, new):
    return decode(length, new, cache_implementation="static")


# --- transformers and TransformerLens: SSMs without kernels -----------------------------------------------------------


@rows("mamba2 8 layers forward 1x{}", (512,), (2048,), (8192,))
def mamba2_forward(length):
    """transformers' readable path: what is left where mamba_ssm is not installed, or a map is wanted."""
    import transformers

    full = dict(hidden_size=4096, num_heads=128, head_dim=64, state_size=128, n_groups=1, chunk_size=256, vocab_size=32768)
    toy = dict(hidden_size=64, num_heads=8, head_dim=16, state_size=16, n_groups=1, chunk_size=16, vocab_size=512)
    with uninstalled("mamba_ssm", "causal_conv1d"):
        m = model("mamba2", lambda: random_model(transformers.Mamba2Config(
            **(full if CUDA else toy), expand=2, num_hidden_layers=8, conv_kernel=4, tie_word_embeddings=False,
            bos_token_id=0, eos_token_id=0, pad_token_id=0)))
    ids = tokens(m.config, 1, length if CUDA else 32)
    peer = version("transformers") + " without kernels"
    return whole(lambda: m(ids, use_cache=False), peer, limit(flops=2 * weights(m) * length), repeats=3)


@rows("mamba-130m map of one layer 1x{}", (256,), (512,), (2048,))
def mamba_map(length):
    """TransformerLens' compute_ssm_effective_attention of layer 0; the forward before it is not counted."""
    with uninstalled("mamba_ssm", "causal_conv1d"):
        bridge = model("mamba-130m", mamba_bridge)
    ids = torch.randint(512, (1, length if CUDA else 16), device=device())
    mixer = lambda name: name.startswith("blocks.0.mixer")
    _, cache = bridge.run_with_cache(ids, use_cache=False, names_filter=mixer)
    before = torch.cuda.memory_allocated() / 2**30 if CUDA else 0
    found = whole(lambda: cache.compute_ssm_effective_attention(layer=0), version("transformer_lens"), None)
    return found | {"peak_gib": found["peak_gib"] and found["peak_gib"] - before}


def mamba_bridge():
    import transformers
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    config = transformers.MambaConfig(vocab_size=512, hidden_size=768 if CUDA else 32, num_hidden_layers=1, state_size=16)
    with torch.device(device()):
        plain = transformers.AutoModelForCausalLM.from_config(config).eval()
    bridge = build_bridge_from_module(plain, "MambaForCausalLM", hf_config=config)
    for block in bridge.blocks:
        block.mixer.eager_scan = True  # or its hooks never fire with transformers from 5.15 on
    return bridge


# --- sweeps: what a plain loop pays for a head ---------------------------------------------------------------------------


@rows("llama-8b sweep a head {}x{}", (64, 256))
def lens_sweep(batch, length):
    """TransformerLens' run_with_hooks with one head's z zeroed: one forward of all prompts a head."""
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    def bridge():
        plain = llama()
        plain.set_attn_implementation("eager")  # as its own loader sets it
        return build_bridge_from_module(plain, "LlamaForCausalLM", hf_config=plain.config)

    m = model("llama bridge", bridge)
    config = MODELS["llama bridge"].original_model.config
    ids = tokens(config, batch if CUDA else 2, length if CUDA else 32)

    def cut(z, hook):
        z[:, :, 1] = 0
        return z

    site = f"blocks.{config.num_hidden_layers // 2}.attn.hook_z"
    return whole(lambda: m.run_with_hooks(ids, fwd_hooks=[(site, cut)]), version("transformer_lens"), None, repeats=3)


@rows("falcon-mamba-7b forward {}x{}", (64, 240))
def falcon_mamba_forward(batch, length):
    """With mamba_ssm's and causal_conv1d's kernels where they can be imported: a plain loop pays this a head and choice."""
    import transformers

    full = dict(hidden_size=4096, num_hidden_layers=64, state_size=16, vocab_size=65024)
    toy = dict(hidden_size=64, num_hidden_layers=2, state_size=4, vocab_size=512)
    m = model("falcon-mamba", lambda: random_model(transformers.FalconMambaConfig(
        **(full if CUDA else toy), expand=2, conv_kernel=4, tie_word_embeddings=False, use_mambapy=False)))
    return mamba_loop(m, batch, length)


@rows("mamba2-8b forward {}x{}", (64, 240))
def mamba2_8b_forward(batch, length):
    import transformers

    full = dict(hidden_size=4096, num_heads=128, head_dim=64, state_size=128, n_groups=8, num_hidden_layers=64, vocab_size=32768)
    toy = dict(hidden_size=64, num_heads=8, head_dim=16, state_size=16, n_groups=1, num_hidden_layers=2, vocab_size=512)
    m = model("mamba2-8b", lambda: random_model(transformers.Mamba2Config(
        **(full if CUDA else toy), expand=2, conv_kernel=4, chunk_size=256, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=0, pad_token_id=0)))
    return mamba_loop(m, batch, length)


def mamba_loop(m, batch, length):
    ids = tokens(m.config, batch if CUDA else 2, length if CUDA else 32)
    flops = 2 * sum(p.numel() for p in m.parameters()) * ids.numel()
    return whole(lambda: m(ids, use_cache=False), version("transformers"), limit(flops=flops), repeats=3)


# --- mamba_ssm and causal_conv1d --------------------------------------------------------------------------------------


def selective_scan(width, length, grad):
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    u, delta, z = (randn(1, width, length, grad=grad) for _ in range(3))
    delta.data.abs_().mul_(0.1)
    A = (-torch.rand(width, 16, device=device()) * 16 - 0.5).requires_grad_(grad)
    B, C = (randn(1, 16, length, grad=grad) for _ in range(2))
    D = randn(width, dtype=torch.float32, grad=grad)
    return lambda: selective_scan_fn(u, delta, A, B, C, D, z), (u, delta, A, B, C, D, z)


SCANS = (8192, 2048), (8192, 8192), (1536, 2048), (1536, 8192)


@rows("selective_scan {}x16 1x{} forward", *SCANS)
def selective_scan_forward(width, length):
    call, _ = selective_scan(width, length, grad=False)
    # In: u, delta, z, B, C; out: y. One exponential an entry of the state.
    bound = limit(moved=2 * length * (4 * width + 32), exps=length * width * 16)
    return kernel(call, version("mamba_ssm"), bound)


@rows("selective_scan {}x16 1x{} forward+backward", *SCANS)
def selective_scan_backward(width, length):
    call, leaves = selective_scan(width, length, grad=True)
    # Backward reads u, delta, z, dy and writes three gradients; its exponentials are those of the forward again.
    bound = limit(moved=2 * length * (11 * width + 96), exps=2 * length * width * 16)
    with torch.enable_grad():
        return kernel(with_backward(call, leaves), version("mamba_ssm"), bound)


def ssd(heads, d_head, d_state, groups, chunk, length, grad):
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    x = randn(1, length, heads, d_head, grad=grad)
    dt = (torch.rand(1, length, heads, device=device()) * 0.1).bfloat16().requires_grad_(grad)
    A = (-torch.rand(heads, device=device()) - 0.5).requires_grad_(grad)
    B, C = (randn(1, length, groups, d_state, grad=grad) for _ in range(2))
    return lambda: mamba_chunk_scan_combined(x, dt, A, B, C, chunk), (x, dt, A, B, C)


def ssd_limit(heads, d_head, d_state, groups, length, grad):
    """Forward: x, dt, B, C in, y out. Backward reads them and dy again and writes their gradients."""
    x, dt, BC = heads * d_head, heads, 2 * groups * d_state
    return limit(moved=2 * length * (5 * x + 3 * dt + 3 * BC if grad else 2 * x + dt + BC))


SHAPES = (80, 64, 128, 1, 256), (32, 128, 64, 32, 128)
SSDS = [shape + (length,) for shape in SHAPES for length in (2048, 8192, 32768)]


@rows("ssd_scan {0}x{1} state {2} 1x{5} forward", *SSDS)
def ssd_forward(heads, d_head, d_state, groups, chunk, length):
    call, _ = ssd(heads, d_head, d_state, groups, chunk, length, grad=False)
    return kernel(call, version("mamba_ssm"), ssd_limit(heads, d_head, d_state, groups, length, grad=False))


@rows("ssd_scan {0}x{1} state {2} 1x{5} forward+backward", *SSDS)
def ssd_backward(heads, d_head, d_state, groups, chunk, length):
    call, leaves = ssd(heads, d_head, d_state, groups, chunk, length, grad=True)
    with torch.enable_grad():
        return kernel(with_backward(call, leaves), version("mamba_ssm"),
                      ssd_limit(heads, d_head, d_state, groups, length, grad=True))


def conv1d(width, length, grad):
    """Channels last, as a projection leaves them: [1, length, width] seen as [1, width, length]."""
    from causal_conv1d import causal_conv1d_fn

    x = randn(1, length, width, grad=grad)
    weight, bias = randn(width, 4, grad=grad), randn(width, grad=grad)
    return lambda: causal_conv1d_fn(x.transpose(1, 2), weight, bias, activation="silu"), (x, weight, bias)


CONVS = [(width, length) for width in (8192, 5376) for length in (2048, 8192, 32768)]


@rows("causal_conv1d {} 1x{} forward", *CONVS)
def conv1d_forward(width, length):
    call, _ = conv1d(width, length, grad=False)
    return kernel(call, version("causal_conv1d"), limit(moved=4 * length * width))


@rows("causal_conv1d {} 1x{} forward+backward", *CONVS)
def conv1d_backward(width, length):
    call, leaves = conv1d(width, length, grad=True)
    with torch.enable_grad():
        return kernel(with_backward(call, leaves), version("causal_conv1d"), limit(moved=10 * length * width))  # x, y; x, dy, dx


# --- PyTorch's attention ----------------------------------------------------------------------------------------------


@rows("attention {0} 32x8x128 1x{1}", *((name, length) for name in ("flash", "cudnn") for length in (2048, 8192, 32768)))
def attention(name, length):
    """32 query heads, 8 key heads of 128, causal."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backend = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}[name]
    heads, length = (32, length) if CUDA else (4, 64)
    q, k, v = (randn(1, count, length, 128) for count in (heads, heads // 4, heads // 4))

    def call():
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    return kernel(call, f"torch {torch.__version__}", limit(flops=2 * length * length * heads * 128))


# --- running ----------------------------------------------------------------------------------------------------------


class TooLong(Exception):
    pass


def run_row(what, function, case, cap):
    """The row, or why there is none. Never a guess."""

    def ring(*_):
        raise TooLong(f"over {cap:g} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, cap)
    try:
        return {"what": what} | function(*case)
    except ImportError as e:
        return {"what": what, "why": f"absent: {e}"}
    except TooLong as e:
        return {"what": what, "why": f"too long: {e}"}
    except torch.OutOfMemoryError as e:
        return {"what": what, "why": f"out of memory: {str(e).split(' of which')[0]}"}
    except Exception as e:  # a peer's own fault is a finding, and the other rows go on
        return {"what": what, "why": f"failed: {type(e).__name__}: {' '.join(str(e).split())[:300]}"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run_rows(only, cap):
    measure_ceilings()
    print(f"{card()}: {CEILINGS['flops'] / 1e12:.0f} TFLOP/s at 8192^3 bf16, copies {CEILINGS['bytes'] / 1e12:.2f} TB/s", flush=True)
    found, last = [], None
    for what, function, case in ROWS:
        if only and not any(re.search(pattern, what) for pattern in only):
            continue
        if function is llama_decode_compiled and not OPTIONS.compiled:
            continue
        if function is not last and not function.__name__.startswith(("llama", "mamba", "lens", "falcon")):
            drop_models()
        last = function
        start = time.perf_counter()
        with torch.no_grad():
            found.append(run_row(what, function, case, cap))
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()
        print(f"[{time.perf_counter() - start:5.1f} s] {what}: {cell(found[-1])}", file=sys.stderr, flush=True)
    return found


@functools.cache
def card():
    return f"{torch.cuda.get_device_name() if CUDA else 'cpu, toys'}, Python {platform.python_version()}, torch {torch.__version__}"


def main():
    global CUDA, OPTIONS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="REGEX", help="rows whose name has a match of any")
    parser.add_argument("--json", metavar="OUT")
    parser.add_argument("--ours", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--peers", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--cap", type=float, default=60, help="seconds a row may take")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    OPTIONS = parser.parse_args()
    CUDA = OPTIONS.device == "cuda"
    torch.manual_seed(1)
    ours = list(load(OPTIONS.ours))
    peers = list(load(OPTIONS.peers)) if OPTIONS.peers else run_rows(OPTIONS.only, OPTIONS.cap)
    if OPTIONS.json:
        with open(OPTIONS.json, "w", encoding="utf-8") as f:
            json.dump({"card": None if OPTIONS.peers else card(), "date": time.strftime("%Y-%m-%d"), "ceilings": CEILINGS,
                       "rows": peers}, f, indent=1)
    print("\n".join(join(ours, peers)))


if __name__ == "__main__":
    main()

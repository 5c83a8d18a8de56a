"""The table of our benchmarks beside their peers: which rows belong together, what must hold, and how it ended."""

import json
import re

# A token in at most 1 / 0.8 of what reading every weight once takes.
DECODE = r"llama 8b decode 1x512(?!.* compiled)\b.*"
# Names as key() writes them. Ours, the peer's row that stands beside it, and the share of the peer's time that we may take.
GOALS = [
    (r"llama 8b forward 1x512", r"\g<0>", 0.65),
    (r"llama 8b forward 1x2048", r"\g<0>", 0.82),
    (r"llama 8b forward 1x8192", r"\g<0>", 0.85),
    (r"llama 8b forward 1x32768", r"\g<0>", 0.75),
    (r"llama 8b forward 32x1024", r"\g<0>", 0.88),
    (r"llama 8b forward \+ statistics 1x512", r"llama 8b forward 1x512", None),
    (r"llama 8b forward \+ statistics (1x\d+)", r"llama 8b forward \1", 1.0),
    (r"attention stats 32x8x128 1x(\d+)( 16 segments)?", r"attention cudnn 32x8x128 1x\1", None),
    (r"selective scan \d+x16 1x\d+ forward", r"\g<0>", 0.5),
    (r"ssd scan .* forward", r"\g<0>", 0.8),
    (r"causal conv1d .* forward", r"\g<0>", 1.0),
    (r".* forward\+backward", r"\g<0>", 1.0),
    (r"mamba2 8 layers forward \+ entropy 1x512", r"mamba2 8 layers forward 1x512", 1 / 30),
    (r"mamba2 8 layers forward \+ entropy (1x\d+)", r"mamba2 8 layers forward \1", 1 / 60),
    (r"mamba2 8 layers forward \+ statistics (1x\d+)", r"mamba2 8 layers forward \1", None),
    (r"llama 8b sweep a head 64x256", r"\g<0>", 1 / 3),
    (r"s6 map stats 1536x16 (1x\d+)( 16 segments)?", r"mamba 130m map of one layer \1", None),
    (DECODE, r"llama 8b decode 1x512+64", None),
    (r"(.* forward \d+x\d+) last logits", r"\1", None),
    (r"(.* forward \d+x\d+) idle hooks", r"ours: \1", 1.01),  # beside a row of our own
]
# Goals in milliseconds of our own.
GOALS_MS = [
    (r"attention stats 32x8x128 1x32768( 16 segments)?", 8.5),
    (r"s6 map last row 8192x16 1x32768", 20.0),
    (r"s6 map stats 1536x16 1x512( 16 segments)?", 1.0),
    (r"s6 map stats 1536x16 1x2048( 16 segments)?", 5.0),
]


def key(what):
    """A row's name, however it is spaced and hyphenated."""
    return " ".join(re.findall(r"[a-z0-9.+/]+", re.sub(r"(?<=\d) x (?=\d)", "x", what.lower())))


def beside(what):
    """The name of the peer's row for one of ours, and the share of it that we may take."""
    for ours, peer, share in GOALS:
        found = re.fullmatch(ours, key(what))
        if found:
            return found.expand(peer), share
    return key(what), None


def goal_of(what, ms, share, peer):
    """The goal in words, and how it ended once we have a figure."""
    peer_ms, value = gpu_ms(peer), ms
    most = next((most for name, most in GOALS_MS if re.fullmatch(name, key(what))), None)
    if most:
        text = f"{most:g} ms"
    elif re.fullmatch(DECODE, key(what)) and peer_ms:
        most = peer["limit_ms"] / 0.8
        text = f"{most:.2f} ms"
    elif share:
        most, text, value = share, f"{share:.3g} x", ms / peer_ms if ms and peer_ms else None
    else:
        return "-"
    return f"<= {text}" + ("" if not value else ", met" if value <= most else ", MISSED")


def number(value):
    return f"{value:.4g}" if value and value < 1 else f"{value:.2f}" if value else "-"


def gpu_ms(row):
    """What the GPU works, where a row says it, else what was timed."""
    return row.get("replayed_ms") or row.get("ms") if row else None


def cell(row):
    if row is None:
        return "-"
    if "ms" not in row:
        return row["why"].split(":")[0]
    called = row["ms"] if "replayed_ms" in row else row.get("called_ms")
    return number(gpu_ms(row)) + (f" ({number(called)} called)" if called and called > 1.05 * gpu_ms(row) else "")


def peaks(our, peer):
    """GiB at the peak: ours / theirs."""
    both = [row and (row.get("peak_gib") or row.get("added_gib")) for row in (our, peer)]
    return " / ".join("-" if not peak else f"{peak:.1f}" if peak > 1 else f"{peak:.3f}" for peak in both) if any(both) else "-"


def join(ours, peers):
    """Lines of the table: every row that either side has, the peers' order first."""
    mine = {key(row["what"]): row for row in ours}
    theirs = {key(row["what"]): row for row in peers}
    theirs |= {f"ours: {name}": row | {"peer": "ours"} for name, row in mine.items()}
    shown = set()
    lines = ["| what | ours ms | peer ms | ours / peer | goal | limit ms | peak GiB: ours / peer | peer |", "| --- " * 8 + "|"]

    def line(what):
        peer_name, share = beside(what)
        our, peer = mine.get(key(what)), theirs.get(peer_name)
        ms, peer_ms = gpu_ms(our), gpu_ms(peer)
        limit_ms = (our or {}).get("limit_ms") or (peer or {}).get("limit_ms")
        ratio = f"{ms / peer_ms:.3f}" if ms and peer_ms else "-"
        shown.add(key(what))
        cells = [what, cell(our), cell(peer), ratio, goal_of(what, ms, share, peer), number(limit_ms), peaks(our, peer),
                 (peer or {}).get("peer", "-")]
        lines.append(f"| {' | '.join(cells)} |")

    def those_beside(name):
        line(name)
        for our in ours:
            if key(our["what"]) not in shown and beside(our["what"])[0].removeprefix("ours: ") == key(name):
                line(our["what"])

    for row in peers + ours:
        if key(row["what"]) not in shown:
            those_beside(row["what"])
    return lines + reasons(peers)


def reasons(peers):
    """Why rows have no figure, each reason once."""
    rows = {}
    for peer in peers:
        if "why" in peer:
            rows.setdefault(peer["why"], []).append(peer["what"])
    return [""] * bool(rows) + [f"- {why} ({'; '.join(whats)})" for why, whats in rows.items()]


def load(files):
    for file in files:
        with open(file, encoding="utf-8") as f:
            held = json.load(f)
        yield from (held["rows"] if isinstance(held, dict) else held)

#!/usr/bin/env python3
"""Opens the report's pages in Debian's headless Chromium and looks: no complaint and no request, figures as in the JSON, keys and
clicks, maps of 4096 tokens. Status 77 (skipped) without Chromium.

    check_pages.py WRITE_SAMPLE_REPORTS HEADLENS|none SCREENSHOTS [unittest's arguments]"""

import base64
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import zlib

import chromium

SAMPLES = ["small", "channels", "hybrid", "large", "whole", "bare", "empty"]


def number(value):
    """A figure as the pages show it (common.js), by Python's own rounding."""
    if value is None:
        return "–"
    text = f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"
    return (text[1:] if float(text) == 0 and text[0] == "-" else text).replace("-", "−")


def as_shown(text):
    return float(text.replace("−", "-"))


class Maps:
    """maps.json, read by another way than the page's."""

    def __init__(self, path):
        self.document = json.loads(pathlib.Path(path).read_text())
        self.tile = self.document["tile"]

    def entry(self, m, i, j, level=0):
        """An entry of a level, in the level's own rows and columns."""
        one = self.document["maps"][m]
        of = one["levels"][level]
        row, column = i // self.tile, j // self.tile
        raw = zlib.decompress(base64.b64decode(of["tiles"][row * (row + 1) // 2 + column]))
        count, width = len(raw) // 2, min(self.tile, of["size"] - column * self.tile)
        at = i % self.tile * width + j % self.tile
        return int.from_bytes([raw[at], raw[count + at]], "big", signed=True) * one["scale"]

    def last_row(self, m):
        one = self.document["maps"][m]
        raw = zlib.decompress(base64.b64decode(one["last_row"]))
        count = len(raw) // 2
        return [int.from_bytes([raw[k], raw[count + k]], "big", signed=True) * one["scale"] for k in range(count)]


def numbers_of(document, found=None):
    """Every number of a document: as text, as the pages round it, and those inside its strings."""
    found = set() if found is None else found
    if isinstance(document, dict):
        for value in document.values():
            numbers_of(value, found)
        if "layer" in document and "head" in document:  # heads' names
            found |= {f"{document['layer']}.{first}" for first in document.get("channels", [document["head"]])}
    elif isinstance(document, list):
        for value in document:
            numbers_of(value, found)
    elif isinstance(document, bool) or document is None:
        pass
    elif isinstance(document, (int, float)):
        document = abs(document)  # signs are looked for elsewhere
        found |= {str(document), number(document), f"{document:.2f}", f"{document:,}"}
    elif isinstance(document, str) and len(document) < 2000:
        found |= set(re.findall(r"\d[\d.,]*\d|\d", document))
    return found


# What stands on the pages besides results: "95 %", marks of axes from 0 to 1.
FIXED = {"95", "5", "0", "1", "0.5", "0.25", "0.75", "0.000", "0.00", "1.00"}

# The smallest contrast of any text with what is behind it, and the text; large text may have less (WCAG 2.1, 1.4.3).
CONTRAST = """(() => {
  const parse = c => { const m = c.match(/[\\d.]+/g)?.map(Number) ?? [0, 0, 0, 0]; return m.length < 4 ? [...m.slice(0, 3), 1] : m; };
  const over = (top, under) => under.map((c, k) => k < 3 ? top[3] * top[k] + (1 - top[3]) * c : 1);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.background = "Canvas";
  const sheet = parse(getComputedStyle(probe).backgroundColor);  // under everything: white, or the dark's own
  probe.remove();
  const behind = e => { const layers = []; for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor)); return layers.reverse().reduce((under, top) => over(top, under), sheet); };
  let worst = [99, ""];
  for (const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walker.nextNode();) {
    const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    if (!text || e.closest("script, title, [hidden], .hide") || !e.checkVisibility()) continue;
    const style = getComputedStyle(e), inSvg = e.closest("svg"), back = behind(inSvg ? inSvg.parentElement : e);
    const a = light(over(parse(inSvg ? style.fill : style.color), back)), b = light(back), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst[0]) worst = [ratio, text.slice(0, 40)];
  }
  return worst;
})()"""

# Text of all that is shown, without the tokens of prompts.
SHOWN = """(() => { const words = []; for (const w = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); w.nextNode();) {
  const e = w.currentNode.parentElement; if (!e.closest("script, [hidden], .strip, .axis, code")) words.push(w.currentNode.textContent); } return words.join(" \\n "); })()"""


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="headlens-pages-"))
        cls.addClassCleanup(lambda: __import__("shutil").rmtree(cls.folder, ignore_errors=True))
        subprocess.run([SAMPLER, cls.folder], check=True, stdout=subprocess.DEVNULL)
        if HEADLENS:
            def headlens(*arguments):
                subprocess.run([HEADLENS, *arguments, "--quiet", "--device", "cpu"], check=True, stdout=subprocess.DEVNULL)
            headlens("find", "zoo:hybrid", "--task", "mcq:options=4,n=64", "--out", cls.folder / "found", "--curve", "kv:pairs={},n=32", "--sizes", "2,4,8")
            headlens("compare", "zoo:transformer", "zoo:mamba2", "--task", "mcq:options=4,n=32", "--out", cls.folder / "compared")
            headlens("reproduce", "C7", "--models", "zoo:transformer", "--dictionaries", "kv:pairs={},n=16", "--out", cls.folder / "study")
            headlens("map", "zoo:mamba2", "--text", "A. camp B. pen", "--heads", "1.5", "--out", cls.folder / "mapped.html")
        cls.browser = chromium.Browser(chromium.find())
        cls.addClassCleanup(cls.browser.close)
        SHOTS.mkdir(parents=True, exist_ok=True)

    def open(self, name, **how):
        page = chromium.Page(self.browser, self.folder / name, **how)
        self.addCleanup(page.close)
        return page

    def quiet(self, page):
        self.assertEqual(page.complaints(), [], page.url)
        self.assertEqual(page.requests(), [], page.url)

    def all_pages(self):
        pages = [f"{name}.html" for name in SAMPLES]
        return pages + (["found/report.html", "compared/compare.html", "mapped.html", "study/study.html"] if HEADLENS else [])

    def scores(self, name="small"):
        return json.loads((self.folder / f"{name}.scores.json").read_text())

    def json_beside(self, name):
        folder, stem = (self.folder / name).parent, name.split("/")[-1].removesuffix(".html")
        files = {"found/report.html": ["scores", "maps"], "compared/compare.html": ["compare"], "mapped.html": ["mapped"], "study/study.html": ["study"]}.get(name, [f"{stem}.scores", f"{stem}.maps"])
        return [json.loads((folder / f"{file}.json").read_text()) for file in files]

    def test_open_light_and_dark_without_a_word(self):
        for name in self.all_pages():
            for dark in (False, True):
                with self.subTest(page=name, dark=dark):
                    page = self.open(name, dark=dark)
                    self.assertNotEqual(page.run("document.title"), "")
                    self.assertEqual(page.run("matchMedia('(prefers-color-scheme: dark)').matches"), dark)
                    page.screenshot(SHOTS / f"{name.replace('/', '-').removesuffix('.html')}-{'dark' if dark else 'light'}.png", whole=True)
                    self.quiet(page)

    def test_text_can_be_read_in_light_and_dark(self):
        for name in self.all_pages():
            for dark in (False, True):
                with self.subTest(page=name, dark=dark):
                    ratio, text = self.open(name, dark=dark).run(CONTRAST)
                    self.assertGreaterEqual(ratio, 4.5, text)

    def test_dark_that_comes_later_is_followed(self):
        page = self.open("channels.html")
        # Pixels of the map that have the colour of positive entries, as the page now defines it.
        look = """(() => { const c = document.querySelector('#right canvas.plot'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, own = css('--positive').split(',');
          let n = 0; for (let k = 0; k < d.length; k += 4) if (d[k + 3] > 100 && own.every((v, i) => Math.abs(v - d[k + i]) < 6)) ++n; return n; })()"""
        light, back = page.run(look), page.run("getComputedStyle(document.body).backgroundColor")
        self.assertGreater(light, 1000)
        page.dark(True)
        page.settle()
        self.assertNotEqual(page.run("getComputedStyle(document.body).backgroundColor"), back)
        self.assertGreater(page.run(look), 1000)
        self.quiet(page)

    def test_narrow_windows_do_not_scroll_sideways(self):
        for name in self.all_pages():
            with self.subTest(page=name):
                page = self.open(name, width=390, height=844, scale=2)
                self.assertLessEqual(page.run("document.documentElement.scrollWidth"), 390)
                page.screenshot(SHOTS / f"{name.replace('/', '-').removesuffix('.html')}-narrow.png", whole=True)

    def test_every_number_shown_is_in_the_json(self):
        for name in self.all_pages():
            with self.subTest(page=name):
                page = self.open(name)
                documents = self.json_beside(name)
                allowed = numbers_of(documents) | FIXED
                if name.startswith("study"):  # its paper; seconds and memory have a rounding of their own
                    allowed |= {"2504.18574"} | {f"{v:.{d}f}" for text in list(allowed) if re.fullmatch(r"[\d.]+", text) and text.count(".") < 2
                                                 for v in (float(text), float(text) / 2 ** 30) for d in (0, 1)}
                for m, one in enumerate(documents[-1].get("maps", [])):  # ends of scales, and entries read most
                    digits = page.run(f"tiled[{m}].digits")
                    known = Maps.__new__(Maps)
                    known.document, known.tile = documents[-1], documents[-1]["tile"]
                    allowed |= {f"{v:.{digits}f}".replace("-", "") for v in [one["lowest"], one["highest"], *known.last_row(m)]}
                    allowed |= {str(k) for k in range(one["size"])}  # positions
                layers = {str(k) for k in range(64)}  # rows of the grid are numbered, lists have places
                shown = page.run(SHOWN)
                for text in re.findall(r"(?<![\w.])\d(?:[\d,.]*\d)?", shown):
                    if text not in allowed | layers:
                        at = shown.find(text)
                        self.fail(f"{text} in ...{shown[max(0, at - 60):at + 40]}")

    def figures_shown(self, page):
        return dict(page.run("[...document.querySelectorAll('#detail tr')].map(r => [r.cells[0].textContent, r.cells[1].textContent])"))

    def expect_figures(self, page, head):
        shown = self.figures_shown(page)
        ci = head.get("accuracy_drop_ci")
        uniform = lambda key: f" (uniform {number(head[key])})" if key in head else ""
        self.assertEqual(shown["accuracy drop"], number(head.get("accuracy_drop")) + (f" (95 % {number(ci[0])} to {number(ci[1])})" if ci else ""))
        for words, key in {"accuracy without it": "accuracy", "cut at the last token only": "drop_at_query", "cut before it only": "drop_elsewhere",
                           "cut in segments only": "drop_in_segments", "segments unread at the last": "drop_reading_segments",
                           "log-probability drop, nats": "logprob_drop", "entropy, nats": "entropy", "entropy, normalised": "entropy_norm",
                           "row mass": "row_mass"}.items():
            self.assertEqual(shown[words], number(head.get(key)), f"{words} of {head['layer']}.{head['head']}")
        for key in ("gather", "aggregate", "target"):
            self.assertEqual(shown[key], number(head.get(key)) + uniform(key + "_uniform"))
        self.assertEqual(shown["near ties"], str(head["near_ties"]))

    def test_every_figure_of_heads_is_that_of_scores_json(self):
        for name in ["small", "channels", "hybrid", "large"]:
            page, scores = self.open(f"{name}.html"), self.scores(name)
            for head in scores["heads"][::max(1, len(scores["heads"]) // 7)]:
                with self.subTest(page=name, head=(head["layer"], head["head"])):
                    page.click(f'[data-head="{head["layer"]}.{head["head"]}"].cell')
                    self.expect_figures(page, head)
            for key in ["accuracy_drop", "entropy_norm", "gather", "aggregate", "target"]:
                page.click(f"#figures [data-key={key}]")
                for head in scores["heads"][::max(1, len(scores["heads"]) // 13)]:
                    words = page.run(f"""document.querySelector('[data-head="{head['layer']}.{head['head']}"].cell').ariaLabel""")
                    self.assertRegex(words, f" {re.escape(number(head.get(key)))}(,|$)", f"{key} in the grid")
            self.quiet(page)

    def test_base_and_circuit_are_those_of_scores_json(self):
        for name in ("small", "hybrid"):
            page, scores = self.open(f"{name}.html"), self.scores(name)
            tiles = page.run("[...document.querySelectorAll('#tiles b')].map(e => e.textContent)")
            names = lambda role: "  ".join(f"{l}.{h}" for l, h in scores["circuit"][role])
            self.assertEqual(tiles[:4], [number(scores["base"]["accuracy"]), str(scores["base"]["examples"]), names("gather"), names("aggregate")])
            rows = page.run("[...document.querySelectorAll('#circuit tbody tr')].map(r => [...r.cells].map(c => c.textContent))")
            heads = {f"{h['layer']}.{h['head']}": h for h in scores["heads"]}
            self.assertEqual(len(rows), len(scores["circuit"]["gather"]) + len(scores["circuit"]["aggregate"]))
            for row in rows:
                h = heads[row[0]]
                self.assertEqual(row[1].lower(), h["role"])
                self.assertEqual(row[2], number(h["accuracy_drop"]))
            self.assertEqual(page.run("document.querySelectorAll('#circuit circle').length"), len(rows))
            later = sum(1 for g in scores["circuit"]["gather"] for a in scores["circuit"]["aggregate"] if a[0] > g[0])
            self.assertEqual(page.run("document.querySelectorAll('#circuit .arrow').length"), later + len(rows), "one from the segments or to the answer each")

    def test_bars_and_curve_are_those_of_scores_json(self):
        page, scores = self.open("small.html"), self.scores()
        bars = page.run("[...document.querySelectorAll('#bars .num')].map(e => e.textContent)")
        best = sorted(scores["heads"], key=lambda h: -h["accuracy_drop"])[:20]
        self.assertEqual(bars, [f"{number(h['accuracy_drop'])} ({number(h['accuracy_drop_ci'][0])} to {number(h['accuracy_drop_ci'][1])})" for h in best])
        rows = page.run("[...document.querySelectorAll('#curvetable tbody tr')].map(r => [...r.cells].map(c => c.textContent))")
        curve = scores["curve"]
        self.assertEqual(rows, [[str(size), str(curve["examples"][k]), *(number(l["accuracy"][k]) for l in curve["lines"])] for k, size in enumerate(curve["sizes"])])
        self.assertEqual(page.run("document.querySelectorAll('#curve circle').length"), len(curve["sizes"]) * len(curve["lines"]))

    def test_a_click_in_the_grid_changes_the_map(self):
        page, maps = self.open("small.html"), Maps(self.folder / "small.maps.json")
        title, look = "document.querySelector('#right h3').textContent", "document.querySelector('#right canvas.plot').toDataURL()"
        before = page.run(title), page.run(look)
        shown = page.run("[...document.querySelectorAll('#thumbs [aria-pressed=true]')].map(b => b.dataset.head)")
        other = next(m for m in maps.document["maps"] if f"{m['layer']}.{m['first']}" not in shown)
        page.click(f'[data-head="{other["layer"]}.{other["first"]}"].cell')
        self.assertNotEqual(page.run(title), before[0])
        self.assertTrue(page.run(title).startswith(f"Layer {other['layer']}, head {other['first']}"))
        self.assertNotEqual(page.run(look), before[1])
        kept = {(m["layer"], m["first"]) for m in maps.document["maps"]}
        unmapped = next(h for h in self.scores()["heads"] if (h["layer"], h["head"]) not in kept)
        page.click(f'[data-head="{unmapped["layer"]}.{unmapped["head"]}"].cell')
        self.assertIn("was not recorded", page.run("document.querySelector('#nomap:not([hidden])').textContent"))
        self.quiet(page)

    def test_keys_reach_the_grid_and_move_in_it(self):
        page, scores = self.open("hybrid.html"), self.scores("hybrid")
        for _ in range(80):
            page.press("Tab")
            if page.run("document.activeElement.classList.contains('cell')"):
                break
        at = lambda: page.run("document.activeElement.dataset.head")
        start = scores["heads"][0] and page.run("`${chosen.layer}.${chosen.head}`")
        self.assertEqual(at(), start, "Tab reaches the chosen cell")
        page.press("ArrowRight")
        layer, head = map(int, start.split("."))
        self.assertEqual(at(), f"{layer}.{head + 1}")
        page.press("ArrowDown")
        self.assertEqual(at(), f"{layer + 1}.{head + 1}")
        page.press("Home")
        self.assertEqual(at(), f"{layer + 1}.0")
        page.press("Enter")
        self.expect_figures(page, next(h for h in scores["heads"] if (h["layer"], h["head"]) == (layer + 1, 0)))
        self.assertEqual(page.run("document.querySelectorAll('#grid [tabindex=\"0\"]').length"), 1, "the grid is one stop of Tab")
        self.assertEqual(at(), f"{layer + 1}.0", "choosing keeps the place")
        page.press("Tab")
        for _ in range(30):
            if page.run("document.activeElement.classList.contains('plot')"):
                break
            page.press("Tab")
        page.press("ArrowUp")
        self.assertIn("reads column", page.run("document.activeElement.closest('.map').querySelector('.readout').textContent"))
        self.quiet(page)

    def expect_entry(self, page, slot, maps, m, i, j, digits):
        words = page.run(f"document.querySelector('#{slot} .readout').textContent")
        tokens = maps.document["prompts"][maps.document["maps"][m]["prompt"]]["tokens"]
        found = re.fullmatch(r"row (\d+) (\".*\") reads column (\d+) (\".*\"): (\S+)", words)
        self.assertIsNotNone(found, words)
        self.assertEqual((int(found[1]), json.loads(found[2]), int(found[3]), json.loads(found[4])), (i, tokens[i], j, tokens[j]))
        self.assertAlmostEqual(as_shown(found[5]), maps.entry(m, i, j), delta=.50001 * 10 ** -digits)

    def test_the_entry_pointed_at_is_read(self):
        for name in ("small", "channels"):
            page, maps = self.open(f"{name}.html"), Maps(self.folder / f"{name}.maps.json")
            zoom, m, digits, edge = (page.run(f"views.right.{what}") for what in ("zoom", "map.index", "map.digits", "constructor && EDGE"))
            n = maps.document["maps"][m]["size"]
            for i, j in [(n - 1, 0), (n - 1, n - 1), (n // 2, n // 3), (3, 2)]:
                with self.subTest(page=name, entry=(i, j)):
                    page.move("#right canvas.plot", edge + (j + .5) * zoom, edge + (i + .5) * zoom)
                    self.expect_entry(page, "right", maps, m, i, j, digits)
            page.move("#right canvas.plot", edge + (n - .5) * zoom, edge + .5 * zoom)
            self.assertEqual(page.run("document.querySelector('#right .readout').textContent"), "Point at an entry to read it.", "above the diagonal")
            if name == "channels":
                self.assertLess(maps.document["maps"][m]["lowest"], 0)
                colours = page.run("""(() => { const c = document.querySelector('#right canvas.plot'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
                  let green = 0, purple = 0; for (let k = 0; k < d.length; k += 4) if (d[k + 3] > 20) { if (d[k + 1] > d[k] + 40) ++green; if (d[k] > d[k + 1] + 40) ++purple; } return [green, purple]; })()""")
                self.assertGreater(min(colours), 100, "both signs have colours of their own")
            self.quiet(page)

    def test_strips_show_the_last_row_and_the_row_picked(self):
        page, maps = self.open("small.html"), Maps(self.folder / "small.maps.json")
        m, digits = page.run("views.left.map.index"), page.run("views.left.map.digits")
        row = maps.last_row(m)
        tokens = maps.document["prompts"][0]["tokens"]
        self.assertEqual(page.run("[...document.querySelectorAll('#left .strip span')].map(s => s.textContent.replace('⏎', ''))"), tokens)
        for k in (0, 5, len(row) - 1):
            page.move(f"#left .strip span[data-k='{k}']")
            words = page.run("document.querySelector('#left .strip + .readout').textContent")
            self.assertAlmostEqual(as_shown(words.rsplit(": ", 1)[1]), row[k], delta=.50001 * 10 ** -digits)
        strongest = max(range(len(row)), key=lambda k: abs(row[k]))
        alpha = page.run("[...document.querySelectorAll('#left .strip span')].map(s => +(getComputedStyle(s).backgroundColor.match(/[\\d.]+/g)?.[3] ?? 1))")
        self.assertEqual(alpha[strongest], max(alpha))
        edge, zoom = page.run("EDGE"), page.run("views.left.zoom")
        page.click("#left canvas.plot", edge + 1.5 * zoom, edge + 8.5 * zoom)
        self.assertEqual(page.run("document.querySelector('#left .strip').previousSibling.textContent"), "What row 8 reads")
        page.press("Home")
        page.run("document.querySelector('#left .strip').focus()")
        page.press("End")
        words = page.run("document.querySelector('#left .strip + .readout').textContent")
        self.assertAlmostEqual(as_shown(words.rsplit(": ", 1)[1]), maps.entry(m, 8, 8), delta=.50001 * 10 ** -digits)
        self.quiet(page)

    def test_maps_of_4096_tokens_are_drawn_by_tiles(self):
        page, maps = self.open("whole.html"), Maps(self.folder / "whole.maps.json")
        m, digits, edge = page.run("views.left.map.index"), page.run("views.left.map.digits"), page.run("EDGE")
        n = maps.document["maps"][m]["size"]
        self.assertGreater(n, 4000)
        state = lambda: {k: float(v) for k, v in page.run("({...document.querySelector('#left canvas.plot').dataset})").items()}
        self.assertEqual((state()["factor"], state()["missing"]), (8, 0), "the whole of it is one level of a few tiles")
        self.assertLessEqual(page.run("unpacked.size"), 16, "nothing but what is seen was unpacked")
        page.run("document.querySelector('#left canvas.plot').focus()")
        plot, seen = page.run("views.left.plot"), set()
        for _ in range(40):
            page.wheel("#left canvas.plot", -120, edge + plot * .5, edge + plot * .75)
            self.assertLessEqual(state()["tiles"], 36)
            self.assertEqual(state()["missing"], 0)
            seen.add(state()["factor"])
        self.assertEqual(seen, {8, 4, 2, 1})
        self.assertLessEqual(page.run("unpacked.size"), page.run("TILES_KEPT"))
        page.screenshot(SHOTS / "whole-zoomed.png")
        page.move("#left canvas.plot", edge + plot / 2, edge + plot / 2)
        i, j = page.run("views.left.cursor")
        self.assertTrue(n * .6 < i < n * .9 and n * .4 < j < n * .6, f"zoomed about the pointer, got {i}, {j}")
        self.expect_entry(page, "left", maps, m, i, j, digits)
        for _ in range(60):  # across borders of tiles
            page.press("ArrowLeft")
        self.expect_entry(page, "left", maps, m, i, j - 60, digits)
        self.assertEqual(state()["missing"], 0)
        self.quiet(page)

    def test_a_report_of_1024_heads_holds_blocks_of_long_maps(self):
        self.assertLess((self.folder / "large.html").stat().st_size, 3_000_000)
        page, maps = self.open("large.html"), Maps(self.folder / "large.maps.json")
        m, edge, zoom = page.run("views.right.map.index"), page.run("EDGE"), page.run("views.right.zoom")
        one = maps.document["maps"][m]
        factor, n = one["levels"][0]["factor"], one["size"]
        self.assertGreater(factor, 1)
        page.move("#right canvas.plot", edge + n / 3 * zoom, edge + n / 2 * zoom)
        i, j = page.run("views.right.cursor")
        words = page.run("document.querySelector('#right .readout').textContent")
        block = lambda k: f"{k - k % factor} to {min(n - 1, k - k % factor + factor - 1)}"
        self.assertTrue(words.startswith(f"rows {block(i)}, columns {block(j)}, their largest: "), words)
        digits = page.run("views.right.map.digits")
        self.assertAlmostEqual(as_shown(words.rsplit(": ", 1)[1]), maps.entry(m, i // factor, j // factor), delta=.50001 * 10 ** -digits)
        row = maps.last_row(m)
        most = page.run("[...document.querySelectorAll('#right .most li')].map(e => e.textContent)")
        expected = sorted((abs(v) for v in row), reverse=True)[:5]
        for text, v in zip(most, expected):
            self.assertAlmostEqual(abs(as_shown(text.rsplit(" ", 1)[1])), v, delta=.50001 * 10 ** -digits)
        self.assertEqual(page.run("document.querySelectorAll('#grid .cell').length"), 1024)
        self.quiet(page)

    def test_another_model_is_shown_beside(self):
        page, other = self.open("small.html"), self.scores("channels")
        self.assertEqual(page.run("document.querySelectorAll('#entropy svg').length"), 1)
        page.choose_file("#beside", self.folder / "channels.scores.json")
        page.wait_for("document.querySelectorAll('#entropy svg').length === 2")
        dots = page.run("[...document.querySelectorAll('#entropy svg')].map(s => [...s.querySelectorAll('circle title')].map(t => t.textContent.split(': ')[1]))")
        for shown, scores in zip(dots, (self.scores(), other)):
            self.assertEqual(sorted(shown), sorted(number(h["entropy_norm"]) for h in scores["heads"]))
        page.run("document.querySelector('#entropysection').scrollIntoView()")
        page.screenshot(SHOTS / "small-beside.png")
        page.choose_file("#beside", self.folder / "small.maps.json")
        page.wait_for("document.querySelector('#besidewords').textContent.includes('expected schema headlens.scores/1')")
        self.quiet(page)

    def test_compare_shows_both_models(self):
        if not HEADLENS:
            self.skipTest("built without the command")
        page = self.open("compared/compare.html")
        data = json.loads((self.folder / "compared/compare.json").read_text())
        for figure in ("entropy_norm", "peak"):
            page.click(f"#figures [data-key={figure}]")
            rows = page.run("[...document.querySelectorAll('#differences tbody tr')].map(r => [...r.cells].map(c => c.textContent))")
            expected = [d for d in data["differences"] if d["figure"] == figure]
            self.assertEqual([r[1:5] for r in rows], [[number(d["a"]), number(d["b"]), number(d["difference"]),
                             f"{number(d['difference_ci'][0])} to {number(d['difference_ci'][1])}"] for d in expected])
            for side in "ab":
                dots = page.run(f"[...document.querySelectorAll('#plot{side} circle title')].map(t => t.textContent.split(': ')[1])")
                self.assertEqual(dots, [number(h[figure]["mean"]) for h in data[side]["heads"]])
        self.quiet(page)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    SAMPLER, HEADLENS, SHOTS = sys.argv[1], sys.argv[2] if sys.argv[2] != "none" else None, pathlib.Path(sys.argv[3])
    if chromium.find() is None:
        print("skipped: no chromium (not a snap's) on the PATH")
        sys.exit(77)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)

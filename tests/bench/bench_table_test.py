"""The table of scripts/bench_table.py: which rows meet, and what it says of a goal."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import bench_table  # noqa: E402


def cells(ours, peers, what):
    """The row that begins with `what`: ours, peer, ratio, goal, limit, memory, who."""
    found = [line for line in bench_table.join(ours, peers) if line.startswith(f"| {what} |")]
    assert len(found) == 1, found
    return [cell.strip() for cell in found[0].split("|")[2:-1]]


class BenchTable(unittest.TestCase):
    def test_a_goal_is_met_up_to_its_share(self):
        peers = [{"what": "ssd_scan 80x64 state 128 1x2048 forward", "ms": 0.1, "limit_ms": 0.02, "peer": "mamba_ssm 2"}]
        for ms, said in ((0.0799, "<= 0.8 x, met"), (0.0801, "<= 0.8 x, MISSED")):
            ours = [{"what": "ssd_scan 80x64 state 128 1x2048 forward", "ms": ms, "limit_ms": 0.01}]
            self.assertEqual(cells(ours, peers, ours[0]["what"])[3:5], [said, "0.01"])

    def test_statistics_stand_beside_the_plain_forward(self):
        peers = [{"what": "llama-8b forward 1x2048", "ms": 60.0, "peer": "transformers 5"}]
        ours = [{"what": "llama-8b forward + statistics 1x2048", "ms": 60.0}]
        self.assertEqual(cells(ours, peers, ours[0]["what"])[:4], ["60.00", "60.00", "1.000", "<= 1 x, met"])
        self.assertEqual(cells(ours, peers, "llama-8b forward 1x2048")[0], "-")

    def test_names_meet_however_they_are_spaced(self):
        peers = [{"what": "causal_conv1d 8192 1x2048 forward", "ms": 0.03, "peer": "causal_conv1d 1"}]
        ours = [{"what": "Causal-conv1d 8192 1 x 2048 forward", "ms": 0.03}]
        self.assertEqual(cells(ours, peers, "causal_conv1d 8192 1x2048 forward")[2], "1.000")

    def test_a_goal_of_our_own_needs_no_peer(self):
        ours = [{"what": "s6 map stats 1536x16 1x512, 16 segments", "ms": 1.2}]
        peers = [{"what": "mamba-130m map of one layer 1x512", "why": "out of memory: tried 24 GiB"}]
        self.assertEqual(cells(ours, peers, ours[0]["what"])[:4], ["1.20", "out of memory", "-", "<= 1 ms, MISSED"])
        self.assertEqual(cells(ours, [], ours[0]["what"])[1], "-")

    def test_idle_hooks_stand_beside_our_own_forward(self):
        peers = [{"what": "llama-8b forward 1x512", "ms": 20.0, "peer": "transformers 5"}]
        for ms, said in ((10.05, "<= 1.01 x, met"), (10.2, "<= 1.01 x, MISSED")):
            ours = [{"what": "llama-8b forward 1x512", "ms": 10.0}, {"what": "llama-8b forward 1x512, idle hooks", "ms": ms}]
            self.assertEqual(cells(ours, peers, ours[1]["what"])[1:4:2], ["10.00", said])

    def test_what_the_gpu_works_is_compared(self):
        peers = [{"what": "mamba-130m map of one layer 1x512", "ms": 10.0, "called_ms": 12.0, "peer": "transformer_lens 4"}]
        ours = [{"what": "s6 map stats 1536x16 1x512", "ms": 1.5, "replayed_ms": 0.5}]
        self.assertEqual(cells(ours, peers, ours[0]["what"])[:4],
                         ["0.5 (1.50 called)", "10.00 (12.00 called)", "0.050", "<= 1 ms, met"])

    def test_memory_of_both_is_shown(self):
        peers = [{"what": "mamba2 8 layers forward 1x512", "ms": 206.0, "peak_gib": 10.4, "peer": "transformers 5"}]
        ours = [{"what": "mamba2 8 layers forward + entropy 1x512", "ms": 5.0, "peak_gib": 2.25}]
        self.assertEqual(cells(ours, peers, ours[0]["what"])[5], "2.2 / 10.4")

    def test_a_row_that_only_one_side_has_is_there(self):
        lines = bench_table.join([{"what": "ours alone", "ms": 1.0}], [{"what": "theirs alone", "ms": 2.0}])
        self.assertEqual([line.split(" | ")[0] for line in lines[2:]], ["| theirs alone", "| ours alone"])

    def test_decoding_is_held_to_the_weights(self):
        peers = [{"what": "llama-8b decode 1x512+64", "ms": 22.0, "limit_ms": 4.0, "peer": "transformers 5"}]
        ours = [{"what": "llama-8b decode 1x512+64", "ms": 4.9, "limit_ms": 3.7}]
        peers.append(peers[0] | {"what": "llama-8b decode 1x512+64 static cache, compiled"})
        self.assertEqual(cells(ours, peers, ours[0]["what"])[3], "<= 5.00 ms, met")
        self.assertEqual(cells(ours, peers, peers[1]["what"])[3], "-")

    def test_each_reason_is_given_once(self):
        peers = [{"what": what, "why": "absent: no module"} for what in ("a", "b")]
        self.assertEqual(bench_table.join([], peers)[-1], "- absent: no module (a; b)")


if __name__ == "__main__":
    unittest.main()

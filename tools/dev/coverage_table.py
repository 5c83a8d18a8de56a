#!/usr/bin/env python3
"""Prints gcovr's JSON summary as a table of rooms, and the files with the most lines that no test runs."""

import argparse
import json
import sys
from collections import defaultdict


def rooms_of(files):
    """Lines run and lines in all, by room: src/ROOM/..."""
    rooms = defaultdict(lambda: [0, 0])
    for file in files:
        room = file["filename"].split("/")[1]
        rooms[room][0] += file["line_covered"]
        rooms[room][1] += file["line_total"]
    return rooms


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary")
    parser.add_argument("--least", type=float, default=0, help="status 1 below this percentage")
    parser.add_argument("--files", type=int, default=15, help="how many files to name")
    args = parser.parse_args()
    files = [f for f in json.load(open(args.summary))["files"] if f["filename"].count("/") > 1]
    if not files:
        sys.exit("coverage_table: files of src/ in the summary, expected some, got none")

    print("| room | lines | run | % |\n| --- | ---: | ---: | ---: |")
    rooms = rooms_of(files)
    for room, (run, lines) in sorted(rooms.items()):
        print(f"| {room} | {lines} | {run} | {100 * run / lines:.1f} |")
    run, lines = (sum(column) for column in zip(*rooms.values()))
    share = 100 * run / lines
    print(f"| all | {lines} | {run} | {share:.1f} |\n\nmost lines not run:")
    for f in sorted(files, key=lambda f: f["line_covered"] - f["line_total"])[: args.files]:
        print(f"  {f['line_total'] - f['line_covered']:5} of {f['line_total']:5}  {f['filename']}")
    sys.exit(share < args.least)


if __name__ == "__main__":
    main()

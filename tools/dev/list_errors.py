#!/usr/bin/env python3
"""Lists every message of HEADLENS_CHECK and HEADLENS_FAIL, to be read for whether it says what to do next.

    tools/dev/list_errors.py [ROOM ..]            # all messages: file:line, then the text
    tools/dev/list_errors.py --bare [ROOM ..]     # those that neither name what is wanted nor a remedy

"expected X" names what is wanted where X is something that a user can give: a value, a range, a flag, a file. It does not where X
is only that the thing should have worked ("expected to be opened", "expected enough memory"); such a message needs a remedy after it.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CALL = re.compile(r"HEADLENS_(?:CHECK|FAIL)\(")
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
# Expectations that nobody can act on by reading them.
BARE = re.compile(r"expected (to be |it to |its |each to |enough|whole|no such|that |a readable|valid|one that|the (file|system))")
REMEDY = re.compile(r"; |--[a-z]|\(see |docs/|headlens [a-z]|did you mean|names their folder|save|write|copy|convert|use |give |free |remove")


def calls(text):
    """Offset and all string literals of each call, joined."""
    for match in CALL.finditer(text):
        depth, end, quoted = 1, match.end(), False
        while depth and end < len(text):
            c = text[end]
            if quoted and c == "\\":
                end += 1
            elif c == '"':
                quoted = not quoted
            elif not quoted:
                depth += (c == "(") - (c == ")")
            end += 1
        yield match.start(), "".join(LITERAL.findall(text[match.end():end]))


def main():
    bare = "--bare" in sys.argv
    rooms = [word for word in sys.argv[1:] if not word.startswith("--")]
    shown = 0
    for path in sorted((ROOT / "src").rglob("*.cpp")):
        if rooms and path.relative_to(ROOT / "src").parts[0] not in rooms:
            continue
        text = path.read_text()
        for at, message in calls(text):
            if bare and not (BARE.search(message) and not REMEDY.search(message)):
                continue
            shown += 1
            print(f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, at) + 1}: {message}")
    print(f"{shown} messages", file=sys.stderr)


if __name__ == "__main__":
    main()

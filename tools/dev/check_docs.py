#!/usr/bin/env python3
"""Checks that every public name is documented: runs doxygen over include/headlens and fails on a
name (enumerators too) without a comment, and on a page of docs/ that README.md does not lead to.
Exits with 77 where doxygen is not installed. Needs Python 3.9 and nothing else."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run_doxygen(folder):
    """Doxygen's warnings, one a line; its XML lies in folder/xml."""
    text = (ROOT / "docs" / "Doxyfile.in").read_text(encoding="utf-8")
    values = {"PROJECT_VERSION": "check", "PROJECT_SOURCE_DIR": ROOT, "HEADLENS_DOCS_DIR": folder,
              "HEADLENS_DOCS_HTML": "NO", "HEADLENS_DOCS_XML": "YES"}
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    config = folder / "Doxyfile"
    config.write_text(text, encoding="utf-8")
    subprocess.run(["doxygen", config], check=True)
    return (folder / "warnings.txt").read_text(encoding="utf-8").splitlines()


def undocumented(warnings):
    for line in warnings:
        found = re.match(r"(.*/include/.*): warning: (.* is not documented\.)", line)
        if found:
            yield f"{pathlib.Path(found[1]).relative_to(ROOT)}: {found[2]}"


def undocumented_enumerators(folder):
    """Doxygen 1.9 does not warn of them."""
    for page in sorted((folder / "xml").glob("*.xml")):
        for enum in xml.parse(page).iter("memberdef"):
            for value in enum.findall("enumvalue"):
                said = "".join(text for part in ("briefdescription", "detaileddescription")
                               for text in value.find(part).itertext())
                if not said.strip():
                    where = pathlib.Path(enum.find("location").get("file")).name
                    yield f"{where}: {enum.findtext('name')}::{value.findtext('name')} is not documented."


def count_names(folder):
    index = xml.parse(folder / "xml" / "index.xml")
    return sum(1 for _ in index.iter("member")) + sum(
        1 for c in index.iter("compound") if c.get("kind") in ("class", "struct"))


def unreachable_pages():
    """Pages that no chain of links leads to from README.md."""
    seen, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page in seen or not page.is_file():
            continue
        seen.add(page)
        for link in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                queue.append((page.parent / link).resolve())
    for page in sorted((ROOT / "docs").glob("*.md")):
        if page not in seen:
            yield f"{page.relative_to(ROOT)}: no link from README.md leads here."


def main():
    if not shutil.which("doxygen"):
        print("check_docs: doxygen is not installed", file=sys.stderr)
        return 77
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        breaches = list(undocumented(run_doxygen(folder)))
        breaches += sorted(set(undocumented_enumerators(folder)))
        names = count_names(folder)
    if names < 1000:  # a filter or a tag that is off would hide everything
        breaches.append(f"docs/Doxyfile.in: {names} public names, expected more than 1000.")
    breaches += unreachable_pages()
    for line in breaches:
        print(line)
    print(f"check_docs: {names} public names, {len(breaches)} breach(es)")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Writes the software bill of materials of a built program as SPDX 2.3 JSON, from what it really links:

    make_sbom.py --binary bin/headlens --version 0.1.0 --out headlens.spdx.json [--headers NAME=VERSION=FOLDER...]
    make_sbom.py --binary bin/headlens --check headlens.spdx.json

ldd says which files are loaded; the wheel's RECORD or dpkg says whose each is, in what version. Headers that
leave no library behind are named by the build. Needs Python 3.9, ldd and readelf; where there is no dpkg a
system library's version is NOASSERTION. --check holds a document to what SPDX asks for and to readelf's list
of libraries, which is another source than ldd."""

import argparse
import base64
import csv
import datetime
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

UNKNOWN = "NOASSERTION"


def run(*command):
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def loaded_files(binary):
    """Library name -> file, everything that is loaded with the program."""
    pairs = re.findall(r"^\s*(\S+) => (/\S+) \(", run("ldd", str(binary)), re.M)
    return {name: Path(file).resolve() for name, file in pairs}


def needed(binary):
    return re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "-d", str(binary)))


def wheel_of(file, cache={}):
    """(name, version, purl, sha256 of the file as the wheel says) if a Python wheel brought the file."""
    site = next((p for p in file.parents if p.name in ("site-packages", "dist-packages")), None)
    if site is None:
        return None
    if site not in cache:
        cache[site] = {}
        for record in site.glob("*.dist-info/RECORD"):
            metadata = (record.parent / "METADATA").read_text(encoding="utf-8", errors="replace")
            name = re.search(r"^Name: (.+)$", metadata, re.M).group(1)
            version = re.search(r"^Version: (.+)$", metadata, re.M).group(1)
            for path, digest, _ in csv.reader(record.open(encoding="utf-8")):
                if ".so" in path and digest.startswith("sha256="):
                    raw = digest[len("sha256="):]
                    sha = base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)).hex()
                    cache[site][path] = (name, version, f"pkg:pypi/{name.lower()}@{quote(version, safe='')}", sha)
    return cache[site].get(str(file.relative_to(site)))


def package_of(path):
    """(name, version, purl) of the distribution's package that has the path, or None."""
    if shutil.which("dpkg-query") is None:
        return None
    for spelled in (str(path), str(path).removeprefix("/usr")):
        owner = run("dpkg-query", "-S", spelled).split(": ")[0].split(",")[0].strip()
        if owner:
            version, arch, name = run("dpkg-query", "-W", "-f=${Version} ${Architecture} ${Package}", owner).split()
            release = Path("/etc/os-release").read_text() if Path("/etc/os-release").is_file() else ""
            vendor = (re.search(r"^ID=\"?([a-z]+)", release, re.M) or ["", "debian"])[1]
            return name, version, f"pkg:deb/{vendor}/{quote(name)}@{quote(version, safe='')}?arch={arch}"
    return None


def spdx_id(kind, name):
    return f"SPDXRef-{kind}-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)


class Document:
    def __init__(self, name, version):
        self.packages = {}
        self.relationships = [("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Package-headlens")]
        self.add("headlens", version, None, UNKNOWN)
        self.name = f"{name}-{version}"

    def add(self, name, version, purl, comment):
        key = spdx_id("Package", name)
        package = self.packages.setdefault(key, {
            "SPDXID": key, "name": name, "versionInfo": version, "downloadLocation": UNKNOWN, "filesAnalyzed": False,
            "licenseConcluded": UNKNOWN, "licenseDeclared": UNKNOWN, "copyrightText": UNKNOWN, "supplier": UNKNOWN})
        if purl:
            package["externalRefs"] = [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}]
        if comment != UNKNOWN:
            package["comment"] = "; ".join(filter(None, [package.get("comment"), comment]))
        return key

    def relate(self, left, kind, right):
        if (left, kind, right) not in self.relationships:
            self.relationships.append((left, kind, right))

    def text(self):
        packages = [self.packages[key] for key in sorted(self.packages)]
        digest = hashlib.sha256(json.dumps([packages, self.relationships]).encode()).hexdigest()
        epoch = int(os.environ.get("SOURCE_DATE_EPOCH", datetime.datetime.now().timestamp()))
        created = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return json.dumps({
            "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": self.name,
            "documentNamespace": f"https://spdx.org/spdxdocs/{self.name}-{digest[:32]}",
            "creationInfo": {"created": created, "creators": ["Tool: make_sbom.py"]},
            "packages": packages,
            "relationships": [{"spdxElementId": left, "relationshipType": kind, "relatedSpdxElement": right}
                              for left, kind, right in self.relationships]}, indent=1) + "\n"


def describe(binary, version, headers):
    document = Document("headlens", version)
    direct = set(needed(binary))
    for library, file in sorted(loaded_files(binary).items()):
        wheel = wheel_of(file)
        package = wheel[:3] if wheel else package_of(file)
        sha = wheel[3] if wheel else hashlib.sha256(file.read_bytes()).hexdigest()
        name, found, purl = package or (library, UNKNOWN, None)
        comment = f"{library} sha256:{sha}"
        key = document.add(name, found, purl, comment)
        if library in direct:
            document.relate("SPDXRef-Package-headlens", "DYNAMIC_LINK", key)
        else:
            document.relate(key, "RUNTIME_DEPENDENCY_OF", "SPDXRef-Package-headlens")
    for name, found, folder in headers:
        package = package_of(Path(folder).resolve())
        key = document.add(name, found, package[2] if package else None, "headers only")
        document.relate("SPDXRef-Package-headlens", "STATIC_LINK", key)
    return document.text()


REQUIRED = {
    "document": ["spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo", "packages", "relationships"],
    "package": ["SPDXID", "name", "downloadLocation", "versionInfo", "filesAnalyzed"],
    "relationship": ["spdxElementId", "relationshipType", "relatedSpdxElement"],
}


def problems_of(document, binary):
    def lacking(kind, item):
        return [f"{kind} {item.get('name', '')}: no {key}" for key in REQUIRED[kind] if key not in item]

    found = lacking("document", document)
    for package in document.get("packages", []):
        found += lacking("package", package)
        if not re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", package.get("SPDXID", "")):
            found.append(f"package {package.get('name')}: SPDXID {package.get('SPDXID')!r}")
    known = {package.get("SPDXID") for package in document.get("packages", [])} | {"SPDXRef-DOCUMENT"}
    if len(known) != len(document.get("packages", [])) + 1:
        found.append("packages: an SPDXID twice")
    for relationship in document.get("relationships", []):
        found += lacking("relationship", relationship)
        found += [f"relationship: {relationship[end]} is no package" for end in ("spdxElementId", "relatedSpdxElement")
                  if relationship.get(end) not in known]
    if document.get("spdxVersion") != "SPDX-2.3" or document.get("dataLicense") != "CC0-1.0":
        found.append("document: spdxVersion SPDX-2.3 and dataLicense CC0-1.0")
    comments = " ".join(package.get("comment", "") for package in document.get("packages", []))
    for library in needed(binary):
        if f"{library} sha256:" not in comments and not library.startswith("ld-linux"):
            found.append(f"linked library {library}: in no package")
    for wanted in ("nlohmann_json", "Eigen3", "CLI11", "torch"):
        if not any(package["name"] == wanted for package in document.get("packages", [])):
            found.append(f"package {wanted}: none")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--version", default=UNKNOWN)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--headers", nargs="*", default=[], metavar="NAME=VERSION=FOLDER")
    parser.add_argument("--check", type=Path)
    flags = parser.parse_args()
    if flags.check:
        found = problems_of(json.loads(flags.check.read_text(encoding="utf-8")), flags.binary)
        for line in found:
            print(line)
        print(f"make_sbom: {len(found)} problem(s)")
        return 1 if found else 0
    flags.out.write_text(describe(flags.binary, flags.version, [h.split("=", 2) for h in flags.headers]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Writes an SBOM (CycloneDX 1.5, JSON) of the binary for a target: the crates that are linked, and the C library.

usage: sbom.py TARGET
"""

import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def output(*command):
    """Returns what a command prints, or nothing if it fails."""
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else ""


def linked_crates(target):
    """Yields name, version and licence of each crate that is linked, without build scripts and procedural macros."""
    tree = output(
        "cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe",
        "--target", target, "--format", "{p}|{l}",
    )
    lines = {re.sub(r" \((?!proc-macro).*?\)", "", line) for line in tree.splitlines()}
    for line in sorted(lines):
        package, licence = line.rsplit("|", 1)
        name, version = package.split()[:2]
        yield name, version.lstrip("v"), licence


def main(target):
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in locked}
    product = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    components = []
    for name, version, licence in linked_crates(target):
        if name == product["name"]:
            continue
        url = f"pkg:cargo/{name}@{version}"
        component = {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url,
                     "licenses": [{"expression": licence.replace("/", " OR ")}]}
        if checksum := checksums[name, version]:
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        components.append(component)
    assert len(components) > 10, components
    components.append({"type": "library", "bom-ref": "rust-std", "name": "rust-std",
                       "version": output("rustc", "--version").split()[1],
                       "licenses": [{"expression": "MIT OR Apache-2.0"}]})
    if target.endswith("gnu") and (version := output("dpkg-query", "-W", "-f", "${Version}", "libc6-dev")):
        components.append({"type": "library", "bom-ref": "glibc", "name": "glibc", "version": version,
                           "purl": f"pkg:deb/debian/libc6-dev@{version}",
                           "licenses": [{"expression": "LGPL-2.1-or-later"}]})
    revision = output("git", "rev-parse", "HEAD")
    time = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    print(json.dumps({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'fibsrv {revision} {target}')}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "application", "bom-ref": "fibsrv", "name": product["name"],
                          "version": product["version"], "licenses": [{"license": {"id": product["license"]}}],
                          "properties": [{"name": "revision", "value": revision},
                                         {"name": "target", "value": target}]},
        },
        "components": components,
        "dependencies": [{"ref": "fibsrv", "dependsOn": [component["bom-ref"] for component in components]}],
    }, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])

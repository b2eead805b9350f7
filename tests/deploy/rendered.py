"""The manifests that helm rendered: a folder for each version of Kubernetes, a file each of ci/.

As a program it prints those of kinds that others define, as JSON for helm_custom.mjs.
"""

import json
import pathlib
import sys

import yaml

# What Kubernetes itself has no schema of.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "Certificate", "HTTPRoute"}


def files():
    """Each file as its version, its name, and its documents."""
    paths = sorted(pathlib.Path(sys.argv[1]).glob("*/*.yaml"))
    if not paths:
        sys.exit("nothing was rendered")
    for path in paths:
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
        yield path.parent.name, path.stem.removesuffix("-values"), documents


def newest():
    """The documents by the name of the file, for the newest version."""
    every = list(files())
    last = max(
        (version for version, _, _ in every),
        key=lambda version: [int(part) for part in version.split(".")],
    )
    return {name: documents for version, name, documents in every if version == last}


if __name__ == "__main__":
    custom = [
        {"name": name, "manifest": document}
        for name, documents in newest().items()
        for document in documents
        if document["kind"] in CUSTOM
    ]
    json.dump(custom, sys.stdout)

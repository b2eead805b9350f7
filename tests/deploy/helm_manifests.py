"""Reads the manifests that helm rendered: a directory per Kubernetes version, a file per values file of ci/.

As a program it prints the custom resources as JSON for helm_custom.mjs.
"""

import json
import pathlib
import sys

import yaml

# Custom resources, which have no built-in schema.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "Certificate", "HTTPRoute"}


def files():
    """Yields version, name and documents of each file."""
    paths = sorted(pathlib.Path(sys.argv[1]).glob("*/*.yaml"))
    if not paths:
        sys.exit("nothing was rendered")
    for path in paths:
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
        yield path.parent.name, path.stem.removesuffix("-values"), documents


def newest():
    """Returns the documents for the newest version by file name."""
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

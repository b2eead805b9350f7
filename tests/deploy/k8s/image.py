"""Builds a container image archive with a single program.

Arguments: archive, image name and tag, program, user and group.
"""

import hashlib
import io
import json
import os
import sys
import tarfile

archive, name, program, user = sys.argv[1:]
entry = "/" + os.path.basename(program)


def add(tar, path, content, mode):
    about = tarfile.TarInfo(path)
    about.size, about.mode = len(content), mode
    tar.addfile(about, io.BytesIO(content))


layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar, open(program, "rb") as file:
    add(tar, entry[1:], file.read(), 0o755)
layer = layer.getvalue()

config = {
    "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
    "os": "linux",
    "config": {"Entrypoint": [entry], "User": user},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
}
config = json.dumps(config).encode()
digest = hashlib.sha256(config).hexdigest()
manifest = [{"Config": f"{digest}.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
with tarfile.open(archive, "w") as tar:
    add(tar, f"{digest}.json", config, 0o644)
    add(tar, "layer.tar", layer, 0o644)
    add(tar, "manifest.json", json.dumps(manifest).encode(), 0o644)

"""Validates built-in Kubernetes kinds against the schemas of the target version; unknown fields are errors."""

import sys

import kubernetes_validate
import helm_manifests

errors = []
checked = {}
for version, name, documents in helm_manifests.files():
    for document in documents:
        if document["kind"] in helm_manifests.CUSTOM:
            continue
        checked[version] = checked.get(version, 0) + 1
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(key) for key in error.path)
            errors.append(f"{name} for {version}: {document['kind']} {where}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            errors.append(f"{name} for {version}: {error.message}")

# The validator itself must reject invalid manifests.
for invalid in (
    {"kind": "Service", "spec": {"port": 80}},
    {"kind": "Service", "spec": {"ports": 80}},
):
    try:
        kubernetes_validate.validate({"apiVersion": "v1", **invalid}, "1.37.0", strict=True)
        errors.append(f"{invalid} is accepted")
    except kubernetes_validate.ValidationError:
        pass

if errors:
    sys.exit("\n".join(errors))
print(
    "helm: schemas hold for "
    + ", ".join(f"{count} manifests of {version}" for version, count in checked.items())
)

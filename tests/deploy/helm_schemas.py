"""Kubernetes' own kinds against the schemas of the version rendered for; no unknown fields."""

import sys

import kubernetes_validate
import rendered

complaints = []
checked = {}
for version, name, documents in rendered.files():
    for document in documents:
        if document["kind"] in rendered.CUSTOM:
            continue
        checked[version] = checked.get(version, 0) + 1
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(key) for key in error.path)
            complaints.append(f"{name} for {version}: {document['kind']} {where}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            complaints.append(f"{name} for {version}: {error.message}")

# A validator that sees nothing is no validator.
for spoilt in (
    {"kind": "Service", "spec": {"port": 80}},
    {"kind": "Service", "spec": {"ports": 80}},
):
    try:
        kubernetes_validate.validate({"apiVersion": "v1", **spoilt}, "1.37.0", strict=True)
        complaints.append(f"{spoilt} passes")
    except kubernetes_validate.ValidationError:
        pass

if complaints:
    sys.exit("\n".join(complaints))
print(
    "helm: schemas hold for "
    + ", ".join(f"{count} manifests of {version}" for version, count in checked.items())
)

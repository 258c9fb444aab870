"""What an image holds, and what it was made from: from the lock and its system packages.

    dpkg-query -W ... | python sbom.py VARIANT ID COMMIT FOLDER

Reads lines `name version architecture`. Writes FOLDER/sbom-VARIANT.cdx.json (CycloneDX 1.6) and
FOLDER/provenance-VARIANT.json (an in-toto statement with a SLSA 1.0 predicate). No clock takes
part: the same image gives the same two files.
"""

import hashlib
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

BUILDER = "docker/image.sh"


def wheels(lock: str) -> list[dict[str, Any]]:
    """A component for each distribution of a lock, with the SHA-256 of every file it allows."""
    found = re.findall(r"^([a-z0-9.-]+)==(\S+) ((?:\\\n +--hash=\S+ ?)+)", lock, re.M)
    return [
        component("library", name, version, f"pkg:pypi/{name}@{quote(version)}")
        | {"hashes": [{"alg": "SHA-256", "content": digest}
                      for digest in re.findall(r"sha256:([0-9a-f]{64})", hashes)]}
        for name, version, hashes in found
    ]  # fmt: skip


def system_packages(listed: str) -> list[dict[str, Any]]:
    """A component for each line of dpkg-query: name, version, architecture."""
    rows = [line.split() for line in listed.splitlines() if line.strip()]
    return [
        component("library", name, version, f"pkg:deb/{name}@{quote(version)}?arch={architecture}")
        for name, version, architecture in rows
    ]


def component(kind: str, name: str, version: str, purl: str) -> dict[str, Any]:
    """One component as CycloneDX has it."""
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def main(variant: str, image: str, commit: str, folder: Path, listed: str) -> None:
    """Write the two files."""
    lock = Path(f"docker/lock-{variant}.txt").read_text(encoding="utf-8")
    dockerfile = Path("Dockerfile").read_text(encoding="utf-8")
    base = dict(re.findall(r"^ARG (\w+)_BASE=(\S+)", dockerfile, re.M))[variant.upper()]
    name, _, digest = base.partition("@sha256:")
    sbom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, image)}",
        "version": 1,
        "metadata": {
            "component": component("container", "saigen", image, f"pkg:oci/saigen@{image}")
        },
        "components": system_packages(listed) + wheels(lock),
    }
    materials = [
        {"uri": f"pkg:docker/{name}", "digest": {"sha256": digest}},
        {"uri": "git", "digest": {"gitCommit": commit}},
        *(
            {"uri": uri, "digest": {"sha256": hashlib.sha256(text.encode()).hexdigest()}}
            for uri, text in ((f"docker/lock-{variant}.txt", lock), ("Dockerfile", dockerfile))
        ),
    ]
    provenance = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": f"saigen:{variant}", "digest": {"sha256": image.partition(":")[2]}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILDER,
                "externalParameters": {"variant": variant},
                "resolvedDependencies": materials,
            },
            "runDetails": {"builder": {"id": BUILDER}},
        },
    }
    folder.mkdir(exist_ok=True)
    for kind, document in ((f"sbom-{variant}.cdx", sbom), (f"provenance-{variant}", provenance)):
        text = json.dumps(document, indent=2, sort_keys=True) + "\n"
        (folder / f"{kind}.json").write_text(text, encoding="utf-8")
        print(f"{folder}/{kind}.json", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.stdin.read())

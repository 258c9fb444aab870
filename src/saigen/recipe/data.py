"""The data layer: digests of what is really read, not of what was meant to be."""

from collections.abc import Mapping
from typing import Any

from saigen.recipe.layer import Layer


def capture(manifest: Mapping[str, Any]) -> Layer:
    """From the manifest of prepared/, whose files were just checked against it."""
    return Layer(
        "data",
        {
            "snapshot": manifest["snapshot"],
            "rows": manifest["rows"],
            "prepared": manifest["files"],
        },
    )

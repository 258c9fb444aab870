"""A layer of a recipe: what goes into a run, and the digest that names it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saigen.digest import digest_tree, digest_value

# The order in which one looks for a difference.
LAYERS = ("data", "config", "code", "environment", "randomness", "distribution")


@dataclass(frozen=True)
class Layer:
    """One of the six layers. `content` holds all that enters the digest, and nothing else."""

    name: str
    content: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the content."""
        return digest_value(self.content)

    def entry(self) -> dict[str, Any]:
        """The layer as it stands in a record."""
        return {"digest": self.digest, **self.content}


def recipe_entry(layers: tuple[Layer, ...]) -> dict[str, Any]:
    """The `recipe` part of a record: a digest over the layers' digests, and the layers."""
    digests = {layer.name: layer.digest for layer in layers}
    return {
        "digest": digest_tree(digests),
        "layers": {layer.name: layer.entry() for layer in layers},
    }

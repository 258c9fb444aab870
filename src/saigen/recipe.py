"""The layers of a recipe: what goes into a run, and the digest that names it.

Code and environment have to be looked up, in files of their own; the other four are told here.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saigen.config.keys import value_at
from saigen.config.schema import METADATA, Config
from saigen.digest import digest_tree, digest_value
from saigen.documents import Count, Document, Name, Sha256

# The order in which one looks for a difference.
LAYERS = ("data", "config", "code", "environment", "randomness", "distribution")


class Snapshot(Document):
    """The snapshot that was prepared."""

    name: Name
    sha256: Sha256
    rows: Count


class Rows(Document):
    """How many records each split has."""

    train: Count
    validation: Count
    test: Count


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


def of_data(manifest: Mapping[str, Any], inputs: Mapping[str, Any]) -> Layer:
    """What is really read, not what was meant to be: the manifest of prepared/, whose files were
    just checked against it, and the inputs that are declared besides.
    """
    content = {name: manifest[name] for name in ("snapshot", "rows")}
    more = {"inputs": dict(inputs)} if inputs else {}
    return Layer("data", {**content, "prepared": manifest["files"], **more})


def of_config(values: Mapping[str, Any]) -> Layer:
    """Every value that can move a bit: the resolved config without what is a circumstance."""
    kept = copy.deepcopy(dict(values))
    for key in METADATA:
        parent, _, last = key.rpartition(".")
        holder = value_at(kept, parent) if parent else kept
        if isinstance(holder, dict):  # a config of somebody else's may have anything there
            holder.pop(last, None)
    return Layer("config", {"values": kept})


def of_randomness(config: Config, scheme: str) -> Layer:
    """Which numbers the streams give: seeds by stream, the scheme that turns them into numbers,
    and the interpreter's hash seed.
    """
    content = {
        "scheme": scheme,
        "seeds": dict(sorted(config.randomness.streams.items())),
        "python_hash_seed": config.reproducibility.python_hash_seed,
    }
    return Layer("randomness", content)


def of_distribution(config: Config) -> Layer:
    """How the sum behind one update is split, in logic: under the fixed tree the number of
    processes is a circumstance, else it counts.
    """
    trainer, reduction = config.trainer, config.reproducibility.reduction
    content = {
        "reduction": reduction,
        "microbatches": trainer.microbatches,
        "microbatch_examples": "all"
        if trainer.batch_size == "all"
        else trainer.batch_size // trainer.microbatches,
        "processes": config.hardware.processes if reduction == "allreduce" else "any",
    }
    return Layer("distribution", content)

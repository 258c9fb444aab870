"""The shapes of a recipe's layers in a record: of the template's runs, and of watched loops."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from saigen.documents import (
    Count,
    Document,
    Line,
    Name,
    Open,
    RelativePath,
    Sha256,
    Text,
    Tree,
    bounded,
)
from saigen.environment.machine import VARIABLES
from saigen.recipe import Rows, Snapshot

GIVEN = "given"  # a key that the config of a watched loop has, and no other


Count64 = Annotated[int, Field(ge=0, lt=2**64)]


class LayerEntry(Open):
    """One layer of the recipe: its digest, and all that entered it."""

    digest: Sha256


class DataLayer(LayerEntry):
    """What was read: the snapshot, and the arrays made of it."""

    snapshot: Snapshot
    rows: Rows
    prepared: dict[RelativePath, Sha256] = Field(description="the files below prepared/")
    inputs: Tree = Field(default={}, description="what is declared to be read besides")


class DataValues(Open):
    """Where the config says that the data is."""

    snapshot: RelativePath
    provenance: RelativePath


class AgreementValues(Open):
    """What the config says that "the same" is."""

    name: Name


class PrepareValues(Open):
    """How the config says that the data is prepared."""

    preparation: Tree


class HardwareValues(Open):
    """Where the config says that it runs."""

    device: Name


class Values(Open):
    """The config, as far as whoever reads a record relies on its shape."""

    data: DataValues
    reproducibility: AgreementValues
    prepare: PrepareValues
    task: Tree
    trainer: Tree
    randomness: Tree
    hardware: HardwareValues


class ConfigLayer(LayerEntry):
    """Every value that can move a bit."""

    values: Annotated[Values, BeforeValidator(bounded)]


class CodeLayer(LayerEntry):
    """The source that ran."""

    files: dict[RelativePath, Sha256]


class Canary(Document):
    """What fixed operations gave."""

    digest: Sha256
    operations: dict[Name, Name]


class EnvironmentLayer(LayerEntry):
    """What lay under the code."""

    python: Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.+]{0,31}$")]
    packages: dict[Name, Name] = Field(description="versions")
    lock: dict[Name, Sha256]
    switches: Tree
    variables: dict[Literal[VARIABLES], Line]  # type: ignore[valid-type]
    canary: Canary


class RandomnessLayer(LayerEntry):
    """Which numbers were drawn."""

    seeds: dict[Name, Count64]


class DeclaredData(LayerEntry):
    """Of a watched loop: what it was said to read."""

    files: dict[RelativePath, Sha256]


class WatchedValues(Open):
    """Of a watched loop: what was said of it, and what could be seen."""

    given: Tree = Field(description="declared; of no other config a key")
    arguments: list[Text] = Field(description="of the command line")
    optimizer: Tree = Field(description="by number: its class, and the settings of each group")


class WatchedConfig(LayerEntry):
    """Of a watched loop: every value that is known to move a bit."""

    values: Annotated[WatchedValues, BeforeValidator(bounded)]


class WatchedDistribution(LayerEntry):
    """Of a watched loop: how many processes shared it."""

    processes: Count


def _tag(layers: Any) -> str:
    """Which of both a config is."""
    try:
        return "watched" if GIVEN in layers["config"]["values"] else "template"
    except (KeyError, TypeError):
        return "template"


class Layers(Document):
    """The six layers, in the order in which one looks for a difference."""

    data: DataLayer
    config: ConfigLayer
    code: CodeLayer
    environment: EnvironmentLayer
    randomness: RandomnessLayer
    distribution: LayerEntry


class WatchedLayers(Layers):
    """Those of a loop that is not of the template."""

    data: DeclaredData  # type: ignore[assignment]
    config: WatchedConfig  # type: ignore[assignment]
    distribution: WatchedDistribution


class Recipe(Document):
    """Everything that goes into a run."""

    digest: Sha256
    layers: Annotated[
        Annotated[Layers, Tag("template")] | Annotated[WatchedLayers, Tag("watched")],
        Discriminator(_tag),
    ]

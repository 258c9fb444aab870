"""What a config names, built: each with a stream set immediately before.

So that numbers drawn in a constructor are the same in training, evaluation and prediction.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from saigen.config.callables import function, instantiate
from saigen.config.schema import Call, Config
from saigen.data.contract import check_dataset, check_task
from saigen.data.loader import Reader
from saigen.streams import Streams

if TYPE_CHECKING:
    from saigen.data.contract import Task
    from saigen.data.loader import Dataset


def build_model(config: Config, streams: Streams) -> torch.nn.Module:
    """Construct the model with the `init` stream set immediately before."""
    streams.set_globals("init")
    model: torch.nn.Module = instantiate(config.model)
    return model


def built(call: Call, config: Config, streams: Streams, times: int) -> Any:
    """Build what a section of the config names, with a place in the `init` stream of its own.

    `times` tells how often this section was built before.
    """
    name = next((n for n in type(config).model_fields if getattr(config, n) is call), "")
    if name == "model" and not times:  # where evaluation builds it, too
        return build_model(config, streams)
    # 0 built the model, 1 the task, and 2 gave lazy modules their shapes
    streams.set_globals("init", 3, int.from_bytes(name.encode()[:8]), times)
    return instantiate(call)


def build_task(config: Config, streams: Streams) -> "Task":
    """Construct the task. Raises Refusal if it lacks a method."""
    streams.set_globals("init", 1)
    task: Task = instantiate(config.task)
    check_task(task)
    return task


def build_dataset(
    config: Config, streams: Streams, name: str, arrays: Mapping[str, np.ndarray]
) -> "Dataset":
    """Construct `data.train_dataset` or `data.evaluation_dataset` over a split's arrays."""
    streams.set_globals("augment")
    dataset: Any = instantiate(getattr(config.data, name), arrays=arrays)
    check_dataset(dataset, f"data.{name}")
    return dataset  # type: ignore[no-any-return]


def build_reader(config: Config, dataset: "Dataset") -> "Reader":
    """What makes batches of a dataset's samples, by `data.fields` and `data.collate`."""
    data = config.data
    return Reader(dataset, data.fields, function(data.collate) if data.collate else None)

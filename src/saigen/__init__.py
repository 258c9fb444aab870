"""Saigen: training that can be made again, and that names what differs when it is not the same.

Read dvc.yaml first, then pipeline.py, then src/project/train.py.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saigen.config.schema import Config as Config
    from saigen.training.run import Run as Run
    from saigen.training.step import Step as Step
    from saigen.watching.callbacks import lightning_callback as lightning_callback
    from saigen.watching.callbacks import transformers_callback as transformers_callback
    from saigen.watching.watch import watch as watch

_HOMES = {
    "Config": "saigen.config.schema",
    "Run": "saigen.training.run",
    "Step": "saigen.training.step",
    "lightning_callback": "saigen.watching.callbacks",
    "transformers_callback": "saigen.watching.callbacks",
    "watch": "saigen.watching.watch",
}


def __getattr__(name: str) -> Any:  # `saigen --help` must not import torch
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'saigen' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

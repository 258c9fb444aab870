"""Hand a composed config to the process that takes this one's place, or to those it starts.

Composing costs more than half a second; a run that starts again, or starts eight ranks, needs it
once. A run that is made again has its record's config, whatever conf/ says now. It travels in an
anonymous file in memory (memfd_create(2), Linux) that children inherit, so nothing is left on
disk and nothing can be mixed up between two starts.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saigen.config.compose import Composition, typed

_VARIABLE = "SAIGEN_COMPOSED"


def give(values: Mapping[str, Any], overrides: Sequence[str]) -> int:
    """Leave a config for whoever takes this process's place; returns the descriptor to pass on."""
    descriptor = _file(values, overrides)
    os.environ[_VARIABLE] = str(descriptor)
    return descriptor


@contextmanager
def given(
    values: Mapping[str, Any], overrides: Sequence[str]
) -> Iterator[tuple[dict[str, str], tuple[int]]]:
    """The variables and descriptors with which a process started meanwhile takes a config."""
    descriptor = _file(values, overrides)
    try:
        yield {_VARIABLE: str(descriptor)}, (descriptor,)
    finally:
        os.close(descriptor)


def take(compose: Callable[[], Composition]) -> Composition:
    """The config that was left for this process, once; composes where none was."""
    descriptor = os.environ.pop(_VARIABLE, None)
    if descriptor is None:
        return compose()
    content = json.loads(Path(f"/proc/self/fd/{descriptor}").read_text(encoding="utf-8"))
    os.close(int(descriptor))
    return typed(content["values"], tuple(content["overrides"]), "conf")


def _file(values: Mapping[str, Any], overrides: Sequence[str]) -> int:
    descriptor = os.memfd_create("saigen-composed", 0)
    os.write(descriptor, json.dumps({"values": values, "overrides": overrides}).encode())
    return descriptor

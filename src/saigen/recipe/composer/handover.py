"""Hand a composed config to the process that takes this one's place, or to the ranks it starts.

Composing costs more than half a second; a run that starts again, or starts eight ranks, needs it
once. The config travels in an anonymous file in memory (memfd_create(2), Linux) that children
inherit, so nothing is left on disk and nothing can be mixed up between two starts.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from saigen.recipe.composer.compose import Composition, typed

_VARIABLE = "SAIGEN_COMPOSED"


def give(composition: Composition) -> int:
    """Leave the config for whoever is started next; returns the descriptor to pass on."""
    descriptor = os.memfd_create("saigen-composed", 0)
    text = json.dumps({"values": composition.values, "overrides": composition.overrides})
    os.write(descriptor, text.encode())
    os.environ[_VARIABLE] = str(descriptor)
    return descriptor


def take(compose: Callable[[], Composition]) -> Composition:
    """The config that was left for this process, once; composes where none was."""
    descriptor = os.environ.pop(_VARIABLE, None)
    if descriptor is None:
        return compose()
    content = json.loads(Path(f"/proc/self/fd/{descriptor}").read_text(encoding="utf-8"))
    os.close(int(descriptor))
    return typed(content["values"], tuple(content["overrides"]), "conf")

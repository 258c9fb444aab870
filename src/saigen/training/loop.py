"""Training from the config to the weights: a run, and the project's loop over its steps."""

from collections.abc import Callable
from pathlib import Path

from saigen.config.allowlist import allowed_modules, resolve
from saigen.config.compose import with_fitted
from saigen.config.schema import Config
from saigen.data.prepared import Prepared
from saigen.training.nondeterminism import explain
from saigen.training.processes import Group
from saigen.training.run import Run, Trained


def train(
    config: Config,
    prepared: Prepared,
    folder: Path | None,
    group: Group,
    *,
    recipe: str,
    say: Callable[[str], None],
) -> Trained:
    """Train by `trainer.loop`, as one of the processes of `group`.

    Everything that must survive a kill is written below `folder`, by rank 0, in the name of the
    recipe with this digest; other ranks pass None. Raises InterruptedAtCheckpoint after a signal to
    stop, Failure if the loss is no number.
    """
    config = with_fitted(config, prepared.arrays("fitted"), Path.cwd())
    loop = resolve(config.trainer.loop, allowed_modules(Path.cwd()), "trainer.loop")
    run = Run(config, prepared, folder, group, recipe=recipe, say=say)
    try:
        loop(config, run)
    except RuntimeError as error:
        if model := run.model:
            explain(error, model, run.loss_again)
        raise
    finally:
        run.close()
    return run.finish()

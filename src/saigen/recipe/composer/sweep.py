"""`saigen train --multirun`: Hydra's own sweepers and launchers, one process for each job.

Hydra decides which overrides make a job and where it runs; a job is `saigen train` with these
overrides, in a process of its own, which composes as every road does. Its value, for sweepers
that search, is the best of the monitored validation metric: the sign of what is minimized is
the sweeper's to know (`hydra.sweeper.direction`).
"""

import csv
import math
import secrets
import subprocess
import sys
from pathlib import Path

from saigen.recipe.composer.compose import CONF, compose
from saigen.recipe.composer.presets import refuse_frame
from saigen.recipe.composer.sources import read_sources
from saigen.recipe.layer import of_config
from saigen.refusal import Failure

_FOLDER = ".saigen/hydra"
_RUNS = Path("runs")


def sweep(overrides: list[str], root: Path) -> None:
    """Run a job for each combination that the overrides ask for; raises SystemExit if one fails.

    Each start has its own folder for what Hydra writes, out of the way of runs/ and of DVC's outs.
    """
    import hydra

    # Hydra runs before any job composes, so what conf/ may say to Hydra is checked here
    refuse_frame(read_sources(root / CONF))
    own = f"hydra.sweep.dir={_FOLDER}/{secrets.token_hex(6)}"
    sys.argv = [sys.argv[0], "--multirun", own, "hydra.output_subdir=null", *overrides]
    conf = str((root / CONF).resolve())
    hydra.main(config_path=conf, config_name="config", version_base="1.3")(job)()


def job(_: object) -> float | None:
    """One job of a sweep: the overrides that Hydra chose, in a process of their own."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    chosen = tuple(HydraConfig.get().overrides.task)
    command = [sys.executable, "-m", "saigen", "train", *chosen]
    print(f"job: {' '.join(command[2:])}", flush=True)
    if code := subprocess.run(command, check=False).returncode:
        raise Failure(
            f"a job of the sweep ended with exit code {code}",
            where=" ".join(chosen),
            expected="exit code 0",
            got=str(code),
            fix=f"see above; alone: saigen train {' '.join(chosen)}",
        )
    outer = GlobalHydra.instance().hydra  # Hydra's own main program runs around this
    GlobalHydra.instance().clear()
    try:
        return objective(chosen, Path())
    finally:
        GlobalHydra.instance().hydra = outer


def objective(overrides: tuple[str, ...], root: Path) -> float | None:
    """The best monitored validation metric of the newest run that these overrides made.

    None if there is no such run, or it was too short to be validated.
    """
    from saigen.records.runs import readable

    composition = compose(overrides, root / CONF)
    wanted = of_config(composition.values).digest
    for folder, record in reversed(readable(root / _RUNS)):
        if record["recipe"]["layers"]["config"]["digest"] == wanted:
            with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
                found = [float(row[-1]) for row in list(csv.reader(file))[1:] if row[-1]]
            found = [value for value in found if math.isfinite(value)]
            best = max if composition.config.trainer.monitor_mode == "max" else min
            return best(found, default=None)
    return None

"""`saigen train --multirun`: Hydra's own sweepers and launchers, one process for each job.

Hydra decides which overrides make a job and where it runs; a job is `saigen train` with these
overrides, in a process of its own, which composes as every road does. Its value, for sweepers
that search, is the best of the monitored validation metric: the sign of what is minimized is
the sweeper's to know (`hydra.sweeper.direction`).
"""

import csv
import math
import os
import secrets
import subprocess
import sys
from pathlib import Path

from saigen.config.compose import CONF, compose
from saigen.config.presets import refuse_frame
from saigen.config.sources import read_sources
from saigen.digest import digest_bytes
from saigen.documents import read_bytes, reason
from saigen.errors import Failure, Refusal, refuse_secrets
from saigen.printing import one_line
from saigen.recipe import of_config

_FOLDER = ".saigen/hydra"
_RUNS = Path("runs")
_CURVE = "history.csv"
_CURVE_BYTES = 1 << 30


def sweep(overrides: list[str], root: Path) -> None:
    """Run a job for each combination that the overrides ask for; raises Failure if one fails, and
    Refusal if Hydra cannot make jobs of them.

    Each start has its own folder for what Hydra writes, out of the way of runs/ and of DVC's outs.
    """
    import hydra
    from hydra.errors import HydraException

    # Hydra says and keeps them as they are
    refuse_secrets(overrides, lambda key: f"command line: override {key}", "the sweep")

    # Hydra runs before any job composes, so what conf/ may say to Hydra is checked here
    refuse_frame(read_sources(root / CONF))
    own = f"hydra.sweep.dir={_FOLDER}/{secrets.token_hex(6)}"
    sys.argv = [sys.argv[0], "--multirun", own, "hydra.output_subdir=null", *overrides]
    conf = str((root / CONF).resolve())
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else it prints an error itself, and ends the process
    try:
        hydra.main(config_path=conf, config_name="config", version_base="1.3")(job)()
    except HydraException as error:
        raise Refusal(
            "Hydra cannot make jobs of the overrides",
            where=f"command line: {' '.join(overrides)}",
            expected="overrides as Hydra's grammar has them, and a sweeper that is installed",
            got=reason(error),
            fix="write e.g. `saigen train -m optimizer.lr=0.01,0.02`; quote what holds other signs",
        ) from error


def job(_: object) -> float | None:
    """One job of a sweep: the overrides that Hydra chose, in a process of their own."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    chosen = tuple(HydraConfig.get().overrides.task)
    command = [sys.executable, "-m", "saigen", "train", *chosen]
    # a launcher may run this in a process of its own, where nothing escapes it
    print(one_line(f"job: {' '.join(command[2:])}"), flush=True)
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
    """The best monitored validation metric of the newest whole run that these overrides made.

    None if there is no such run, or it was too short to be validated.
    """
    from saigen.runs.folders import readable

    composition = compose(overrides, root / CONF)
    wanted = of_config(composition.values).digest
    for folder, record in reversed(readable(root / _RUNS)):
        if record["complete"] and record["recipe"]["layers"]["config"]["digest"] == wanted:
            found = _validations(folder / _CURVE, record["files"].get(_CURVE))
            best = max if composition.config.trainer.monitor_mode == "max" else min
            return best(filter(math.isfinite, found), default=None)
    return None


def _validations(path: Path, digest: str | None) -> list[float]:
    """The validations of a learning curve, whose digest a record holds."""
    try:
        content = read_bytes(path, _CURVE_BYTES)
        rows = list(csv.reader(content.decode().splitlines()))[1:]
        found = [float(row[-1]) for row in rows if row[-1]]
        got = "" if digest_bytes(content) == digest else f"sha256 {digest_bytes(content)}"
    except (OSError, ValueError, IndexError, csv.Error) as error:
        found, got = [], reason(error)
    if got:
        raise Refusal(
            "the learning curve is not the one that the run wrote",
            where=str(path),
            expected=f"sha256 {digest} (the record beside it)",
            got=got,
            fix=f"`saigen audit` names what was altered; remove {path.parent} and start again",
        )
    return found

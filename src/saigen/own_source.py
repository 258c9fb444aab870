"""Which source a process runs: that of the folder that it was started in, or another copy's."""

import os
import sys
from pathlib import Path

_EXPERIMENTS = "/.dvc/tmp/exps/"  # where DVC copies a project to for --temp and --queue


def start_from_own_source(root: Path) -> None:
    """Start again from the source that stands here, in DVC's copy of a project.

    Its interpreter finds the source of the project that was copied first, which may have been
    edited since the experiment was queued.
    """
    own = root.resolve() / "src"
    runs = Path(__file__).resolve().parent
    if _EXPERIMENTS not in f"{own}" or runs == own / "saigen" or not (own / "saigen").is_dir():
        return
    before = os.environ.get("PYTHONPATH", "")
    if before.split(os.pathsep)[0] == str(own):  # it did not help: what trains refuses it by name
        return
    path = os.pathsep.join(filter(None, (str(own), before)))
    os.execve(
        sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"PYTHONPATH": path}
    )

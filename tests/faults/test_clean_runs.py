"""No false alarm: runs that must be the same are called the same, however they were made."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT
from lab import Attempt, wait_for

from saigen.analysis.diff import diff
from saigen.analysis.run import open_run
from saigen.training.trace_file import HEADER_BYTES

SHORT = ("trainer.max_steps=4", "trainer.microbatches=2", "tracking.checkpoint_every_steps=1")
MLP = "src/project/models/mlp.py"


def link_data(root: Path) -> None:
    (root / "data").rename(root.parent / "shared")
    (root / "data").symlink_to("../shared")


def leave_editor_files(root: Path) -> None:
    """What vim, Emacs and others put beside a file that is open and not yet saved."""
    folder = root / "src/project/models"
    (folder / ".mlp.py.swp").write_bytes(b"b0VIM 9.0\0")
    (folder / "mlp.py~").write_text("class MLP: the version before\n")
    (folder / "#mlp.py#").write_text("class MLP: not yet saved\n")
    for lock in (folder / ".#mlp.py", root / "conf/model/.#mlp.yaml"):
        lock.symlink_to("someone@a-machine.1234:1700000000")


def remark(root: Path) -> None:
    path = root / MLP
    path.write_text("# A remark.\n" + path.read_text())


def add_a_file_nobody_imports(root: Path) -> None:
    (root / "src/project/models/mlp (copy).py").write_text("raise SystemExit\n")


@dataclass(frozen=True)
class Clean:
    """A way to make the same run. `perturb` is of saigen.analysis.child."""

    name: str
    overrides: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    perturb: tuple[str, ...] = ()
    killed: bool = False
    arrange: object = None


ELSEWHERE = (("LC_ALL", "C"), ("TZ", "Pacific/Kiritimati"), ("HOME", "/nonexistent"))
CLEAN = (
    Clean("plain"),
    Clean("again"),
    Clean("a folder with spaces and ünïcode"),
    Clean("workers", overrides=("hardware.loader_workers=2",)),
    Clean("processes", overrides=("hardware.processes=2",)),
    Clean("killed", killed=True),
    Clean("killed with workers", overrides=("hardware.loader_workers=1",), killed=True),
    Clean("locale", environment=ELSEWHERE),
    Clean("host", perturb=("host",)),
    Clean("draws", perturb=("draws",)),
    Clean("listing", perturb=("listing",)),
    Clean("hash seed", overrides=("reproducibility.python_hash_seed=7",)),
    Clean("link", arrange=link_data),
    Clean("editor", arrange=leave_editor_files),
    Clean("remark", arrange=remark, overrides=("tracking.history_every_steps=1",)),
    Clean("unused file", arrange=add_a_file_nobody_imports),
)


@pytest.fixture(scope="module")
def runs(zygote, _prepared_once, tmp_path_factory):
    """The folder of each clean run."""
    import shutil

    from conftest import copy_project

    from faults.conftest import Forked

    found = {}
    for clean in CLEAN:
        root = tmp_path_factory.mktemp("clean") / clean.name
        copy_project(root)
        shutil.copytree(_prepared_once, root / "prepared")
        if clean.arrange:
            clean.arrange(root)
        project = Forked(root, zygote)
        verbs = [["prepare"], ["train", *SHORT, *clean.overrides]]
        plan = {"perturb": clean.perturb, "verbs": verbs}
        if clean.killed:
            assert project.verb(plan=plan | {"kill_at": [3]})[0] == -9
            plan = plan | {"verbs": verbs[1:]}
        code, said = project.verb(plan=plan, env=dict(clean.environment))
        assert code == 0, said
        (found[clean.name],) = (path.parent for path in root.glob("runs/*/record.json"))
    return found


@pytest.mark.slow
def test_over_100_pairs_of_clean_runs_there_is_not_one_false_alarm(runs):
    pairs = list(itertools.combinations(runs, 2))
    assert len(pairs) > 100
    for names in pairs:
        found = diff(*(open_run(str(runs[name]), ROOT) for name in names))
        assert (found.same_outcome, found.verdict.suspects) == (True, []), (names, found.verdict)
        assert found.incomparable is None
        assert (found.trace.phase, found.outcome) == (None, [])
        assert all(difference.kind != "changes the experiment" for difference in found.differences)
    assert diff(*(open_run(str(runs[n]), ROOT) for n in ("plain", "again"))).same_recipe


@pytest.mark.slow
def test_a_file_saved_while_a_run_goes_on_is_of_the_next_run(forked):
    """The record holds the source that ran, hashed and kept before step 0."""
    copy = forked()
    command = ["train", "trainer.max_steps=1200"]
    log = copy.root.parent / "log"
    running = Attempt({copy.start(command, log): log})
    wait_for(
        lambda: any(t.stat().st_size > HEADER_BYTES for t in copy.root.glob("runs/*/trace.bin"))
    )
    copy.patch(MLP, "nn.GELU()", "nn.ReLU()")
    assert running.code(log) is None, "the run ended before the file was saved"
    assert running.codes() == [0], running.log()
    copy.saigen(*command)
    found = copy.diff()
    assert found["verdict"]["suspects"] == [f"code {MLP}:MLP.__init__"]
    (difference,) = (d for d in found["differences"] if d["layer"] == "code")
    assert "-            nn.GELU()," in difference["details"]
    a = json.loads(copy.saigen("show", "last~1", "--json"))
    copy.patch(MLP, "nn.ReLU()", "nn.GELU()")
    copy.saigen(*command)
    b = json.loads(copy.saigen("show", "last", "--json"))
    assert a["outcome"]["digest"] == b["outcome"]["digest"]
    assert a["recipe"]["digest"] == b["recipe"]["digest"]

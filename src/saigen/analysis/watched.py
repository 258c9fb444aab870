"""A watched loop made again, and what it claims: its script is started once more, in a folder that
holds what the record names and nothing else.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saigen.analysis.claims import Claim, Verification
from saigen.analysis.diff import Diff
from saigen.analysis.run import Run
from saigen.digest import digest_file
from saigen.documents import write_inside
from saigen.environment.machine import VARIABLES
from saigen.errors import Failure, Refusal
from saigen.recipe import LAYERS
from saigen.runs.folders import RUNS, RUNS_VARIABLE, all_runs
from saigen.runs.metadata import now
from saigen.runs.record import is_watched, read_record

Say = Callable[[str], None]

_PACKAGE = Path(__file__).parents[2]
_NOT_OURS = {
    "kill": "killed at any step and continued: the same bits",
    "processes": "another number of processes: the same bits",
    "workers": "another number of loader workers: the same bits",
}
CLAIMS = ("repeat", *_NOT_OURS)
_WHY = "a loop that is only watched keeps its own checkpoints, order and sums; port it to \
src/project/train.py (docs/loop.md) to have this claim"


def of_template(run: Run, verb: str) -> Run:
    """The run. Raises Refusal if it is of a watched loop, whose config the verb cannot read."""
    if is_watched(run.record):
        raise Refusal(
            f"`{verb}` wants a run of a project of this template",
            where=str(run.folder),
            expected="a run that `saigen train` made",
            got="a run of a loop that was watched",
            fix=f"`saigen show {run.name}`, `saigen diff`, `saigen rerun {run.name}` and "
            f"`saigen verify {run.name}` are for it",
        )
    return run


@contextmanager
def made_again(run: Run, root: Path, say: Say, agree: Callable[[], None]) -> Iterator[Run]:
    """Start the script of a run again, in a folder that holds its recorded code and data; the run
    that it made, gone afterwards. Raises Refusal where that cannot be, Failure if it ends badly.
    """
    _refuse_unstartable(run)
    agree()
    with tempfile.TemporaryDirectory(prefix="saigen-rerun-") as scratch:
        (project := Path(scratch, "project")).mkdir()
        yield _made(run, root, project, say)


def _made(run: Run, root: Path, project: Path, say: Say) -> Run:
    for name, digest in {**run.layer("code")["files"], **run.layer("data")["files"]}.items():
        _lay(run, root, project, name, digest)
    say("code and data: as recorded; environment: this one, as it is")
    say("training")
    runs = project.parent / RUNS
    done = _start(run, root, project, runs)
    number = run.record["metadata"]["started"]["number"]
    records = [(folder, read_record(folder)) for folder in all_runs(runs)]
    made = [f for f, r in records if r["metadata"]["started"]["number"] == number and r["complete"]]
    if not made:
        output = done.stderr.decode(errors="replace").strip()[-600:]
        raise Failure(
            "the run could not be made again",
            where=str(run.record["metadata"]["started"]["script"]),
            expected="a script that trains, as it did, from its own code and the declared data",
            got=output or f"it ended with code {done.returncode}, and no run",
            fix="declare every file that it reads: saigen.watch(..., data=[...]); then make the "
            "run once more, and rerun that one",
        )
    return Run(folder=made[0], record=read_record(made[0]), root=project)


def _refuse_unstartable(run: Run) -> None:
    started = run.record["metadata"]["started"]
    processes = run.layer("distribution")["processes"]
    if processes > 1:
        got = f"{processes} processes, which a launcher started"
        fix = "start it with its launcher again, and compare the two with `saigen diff`"
    elif started["script"] is None:
        got = "no script below the folder it was started in: a notebook, or a terminal"
        fix = "start the script from its own folder, `python train.py`; that run can be made again"
    elif started["script"] not in run.layer("code")["files"]:
        got = f"{started['script']}, which is not among the recorded files"
        fix = "ask where the record comes from: its script is one of the files that it names"
    else:
        return
    raise Refusal(
        "this run cannot be started again from its record",
        where=str(run.folder),
        expected="one process that a script began",
        got=got,
        fix=fix,
    )


def _lay(run: Run, root: Path, project: Path, name: str, digest: str) -> None:
    """Put a recorded file in place; of data that is large, or lies elsewhere, a link to it."""
    outside = run.record["metadata"]["outside"].get(name)
    source = Path(outside) if outside else root / name
    if outside or (content := run.content(digest, name)) is None:
        if not source.is_file() or digest_file(source) != digest:
            raise Refusal(
                "the run cannot be made again: not all that it read is here",
                where=str(source),
                expected=f"sha256 {digest}, as its record says",
                got="another content" if source.is_file() else "no such file",
                fix="bring the file back as it was, then start the same command again",
            )
        if not outside:
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).symlink_to(source.resolve())
        return
    write_inside(project, name, content)


def _start(run: Run, root: Path, project: Path, runs: Path) -> "subprocess.CompletedProcess[bytes]":
    started, variables = run.record["metadata"]["started"], run.layer("environment")["variables"]
    own = [str(project / path) for path in started["paths"]]
    given = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    others = [p for p in given if not Path(p).resolve().is_relative_to(root.resolve())]
    environment = {n: v for n, v in os.environ.items() if n not in VARIABLES} | variables
    environment |= {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([*own, *others, str(_PACKAGE)])),
        "PYTHONDONTWRITEBYTECODE": "1",
        RUNS_VARIABLE: str(runs),
    }
    what = ["-m", started["module"]] if started["module"] else [started["script"]]
    return subprocess.run(
        [sys.executable, *what, *run.config["arguments"]], cwd=project, check=False,
        capture_output=True, stdin=subprocess.DEVNULL, env=environment,
    )  # fmt: skip


def verification(run: Run, found: Diff, started_at: str) -> Verification:
    """What a watched run claims, once it was made again: that it can be, and no more."""
    seed: dict[str, Any] = {"expected": found.a.outcome, "got": found.b.outcome}
    repeat = Claim(
        name="repeat", says="made again from the recorded code and data: the same bits",
        result="held" if found.same_outcome else "broken",
        why="" if found.same_outcome else found.verdict.sentence, evidence=seed,
    )  # fmt: skip
    rest = [Claim(name=n, says=says, result="not made", why=_WHY) for n, says in _NOT_OURS.items()]
    return Verification(
        steps=None,
        started_at=started_at,
        finished_at=now(),
        machine=run.record["metadata"]["machine"]["cpu_model"],
        layers={name: run.layer(name)["digest"] for name in LAYERS},
        config=run.config,
        claims=[repeat, *rest],
    )


def is_reference(words: Sequence[str]) -> bool:
    """Whether what `verify` was given is one RUN, and no override of a config."""
    return len(words) == 1 and "=" not in words[0] and words[0][:1] not in ("~", "+")

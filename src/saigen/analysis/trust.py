"""Whose code a verb is about to run. A record names source, a lock and an install script, and to
make its run again is to run them; so what is not of this project is asked about, once.
"""

import hashlib
import sys

from saigen import git_dvc
from saigen import source_code as code
from saigen.analysis.run import Run
from saigen.digest import digest_bytes, digest_file
from saigen.documents import regular
from saigen.errors import Refusal
from saigen.files import json_bytes
from saigen.printing import one_line, visible
from saigen.runs import ledger
from saigen.runs.folders import RUNS


def agree(run: Run, verb: str, *, trusted: bool) -> None:
    """Return if the code of a run may run here: it is this project's own, or a person says so, by
    `--trust` or at the terminal. Raises Refusal otherwise.
    """
    if trusted or is_ours(run):
        return
    commit = run.record["metadata"]["git"]["commit"] or "no commit"
    description = (
        f"the source of {run.name}, {_differing(run)}, of {commit[:12]}, and its install.sh"
    )
    if sys.stdin.isatty() and sys.stderr.isatty():
        question = f"`{verb}` runs here, as you: {description}\n{run.folder}\nRun it? [y/N] "
        print(visible(question), end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return
    raise Refusal(
        "the record brings code of somebody else",
        where=str(run.folder),
        expected="a run of this project's ledger, or a published one of its history, or the "
        "source of this checkout",
        got=description,
        fix=f"`saigen diff` and `saigen show` run nothing of it; once you have read it: {verb} "
        "--trust",
    )


def is_ours(run: Run) -> bool:
    """Whether the code of a run is code that this project has anyway: its ledger has the record,
    its history published it, or all that the run had is what stands in this checkout.
    """
    content = json_bytes(run.record)
    if digest_bytes(content) in {line["record"] for line in ledger.entries(run.root / RUNS)}:
        return True
    # the name of the record as an object of git: a commit below HEAD brought it
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    asked = ("-1", "--format=%H", f"--find-object={blob}", "HEAD")
    return bool(git_dvc.git(run.root, "log", *asked).stdout.strip()) or _is_checkout(run)


def _is_checkout(run: Run) -> bool:
    if run.source != code.all_sources(run.root):
        return False
    state = run.record["metadata"]["git"]
    files = {**state["changed"], **state["untracked"]}
    if state["links"] or not all(_has(run, name, digest) for name, digest in files.items()):
        return False
    if state["commit"] is None:
        return not files
    below = git_dvc.git(run.root, "merge-base", "--is-ancestor", values=[state["commit"], "HEAD"])
    return not below.returncode


def _has(run: Run, name: str, digest: str) -> bool:
    path = regular(run.root, name)
    return digest_file(path) == digest if path else not digest


def _differing(run: Run) -> str:
    here = code.all_sources(run.root)
    other = [name for name, d in run.source.items() if here.get(name) != d]
    state = run.record["metadata"]["git"]
    other += ["uncommitted changes"] if state["changed"] or state["untracked"] else []
    shown = ", ".join(map(one_line, other[:3])) + (", ..." if len(other) > 3 else "")
    return f"{len(other)} parts of it not as here ({shown})" if other else "as here"

"""A run's own source, snapshot and config in a copy of the project, and a training there."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from saigen.judgement.proving.workplace import Workplace
from saigen.judgement.run import Run
from saigen.recipe.composer.compose import read_composed
from saigen.refusal import Refusal


def lay_source(run: Run, project: Path) -> None:
    """Put every source file of a run in place of what is there. Raises Refusal if one is lost."""
    shutil.rmtree(project / "src", ignore_errors=True)
    for name, digest in run.layer("code")["files"].items():
        write_kept(project / name, run.content(digest, name), name)


def train_there(
    place: Workplace,
    values: Mapping[str, Any],
    plan: Mapping[str, Any],
    *,
    environment: Mapping[str, str],
    log: Path,
) -> int:
    """Prepare, train and evaluate under a whole config; the exit code."""
    (place.root / "params.yaml").write_text(yaml.safe_dump(dict(values), sort_keys=False))
    composition = read_composed(place.root / "params.yaml")
    verbs = [["prepare", "--stage"], ["train", "--stage"], ["evaluate", "last"]]
    process = place.start(composition, {**plan, "verbs": verbs}, environment=environment, log=log)
    return process.wait()


def lay_snapshot(run: Run, project: Path) -> None:
    """Put a run's snapshot in place, with a provenance that names its digest."""
    told, data = run.layer("data")["snapshot"], run.config["data"]
    path = data["snapshot"]
    write_kept(project / path, run.content(told["sha256"], path), path)
    provenance = project / data["provenance"]
    content = json.loads(provenance.read_text(encoding="utf-8")) if provenance.is_file() else {}
    content |= {"sha256": told["sha256"], "rows": told["rows"]}
    provenance.write_text(json.dumps(content), encoding="utf-8")


def write_kept(path: Path, content: bytes | None, name: str) -> None:
    """Write what was kept. Raises Refusal where nothing was."""
    if content is None:
        raise Refusal(
            "the run cannot be made again: not all of it was kept",
            where=name,
            expected="the content that its record names",
            got="not kept in runs/.kept, and not in git",
            fix="bring the run's project, or make the run again with `saigen rerun`",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

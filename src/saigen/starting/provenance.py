"""`saigen provenance`: what the snapshot in use is, written beside it when it was taken anew."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from saigen.config.callables import instantiate
from saigen.config.compose import compose
from saigen.data import preparation
from saigen.digest import digest_file
from saigen.errors import Refusal, refuse_secrets
from saigen.files import write_json
from saigen.project_code import project_errors


def write(root: Path, said: Mapping[str, str | None], say: Callable[[str], None]) -> None:
    """Write digest, number of rows and time of the snapshot that conf/ names into its provenance;
    what stood there besides stays, but for what is `said` now (source, conditions).

    Raises Refusal if there is no snapshot, or the preparation cannot read it.
    """
    config = compose(()).config
    data = config.data
    snapshot, path = root / data.snapshot, root / data.provenance
    if not snapshot.is_file():
        raise Refusal(
            "there is no snapshot to describe",
            where=f"data.snapshot: {data.snapshot}",
            expected="a file",
            got="none",
            fix="put the file there; or `make data` brings the one that data.dvc names",
        )
    with project_errors():
        steps: preparation.Preparation = instantiate(config.prepare.preparation)
        table = steps.read(snapshot)
    preparation.refuse_ids(table, data.snapshot)
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    digest = digest_file(snapshot)
    told = {key: text for key, text in said.items() if text is not None}
    if before.get("sha256") == digest and told.items() <= before.items():
        say(f"{data.provenance} says so already: sha256 {digest[:12]}, {len(table.ids)} rows")
        return
    taken = datetime.now(UTC).isoformat(timespec="seconds")
    if before.get("sha256") == digest:
        taken = before.get("taken_at", taken)  # only words are added
    found = {"name": data.name, "file": snapshot.name, "sha256": digest, "taken_at": taken,
             "rows": len(table.ids)}  # fmt: skip
    missing = {key: "not said yet" for key in ("source", "conditions") if key not in before}
    refuse_secrets(told, lambda key: f"--{key}", data.provenance)
    write_json(path, before | missing | found | told)
    say(
        f"{data.provenance}: sha256 {digest[:12]}, {len(table.ids)} rows"
        + (f"; --{' and --'.join(k for k in missing if k not in told)} would say where it is from"
           if missing.keys() - told.keys() else "")
        + "\nnext: dvc add data && dvc push"
    )  # fmt: skip

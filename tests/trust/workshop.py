"""Projects in the states from which each command is tried, and what must be the same afterwards."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from lab import SHORT, Attempt, Lab

from saigen.config.compose import compose
from saigen.data.prepared import open_prepared
from saigen.digest import digest_file
from saigen.runs.audit import audit
from saigen.runs.folders import readable
from saigen.runs.model_folder import open_model


@dataclass(frozen=True)
class Command:
    """A verb, and the state of the project that it is started in."""

    state: str
    argv: tuple[str, ...]


COMMANDS = {
    "prepare": Command("prepared", ("prepare", *SHORT)),
    "train": Command("prepared", ("train", *SHORT)),
    "train again": Command("evaluated", ("train", *SHORT)),
    "train stage": Command("prepared", ("train", "--stage")),
    "evaluate": Command("trained", ("evaluate", "last")),
    "evaluate stage": Command("trained", ("evaluate", "--stage")),
    "publish again": Command("evaluated", ("evaluate", "--stage")),
    "predict": Command("evaluated", ("predict", "model", "rows.csv", "--out", "out.csv")),
    "restore": Command("evaluated", ("restore", "last", "--to", "model")),
    "compose": Command("evaluated", ("compose", "--write")),
    "repair": Command("damaged", ("audit", "--repair")),
}


class Workshop:
    """Makes the states once; copies them; starts commands in the copies."""

    def __init__(self, lab: Lab, top: Path) -> None:
        self._lab, self._top, self._count = lab, top, 0
        base = top / "prepared"
        shutil.copytree(lab.project.root, base, symlinks=True)
        text = compose(SHORT, base / "conf").yaml
        (base / "params.yaml").write_text(text)
        self._must(base, "compose", "--stage", env={"DVC_EXP_NAME": "x"})
        rows = (base / "data/digits.csv").read_text().splitlines()[:6]
        (base / "rows.csv").write_text("\n".join(rows) + "\n")
        self._must(self._state("trained", base), "train", "--stage")
        evaluated = self._state("evaluated", top / "trained")
        self._must(evaluated, "evaluate", "--stage")
        ledger = self._state("damaged", evaluated) / "runs/ledger.jsonl"
        ledger.write_bytes(ledger.read_bytes().replace(b"finished", b"FINISHED"))
        self._expected: dict[str, dict[str, object]] = {}

    def _state(self, name: str, start: Path) -> Path:
        return Path(shutil.copytree(start, self._top / name, symlinks=True))

    def _must(self, project: Path, *argv: str, env: dict[str, str] | None = None) -> None:
        attempt = self.start(project, argv, env=env)
        assert attempt.codes() == [0], attempt.log()

    def project(self, state: str) -> Path:
        """A copy of a state."""
        self._count += 1
        return self._state(f"project-{self._count}", self._top / state)

    def start(self, project: Path, argv, *, env=None, hurt=None) -> Attempt:
        """Start a command in a project."""
        self._count += 1
        log = self._top / f"log-{self._count}"
        variables = {"SAIGEN_STARTED_AGAIN": "1", **(env or {})}
        pid = self._lab.zygote.start(list(argv), project, variables, log, hurt=hurt)
        return Attempt({pid: log})

    def expected(self, name: str) -> dict[str, object]:
        """What a command leaves that nothing disturbs; made once."""
        if name not in self._expected:
            project = self.project(COMMANDS[name].state)
            self._must(project, *COMMANDS[name].argv)
            self._expected[name] = left(project)
            shutil.rmtree(project)
        return self._expected[name]

    def finish(self, name: str, project: Path, code: int) -> None:
        """Start a command again that was hurt, unless it had ended well all the same (`code`): it
        must end as if nothing had been.
        """
        whole_so_far(project)
        if code:
            self._must(project, *COMMANDS[name].argv)
        assert left(project) == self.expected(name)
        assert not [p for p in project.rglob(".*.saigen-*") if any(p.iterdir())]
        shutil.rmtree(project)


def left(project: Path) -> dict[str, object]:
    """What a project holds, without times and places; the audit must call it intact."""
    found = audit(project / "runs")
    assert found.verdict == "intact", found.findings
    names = ("params.yaml", "out.csv", "results/predictions.csv", "results/trace.bin")
    outcomes = [r["outcome"]["digest"] for _, r in readable(project / "runs") if r["complete"]]
    model = project / "model"
    return {
        **{name: digest_file(project / name) for name in names if (project / name).exists()},
        "outcomes": outcomes,
        "lines": found.lines,
        "model": open_model(model).manifest["files"] if model.exists() else None,
        "prepared": open_prepared(project / "prepared").manifest,
    }


def whole_so_far(project: Path) -> None:
    """What stood there before a command was hurt stands there whole, as it was or as it will be."""
    open_prepared(project / "prepared")
    if (project / "model").exists():
        open_model(project / "model")
    for folder, _ in readable(project / "runs"):
        if (folder / "model").exists():
            open_model(folder / "model")
    if (project / "out.csv").exists():
        assert (project / "out.csv").read_bytes().endswith(b"\n")


def read_only(folder: Path, *, on: bool) -> None:
    """Take the right to write into a folder and all in it, or give it back."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod((0o555 if on else 0o755) if path.is_dir() else 0o444 if on else 0o644)

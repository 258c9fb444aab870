"""One composer, every road: the same request gives the same bytes and the same recipe."""

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, TIMEOUT, Project, copy_project

from saigen.config.compose import compose
from saigen.errors import Refusal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
DVC = str(Path(sys.executable).parent / "dvc")
ASKED = ("model=cnn", "optimizer.lr=0.01")
SETS = tuple(part for text in ASKED for part in ("-S", text))


class Repository(Project):
    """A project under git and DVC in which two steps are trained, so that a road takes seconds."""

    path: str

    def do(self, *command: str) -> str:
        names = {f"GIT_{a}_{b}": "a@b" for a in ("AUTHOR", "COMMITTER") for b in ("NAME", "EMAIL")}
        done = self.run(*command, env=names | {"SAIGEN_ENVIRONMENT": "container"})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def make(self, *arguments: str) -> str:
        return self.do("env", f"PATH={self.path}", "make", *arguments)

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def commit(self) -> None:
        self.do("git", "add", "-A")
        self.do("git", "commit", "-qm", "x")

    def clean(self) -> None:
        """Back to what is committed, with no run left that could be continued."""
        self.do("git", "checkout", "-q", ".")
        self.do("git", "clean", "-fdq")
        for made in ("runs", ".saigen/hydra"):
            shutil.rmtree(self.root / made, ignore_errors=True)

    def composes(self, *overrides: str) -> str:
        return compose(overrides, self.root / "conf").yaml

    def results(self) -> tuple[str, str, list[str]]:
        """Resolved config, recipe digest and overrides of what lies in the workspace."""
        record = json.loads((self.root / "results/record.json").read_text())
        config = (self.root / "runs" / record["run"] / "config.yaml").read_text()
        return config, record["recipe"]["digest"], record["metadata"]["overrides"]

    def experiment(self, name: str) -> tuple[str, str, list[str]]:
        """The same of an experiment that was run in another folder."""
        refs = self.do("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
        ref = next(ref for ref in refs if ref.endswith(f"/{name}"))
        record = json.loads(self.do("git", "show", f"{ref}:results/record.json"))
        config = self.do("git", "show", f"{ref}:params.yaml")
        return config, record["recipe"]["digest"], record["metadata"]["overrides"]

    def runs(self) -> dict[str, tuple[str, str, list[str]]]:
        """The same of every run folder, by its config."""
        found = {}
        for path in (self.root / "runs").glob("*/record.json"):
            record = json.loads(path.read_text())
            config = (path.parent / "config.yaml").read_text()
            entry = (config, record["recipe"]["digest"], record["metadata"]["overrides"])
            found[config] = entry
        return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    root = copy_project(tmp_path_factory.mktemp("roads") / "project").root
    repository = Repository(root)
    for name in ("Makefile", ".gitignore"):
        shutil.copyfile(ROOT / name, root / name)
    repository.edit("conf/trainer/default.yaml", "max_steps: null", "max_steps: 2")
    repository.do("git", "init", "-q")
    repository.do("git", "config", "user.name", "a")
    repository.do("git", "config", "user.email", "a@b")
    repository.path = f"{root.parent}/bin:{Path(DVC).parent}:{os.environ['PATH']}"
    # `make` clears PYTHONPATH, because an installed environment needs none: stand in for one
    stand_in = root.parent / "bin/python"
    stand_in.parent.mkdir()
    source, python = shlex.quote(f"{root}/src"), shlex.quote(sys.executable)
    stand_in.write_text(f'#!/bin/sh\nPYTHONPATH={source} exec {python} "$@"\n')
    stand_in.chmod(0o755)
    repository.make("train")
    repository.commit()
    return repository


@pytest.fixture
def fresh(repository: Repository) -> Iterator[Repository]:
    repository.clean()
    yield repository
    repository.clean()


def test_every_road_of_the_plain_request_gives_the_same_bytes_and_recipe(
    fresh: Repository,
) -> None:
    expected = fresh.composes()
    record = json.loads((fresh.root / "results/record.json").read_text())
    roads = {
        "make train": ((fresh.root / "params.yaml").read_text(), record["recipe"]["digest"], [])
    }
    fresh.do(DVC, "repro", "--force")
    roads["dvc repro"] = fresh.results()
    fresh.clean()
    fresh.saigen("train")
    roads["saigen train"] = fresh.runs()[expected]
    fresh.clean()
    fresh.do(DVC, "exp", "run", "--force")
    roads["dvc exp run"] = fresh.results()
    fresh.clean()
    fresh.saigen("train", "--multirun", "randomness.seed=0,1")
    roads["saigen train --multirun"] = (*fresh.runs()[expected][:2], [])
    assert len(fresh.runs()) == 2
    digest = roads["make train"][1]
    assert roads == dict.fromkeys(roads, (expected, digest, []))


def test_every_road_of_one_request_gives_the_same_bytes_and_recipe(fresh: Repository) -> None:
    expected = fresh.composes(*ASKED)
    fresh.saigen("train", *ASKED)
    roads = {"saigen train": fresh.runs()[expected]}
    fresh.clean()
    fresh.saigen("train", "--multirun", "model=cnn", "optimizer.lr=0.01,0.02")
    assert len(fresh.runs()) == 2
    roads["saigen train --multirun"] = fresh.runs()[expected]
    fresh.clean()
    fresh.do(DVC, "exp", "run", *SETS)
    roads["dvc exp run -S"] = fresh.results()
    assert "Running stage" not in fresh.do(DVC, "repro")
    fresh.clean()
    fresh.make("train", f"ARGS={' '.join(ASKED)}")
    roads["make train ARGS"] = fresh.results()
    fresh.clean()
    fresh.do(DVC, "exp", "run", "--temp", "-n", "in-temp", *SETS)
    roads["dvc exp run --temp"] = fresh.experiment("in-temp")
    fresh.do(DVC, "exp", "run", "--queue", "-n", "queued", *SETS)
    run_queue(fresh)
    roads["dvc queue start"] = fresh.experiment("queued")
    assert fresh.do("git", "status", "--short") == ""
    fresh.do(DVC, "exp", "apply", "queued")
    fresh.do(DVC, "checkout")
    assert "Running stage" not in fresh.do(DVC, "repro")
    digest = roads["saigen train"][1]
    assert roads == dict.fromkeys(roads, (expected, digest, list(ASKED)))

    fresh.clean()
    fresh.edit("conf/config.yaml", "- model: mlp", "- model: cnn")
    fresh.edit("conf/optimizer/adamw.yaml", "lr: 0.003", "lr: 0.01")
    fresh.do(DVC, "repro")
    assert fresh.results() == (expected, digest, [])


def run_queue(repository: Repository) -> None:
    repository.do(DVC, "queue", "start")
    try:
        for _ in range(TIMEOUT):
            status = repository.do(DVC, "queue", "status")
            if "Success" in status or "Failed" in status:
                break
            time.sleep(1)
        assert "Success" in status, status + repository.do(DVC, "queue", "logs", "queued")
    finally:
        repository.do(DVC, "queue", "stop")


def test_the_tables_and_plots_of_dvc_show_what_was_changed(fresh: Repository) -> None:
    fresh.do(DVC, "exp", "run", "-n", "shown", *SETS)
    params = json.loads(fresh.do(DVC, "params", "diff", "--json"))["params.yaml"]
    assert params["optimizer.lr"] == {"old": 0.003, "new": 0.01, "diff": pytest.approx(0.007)}
    assert params["model._target_"]["new"] == "project.models.cnn.CNN"
    assert all(key.split(".")[0] in ("model", "optimizer") for key in params)
    metrics = json.loads(fresh.do(DVC, "metrics", "diff", "--json"))
    assert set(metrics["results/metrics.json"]) == {"accuracy", "log_loss"}
    table = fresh.do(DVC, "exp", "show", "--csv", "--only-changed").splitlines()
    columns = table[0].split(",")
    row = dict(
        zip(columns, next(r for r in table if r.startswith("shown")).split(","), strict=True)
    )
    assert row["optimizer.lr"] == "0.01"
    assert float(row["accuracy"]) >= 0
    assert "trainer.max_epochs" not in columns
    fresh.do(DVC, "plots", "diff", "--out", "plots-out", "HEAD")
    page = (fresh.root / "plots-out/index.html").read_text()
    assert "history.csv" in page
    assert "workspace" in page


def test_parallel_starts_share_no_folder(fresh: Repository) -> None:
    import subprocess

    command = [sys.executable, "-m", "saigen", "train", "--multirun", "randomness.seed=0,1"]
    environment = {**os.environ, "PYTHONPATH": str(fresh.root / "src")}
    starts = [
        subprocess.Popen(
            command,
            cwd=fresh.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]
    told = [start.communicate(timeout=TIMEOUT)[0].decode() for start in starts]
    assert [start.returncode for start in starts] == [0, 0], told
    sweeps = list((fresh.root / ".saigen/hydra").glob("*/multirun.yaml"))
    assert len(sweeps) == 2
    runs = [json.loads(p.read_text()) for p in (fresh.root / "runs").glob("*/record.json")]
    assert len(runs) == 4
    assert all(run["complete"] for run in runs)
    assert len({run["recipe"]["digest"] for run in runs}) == 2
    assert len({run["outcome"]["digest"] for run in runs}) == 2
    assert not (fresh.root / "outputs").exists()
    assert not (fresh.root / "multirun").exists()


def test_a_sweep_gives_searchers_the_monitored_metric_and_fails_where_a_job_fails(
    fresh: Repository,
) -> None:
    from saigen.sweep import objective

    assert objective(ASKED, fresh.root) is None
    fresh.saigen("train", *ASKED)
    config, _, _ = fresh.runs()[fresh.composes(*ASKED)]
    assert "monitor: accuracy" in config
    assert 0 < objective(ASKED, fresh.root) < 1
    (curve,) = fresh.root.glob("runs/*/history.csv")
    whole = curve.read_bytes()
    for content in (b"", b"step\n1,\xff\n", whole.replace(b",0.", b",9."), b'"\0\n'):
        curve.write_bytes(content)
        with pytest.raises(Refusal, match="the learning curve is not the one that the run wrote"):
            objective(ASKED, fresh.root)
    curve.write_bytes(whole)
    done = fresh.run(
        sys.executable, "-m", "saigen", "train", "--multirun", "optimizer.lr=0.01,fast"
    )
    assert done.returncode == 1
    assert "refused: optimizer.lr is of the wrong kind" in done.stderr
    assert "failed: a job of the sweep ended with exit code 2" in done.stderr
    assert "Traceback" not in done.stderr
    alone = done.stderr.partition("alone: saigen ")[2].splitlines()[0]
    assert "optimizer.lr is of the wrong kind" in fresh.refused(*alone.split())  # the fix

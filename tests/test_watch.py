"""A loop that is not of this template is watched: its record, its trace, and what `diff` names."""

import json
import os
import random
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from trust.alterations import altered

import saigen
from saigen.analysis.diff import diff
from saigen.analysis.rerun import verify_watched
from saigen.analysis.run import Run, open_run
from saigen.analysis.watched import verification
from saigen.analysis.watched_differences import refuse_mixed
from saigen.cli import main
from saigen.errors import Failure, Refusal
from saigen.runs.folders import all_runs
from saigen.runs.record import read_record
from saigen.training.trace_file import read_trace

ROOT = Path(__file__).parent.parent
WATCHED = Path(__file__).parent / "watched"
ROWS = 20


def write_rows(folder, *, changed=()):
    """A data file of ROWS rows; `changed`: the rows that have another target."""
    generator = random.Random(0)
    rows = [[f"{generator.random():.4f}" for _ in range(4)] for _ in range(ROWS)]
    for row in changed:
        rows[row][3] = "9.5"
    (folder / "train.csv").write_text("".join(",".join(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A plain folder with somebody's scripts and data: no conf/, no dvc.yaml, no git."""
    place = tmp_path / "theirs"
    shutil.copytree(WATCHED, place, ignore=shutil.ignore_patterns("__pycache__"))
    write_rows(place)
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    yield place
    sys.modules.pop("network", None)


@pytest.fixture
def script(folder, monkeypatch):
    """Run a script of the folder in this process; gives the run that it made."""

    def run(*arguments, name="plain.py"):
        sys.modules.pop("network", None)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        generators = random.getstate(), np.random.get_state()
        random.seed(5)
        np.random.seed(5)
        try:
            runpy.run_path(name, run_name="__main__")
        finally:
            random.setstate(generators[0])
            np.random.set_state(generators[1])
        return open_run("last", folder)

    return run


def first_step_with(row):
    """The step in which the plain script sees a row for the first time."""
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1)).split(4)
    return next(step for step, rows in enumerate(order) if row in rows)


def test_the_same_script_twice_is_the_same_recipe_and_the_same_outcome(script, capsys):
    one, other = script(), script()
    assert one.record["recipe"] == other.record["recipe"]
    assert one.outcome == other.outcome
    assert one.outcome["trace"]["steps"] == 10
    assert one.outcome["metrics"].keys() == {"last"}
    found = diff(one, other)
    assert found.verdict.sentence == "the same recipe gave the same outcome"
    assert main(["runs"]) == 0
    assert "made again, identical (2nd time)" in capsys.readouterr().out
    assert main(["audit"]) == 0


def test_the_record_is_of_the_published_schema_and_says_what_went_in(script, folder):
    record = script("--lr", 0.25).record
    schema = json.loads((ROOT / "docs/schemas/record-2.json").read_text())
    Draft202012Validator(schema).validate(record)
    layers = record["recipe"]["layers"]
    assert layers["data"]["files"].keys() == {"train.csv"}
    assert layers["code"]["files"].keys() == {"plain.py", "network.py"}
    values = layers["config"]["values"]
    assert values["given"] == {"dropout": 2}
    assert values["arguments"] == ["--lr", "0.25"]
    assert values["optimizer"]["0"]["lr"] == 0.25
    assert values["optimizer"]["0"]["betas"] == [0.9, 0.999]  # a default that nobody wrote
    assert values["scheduler"]["step_size"] == 3
    assert layers["environment"]["packages"]["torch"]
    assert layers["randomness"]["seeds"] == {"torch": 2}
    assert record["metadata"]["git"]["commit"] is None


@pytest.mark.parametrize(
    ("planted", "tell", "place", "cause"),
    [
        (["--lr", "0.06"], "all", "weights", "config optimizer.0.lr"),
        (["--order", "7"], "all", "samples", "config arguments"),
        (["--order", "7"], "loss", "forward", "config arguments"),
        (["--dropout", "8"], "all", "forward", "config given.dropout"),
        ("a row", "all", "forward", "data train.csv"),
        ("a row", "nothing", "gradients", "data train.csv"),
    ],
)
def test_diff_names_the_first_step_and_the_cause(script, folder, planted, tell, place, cause):
    step = 0
    one = script("--tell", tell)
    if planted == "a row":
        write_rows(folder, changed=[11])
        step, planted = first_step_with(11), []
    found = diff(one, script("--tell", tell, *planted))
    assert (found.trace.step, found.trace.phase) == (step, place)
    assert found.verdict.suspects[0] == cause
    assert "though" not in found.verdict.sentence
    if cause == "data train.csv":
        assert found.differences[0].details[0].startswith("line 12: ")


def test_a_changed_line_of_the_code_is_named_with_its_function(script, folder):
    one = script()
    file = folder / "network.py"
    file.write_text(file.read_text().replace("nn.Dropout(0.3)", "nn.Dropout(0.4)"))
    found = diff(one, script())
    assert found.verdict.suspects == ["code network.py:network"]
    assert any("+        nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.4)" in line
               for line in found.differences[0].details)  # fmt: skip


def tiny():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1, bias=False)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def steps(model, optimizer, number=3, disturb=None, **watched):
    with saigen.watch(model, optimizer, **watched) as run:
        for step in range(number):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).sum().backward()
            if disturb:
                disturb(step)
            optimizer.step()
    return run.folder


def test_what_is_drawn_from_a_generator_that_nobody_seeded_is_named(folder):
    def run(seed):
        np.random.seed(seed)
        model, optimizer = tiny()

        def noise(_):
            model.weight.grad += np.random.rand()

        return open_run(str(steps(model, optimizer, disturb=noise)), folder)

    found = diff(run(1), run(2))
    assert found.same_recipe
    assert found.trace.phase == "gradients"
    assert found.verdict.suspects[0] == "randomness generator of numpy"
    assert "drawn from in the loop" in found.verdict.sentence
    repeat, *others = verification(open_run("last", folder), found, "now").claims
    assert repeat.result == "broken"
    assert "generator of numpy" in repeat.why
    assert {claim.result for claim in others} == {"not made"}


def test_what_nothing_explains_is_no_violation_for_nothing_was_promised(folder):
    def run(where):
        model, optimizer = tiny()

        def change(step):
            if step == where:
                optimizer.state[model.weight]["momentum_buffer"] += 1

        return open_run(str(steps(model, optimizer, disturb=change)), folder)

    found = diff(run(1), run(2))
    assert (found.trace.step, found.trace.phase) == (1, "weights")
    expected = "nothing that is recorded differs; a loop that is only watched promises no bits"
    assert found.verdict.sentence.startswith(expected)
    assert found.verdict.next is None


def test_a_model_s_buffers_and_each_optimizer_s_steps_are_in_the_trace(folder):
    def run(moved):
        torch.manual_seed(0)
        model = torch.nn.BatchNorm1d(2)
        pair = [torch.optim.SGD([model.weight], lr=0.1), torch.optim.Adam([model.bias], lr=0.1)]
        with saigen.watch(model, pair) as watched:
            for _ in range(4):
                model(torch.ones(2, 2)).sum().backward()
                for optimizer in pair:
                    optimizer.step()
                model.running_mean += moved
        return watched.folder

    one, other = run(0), run(1)
    rows = [read_trace(path) for path in (one, other)]
    assert [len(trace) for trace in rows] == [8, 8]
    assert (rows[0]["weights"] == rows[1]["weights"]).all()
    assert (rows[0]["optimizer"] != rows[1]["optimizer"]).any()
    assert np.isnan(rows[0]["loss"]).all()  # none was told


def test_to_be_watched_moves_no_bit_of_the_training(folder):
    model, optimizer = tiny()
    state = torch.get_rng_state()
    steps(model, optimizer)
    assert torch.equal(state, torch.get_rng_state())
    same, other = tiny()
    for _ in range(3):
        other.zero_grad()
        same(torch.ones(2, 3)).sum().backward()
        other.step()
    assert torch.equal(model.weight, same.weight)
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.float32]
)
def test_weights_of_any_type_and_length_and_sparse_gradients_are_read(folder, dtype):
    weight = torch.nn.Parameter(torch.ones(7, dtype=dtype))
    module = torch.nn.ParameterList([weight, torch.nn.Parameter(torch.ones(3, 5)), *(
        torch.nn.Parameter(torch.zeros(size)) for size in (0, 1))])  # fmt: skip
    table = torch.nn.Embedding(4, 3, sparse=True)
    module.append(table.weight)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    with saigen.watch(module, optimizer) as run:
        for _ in range(2):
            (weight.sum().abs() + table(torch.tensor([1, 1])).sum()).backward()
            optimizer.step()
    rows = read_trace(run.folder)
    assert len({*rows["weights"].tolist(), *rows["gradients"].tolist()}) == 4


def test_a_run_that_ended_in_an_error_is_listed_and_its_folder_is_taken_again(script, capsys):
    with pytest.raises(ValueError, match="the loop has a fault"):
        script("--fault", "error")
    (broken,) = all_runs()
    assert read_record(broken)["metadata"]["failure"]["why"] == "ValueError: the loop has a fault"
    assert main(["runs"]) == 0
    assert "failed: the script ended" in capsys.readouterr().out
    assert main(["diff", broken.name, broken.name]) == 2
    assert "start its script again" in capsys.readouterr().err


def test_only_the_first_of_several_processes_writes(folder, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert steps(*tiny()) is None
    assert not all_runs()


def test_in_a_repository_the_record_has_commit_and_patch(script, folder, monkeypatch):
    def git(*words):
        named = ("-c", "user.name=A", "-c", "user.email=a@b")
        return subprocess.run(["git", *named, *words], check=True, capture_output=True, text=True)

    git("init", "-q")
    git("add", "plain.py")
    git("commit", "-qm", "theirs")
    (folder / "large.bin").write_bytes(bytes(100))  # read by nobody, and so not looked at
    file = folder / "plain.py"
    file.write_text(file.read_text() + "# changed\n")
    run = script()
    state = run.record["metadata"]["git"]
    assert state["commit"] == git("rev-parse", "HEAD").stdout.strip()
    assert state["changed"].keys() == {"plain.py"}
    assert state["untracked"].keys() == {"network.py", "train.csv"}
    assert run.content(run.layer("code")["files"]["plain.py"], "plain.py") == file.read_bytes()


def refused(error, **parts):
    for part, text in parts.items():
        assert text in str(getattr(error.value, part)), error.value


def test_what_cannot_be_watched_is_refused(folder):
    model, optimizer = tiny()
    with pytest.raises(Refusal) as found, saigen.watch(model, 0.1):
        pass
    refused(found, what="this cannot be watched", got="Linear, float", fix="inside the wrapper")
    with pytest.raises(Refusal) as found, saigen.watch(torch.nn.LazyLinear(2), optimizer):
        pass
    refused(found, got="a lazy module that has no shape yet", fix="on a first batch")
    with pytest.raises(Refusal) as found, saigen.watch(model, optimizer, data=["no.csv"]):
        pass
    refused(found, where="no.csv", got="it is not there")
    with pytest.raises(Refusal) as found, saigen.watch(model, optimizer, recipe={"f": {"g": len}}):
        pass
    refused(found, where="recipe.f.g", got="builtin_function_or_method")
    secret = {"token": "ghp_" + "a1B2" * 9}
    with pytest.raises(Refusal) as found, saigen.watch(model, optimizer, recipe=secret):
        pass
    refused(found, what="looks like a secret", where="given.token")
    with pytest.raises(Failure) as found, saigen.watch(model, optimizer):
        pass
    refused(found, what="no step was made", fix="inside the `with`")
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "last"),
        ("restore", "last", "--to", "model"),
        ("compare", "last", "last"),
        ("diff", "--deep", "last", "last"),
        ("diff", "--confirm", "last", "last"),
    ],
)
def test_a_verb_that_needs_the_template_says_so(folder, capsys, words):
    steps(*tiny())
    assert main([*words]) == 2
    told = capsys.readouterr().err
    assert "wants a run of a project of this template" in told
    assert "`saigen rerun " in told


def test_a_run_that_no_script_of_the_folder_began_is_not_made_again(folder, capsys):
    steps(*tiny())
    assert main(["rerun", "last"]) == 2
    told = capsys.readouterr().err
    assert "no script below the folder" in told
    assert "`python train.py`" in told


@pytest.fixture(scope="module")
def frameworks():
    """The folder with Lightning, transformers and what builds wheels."""
    done = subprocess.run(
        [ROOT / "bench/install_peers.sh"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"the frameworks cannot be had here: {done.stderr.strip()[-300:]}")
    return Path(done.stdout.strip())


def started(place, *command, frameworks=None):
    """A script or a verb in a process of its own."""
    paths = [str(ROOT / "src"), *([str(frameworks)] if frameworks else [])]
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=place, check=False, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


IN_TURN = """
import runpy, sys
name, *turns = sys.argv[1:]
for words in turns:
    sys.argv = [name, *words.split()]
    runpy.run_path(name, run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "causes"),
    [
        ("with_lightning.py", ("config optimizer.0.lr", "config given.order",
                               "config given.dropout")),
        ("with_transformers.py", ("config optimizer.0.group_0.lr", "config trainer.data_seed",
                                  "config trainer.seed")),
    ],
)  # fmt: skip
def test_diff_names_step_and_cause_of_a_framework_s_loop(folder, frameworks, name, causes):
    def runs(*planted):
        """Runs of the script, one after another in one process."""
        done = started(folder, "-c", IN_TURN, name, *planted, frameworks=frameworks)
        assert done.returncode == 0, done.stderr
        return [open_run(str(path), folder) for path in all_runs()[-len(planted) :]]

    one, again, *others = runs("0.05 1 2", "0.05 1 2", "0.06 1 2", "0.05 7 2", "0.05 1 8")
    assert one.outcome["trace"]["steps"] == 10
    assert np.isfinite(read_trace(one.folder)["loss"]).all()
    assert again.outcome == one.outcome
    for other, cause, place in zip(others, causes, ("weights", "forward", "forward"), strict=True):
        found = diff(one, other)
        assert (found.trace.step, found.trace.phase) == (0, place)
        assert found.verdict.suspects[0] == cause
        assert "though" not in found.verdict.sentence
    write_rows(folder, changed=[11])
    found = diff(one, *runs("0.05 1 2"))
    assert found.trace.phase == "forward"
    assert found.verdict.suspects[0] == "data train.csv"
    assert found.differences[0].details[0].startswith("line 12: ")


def of_a_template(folder):
    """A run that `saigen train` made, as far as it is looked at before it is refused."""
    recipe = {"layers": {"config": {"values": {}}}}
    record = {"run": "house-1", "recipe": recipe, "metadata": {"overrides": ["model=cnn"]}}
    return Run(folder=folder, record=record, root=folder)


def test_a_run_of_the_template_is_verified_by_its_overrides_and_not_compared(folder):
    with pytest.raises(Refusal) as found:
        verify_watched(of_a_template(folder), folder, print, only=(), trusted=False)
    refused(found, what="of a loop that was watched", fix="saigen verify model=cnn")
    watched = open_run(str(steps(*tiny())), folder)
    with pytest.raises(Refusal) as found:
        refuse_mixed(watched, of_a_template(folder))
    refused(found, what="no recipe in common", got=f"{watched.name} was watched")
    with pytest.raises(Refusal) as found:
        verify_watched(watched, folder, print, only=["killed"], trusted=False)
    refused(found, got="killed", expected="repeat, kill, processes, workers")


def test_the_script_of_a_run_from_elsewhere_is_not_started_unasked(script, folder, capsys):
    run = script()
    shutil.copytree(run.folder, folder / "theirs")
    (folder / "runs/ledger.jsonl").unlink()
    for verb in ("rerun", "verify"):
        assert main([verb, "theirs"]) == 2
        told = capsys.readouterr().err
        assert "the record brings code of somebody else" in told
        assert "--trust" in told


def test_data_outside_the_folder_and_whole_folders_of_it_are_recorded(folder, tmp_path):
    (folder / "many").mkdir()
    (folder / "many/a.txt").write_text("a")
    (tmp_path / "far.txt").write_text("b")
    run = open_run(str(steps(*tiny(), data=["many", "../far.txt"])), folder)
    outside = str(tmp_path / "far.txt")
    assert run.layer("data")["files"].keys() == {"many/a.txt", outside[1:]}
    assert run.record["metadata"]["outside"] == {outside[1:]: outside}


@pytest.mark.slow
def test_a_watched_run_is_made_again_and_verify_says_which_claims_hold(folder):
    assert started(folder, "plain.py", "--lr", "0.07").returncode == 0
    (folder / "plain.py").write_text("raise SystemExit('not what was recorded')")
    (folder / "network.py").unlink()
    done = started(folder, "-m", "saigen", "rerun", "last")
    assert done.returncode == 0, done.stderr
    assert "identical: " in done.stdout
    done = started(folder, "-m", "saigen", "verify", "last")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("held      made again from the recorded code and data")
    assert [line.split("  ")[0] for line in lines[1:4]] == ["not made"] * 3
    assert "a loop that is only watched" in lines[1]
    assert "1 claims held, 3 not made by this recipe" in done.stdout
    shown = started(folder, "-m", "saigen", "show", "last").stdout
    assert "1 held, in whole trainings" in shown
    shutil.copytree(next((folder / "runs").glob("*-2")), folder / "theirs")
    shutil.move(folder / "runs", folder / "before")
    shutil.copytree(folder / "before/.kept", folder / ".kept")
    done = started(folder, "-m", "saigen", "rerun", "theirs", "--trust")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_that_read_what_it_did_not_declare_is_not_made_again(folder):
    file = folder / "plain.py"
    file.write_text(file.read_text().replace('data=["train.csv"], ', ""))
    assert started(folder, "plain.py").returncode == 0
    done = started(folder, "-m", "saigen", "rerun", "last")
    assert done.returncode == 1
    assert "declare every file that it reads" in done.stderr
    assert "train.csv" in done.stderr


@pytest.mark.slow
def test_the_wheel_alone_watches_a_plain_script(folder, frameworks, tmp_path):
    built = started(
        ROOT, "-c", f"from hatchling.build import build_wheel; build_wheel({str(tmp_path)!r})",
        frameworks=frameworks,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    alone = tmp_path / "alone"
    shutil.unpack_archive(wheel, alone, "zip")
    assert not (alone / "project").exists()
    libraries = tmp_path / "libraries"  # those of this environment, without its saigen.pth
    libraries.mkdir()
    for path in Path(np.__file__).parents[1].iterdir():
        if path.suffix != ".pth":
            (libraries / path.name).symlink_to(path)

    def python(*command):
        return subprocess.run(
            [sys.executable, "-S", *command],
            cwd=folder, check=False, capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{alone}:{libraries}"},
        )  # fmt: skip

    assert python("-c", "import project").returncode == 1
    for lr in ("0.05", "0.06"):
        done = python("plain.py", "--lr", lr)
        assert done.returncode == 0, done.stderr
    done = python("-m", "saigen", "diff", "last~1", "last")
    assert done.returncode == 1, done.stderr
    assert "the runs part at step 0, in the weights after the update" in done.stdout
    assert "project" not in done.stdout


@pytest.mark.parametrize(
    ("every", "first"), [(40, 1), *(pytest.param(4, n, marks=pytest.mark.slow) for n in range(4))]
)
def test_a_record_of_a_watched_loop_that_was_altered_is_an_answer_or_a_refusal(
    script, capsys, every, first
):
    theirs, mine = script("--lr", "0.1"), script("--lr", "0.2")
    path = theirs.folder / "record.json"
    whole, found = path.read_bytes(), []
    verbs = (["diff", mine.name, str(theirs.folder)], ["show", str(theirs.folder)], ["runs"],
             ["rerun", str(theirs.folder)], ["verify", str(theirs.folder)])  # fmt: skip
    for number, (title, content) in enumerate(altered(json.loads(whole), every=every, first=first)):
        path.write_bytes(content)
        for argv in (verbs[0], verbs[1 + number % 4]):
            try:
                code = main(argv)
            except BaseException as error:
                found.append(f"{title}, {argv[0]}: {error!r}")
            else:
                if code not in (0, 1, 2, 3):
                    found.append(f"{title}, {argv[0]}: exit code {code}")
        capsys.readouterr()
    path.write_bytes(whole)
    assert not found, "\n".join(found[:20])

"""The fault bench, the undeclared: what differs outside of the recipe is named, with its line."""

import json
import os
import py_compile
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import copy_project

from faults.undeclared import PREPARE, UNDECLARED, in_constructor
from saigen.digest import digest_file

STEPS = ("trainer.max_steps=2",)
QUICK = {
    "a variable read in the model's constructor",
    "a helper outside src loaded by importlib",
    "a warm start from a model that happens to lie there",
}


def plant(fault, project):
    """Runs A and B of a planted input; what was printed for B."""
    for patch in fault.patches:
        project.patch(*patch)
    train = ["train", *STEPS, *fault.overrides]
    fault.before(project.root)
    project.saigen(*train)
    fault.between(project.root)
    return project.verb(*train, env=fault.environment)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f, id=f.name, marks=() if f.name in QUICK else pytest.mark.faults)
        for f in UNDECLARED
    ],
)
def test_diff_names_the_undeclared_input_and_the_line(fault, forked, score):
    copy = forked()
    code, said = plant(fault, copy)
    assert "VIOLATION: the same recipe gave another outcome in" in said
    assert code == 1
    found = copy.diff()
    sentence = found["verdict"]["sentence"]
    (difference,) = (
        d for d in found["differences"] if f"{d['layer']} {d['name']}" == fault.suspect
    )
    file, _, number = difference["reason"].partition(" at ")[2].partition(",")[0].partition(":")
    line = (copy.root / file).read_text().splitlines()[int(number) - 1]
    score(
        detected=not found["same_outcome"],
        layer=found["verdict"]["suspects"][:1] == [fault.suspect],
        name=fault.line in line,
        told=found["verdict"],
    )
    assert sentence.startswith("VIOLATION: nothing in the recipe differs, but what it does not")
    assert sentence in said


@pytest.mark.parametrize(
    "experiment",
    [
        (),
        *(
            pytest.param((f"experiment={name}",), marks=pytest.mark.slow)
            for name in ("mlp_sgd", "cnn_augmented", "transformer_text")
        ),
        pytest.param(("hardware.loader_workers=1",), marks=pytest.mark.slow),
        pytest.param(("hardware.processes=2", "trainer.microbatches=2"), marks=pytest.mark.slow),
    ],
)
def test_a_clean_run_of_a_shipped_experiment_observes_nothing(experiment, forked):
    copy = forked()
    copy.saigen("prepare", *experiment)
    copy.saigen("train", *STEPS, *experiment)
    record = json.loads(copy.saigen("show", "last", "--json"))
    assert record["metadata"]["observed"] == []


@pytest.mark.slow
def test_a_cold_start_observes_nothing(prepared_project):
    prepared_project.saigen("train", *STEPS, cold=True)
    record = json.loads(prepared_project.saigen("show", "last", "--json"))
    assert record["metadata"]["observed"] == []


def observed(project) -> dict[str, dict]:
    """What the newest run observed, by kind and name."""
    record = json.loads(project.saigen("show", "last", "--json"))
    return {f"{e['kind']} {e['name']}": e for e in record["metadata"]["observed"]}


def test_a_secret_is_in_no_record_and_another_one_differs(forked):
    copy, secret, value = forked(), "DB_PASSWORD", "hunter" + "2"
    for patch in in_constructor("import os", 'scale = 1 / len(os.getenv("DB_PASSWORD"))'):
        copy.patch(*patch)
    copy.saigen("train", *STEPS, env={secret: value})
    copy.verb("train", *STEPS, env={secret: value + "22"})
    files = [path for path in copy.root.glob("runs/**/*") if path.is_file()]
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
    assert (
        "environment variable DB_PASSWORD (a secret, keyed digest"
        in copy.verb("diff", "last~1", "last")[1]
    )


@pytest.mark.slow
def test_a_machine_with_more_processors_is_named(forked):
    """The other machine is not at hand: its record is run A's with another answer."""
    copy = forked()
    for patch in in_constructor("import os", "scale = 1 / os.cpu_count()"):
        copy.patch(*patch)
    copy.saigen("train", *STEPS)
    folder = next((copy.root / "runs").glob("*-1"))
    other = folder.with_name(folder.name[:-1] + "2")
    shutil.copytree(folder, other)
    record = json.loads((other / "record.json").read_text())
    (entry,) = record["metadata"]["observed"]
    assert entry["name"] == "os.cpu_count()"
    entry["value"] = "1024"
    record["run"] = other.name
    record["outcome"]["weights"]["sha256"] = record["outcome"]["digest"] = "e" * 64
    (other / "record.json").write_text(json.dumps(record))
    found = copy.diff(str(folder), str(other))
    assert found["verdict"]["suspects"] == ["environment os.cpu_count()"]
    assert f"at {entry['line']}" in found["verdict"]["sentence"]


CACHED = (
    (PREPARE, "        pixels = train.columns[\"pixels\"]\n",
     "        cached = Path.home() / \".cache/digits/shift.txt\"\n"
     "        if not cached.exists():\n"
     "            cached.parent.mkdir(parents=True)\n"
     "            cached.write_text(str(int(train.columns[\"pixels\"].max()) - 16))\n"
     "        pixels = train.columns[\"pixels\"] + int(cached.read_text())\n"),
)  # fmt: skip


@pytest.mark.slow
def test_statistics_that_an_earlier_run_left_in_the_home_are_named_and_not_prepared(
    forked, tmp_path
):
    a, b = forked("a"), forked("b")
    (tmp_path / "home").mkdir()
    home = {"HOME": str(tmp_path / "home")}
    for copy in (a, b):
        for patch in CACHED:
            copy.patch(*patch)
        copy.saigen("train", *STEPS, env=home)
        (tmp_path / "home/.cache/digits/shift.txt").write_text("3")
    told = b.verb("diff", "--json", str(next(a.root.glob("runs/*-1"))), "last")[1]
    found = json.loads(told)
    assert found["verdict"]["suspects"] == ["data file ~/.cache/digits/shift.txt"]
    assert "src/project/prepare.py:" in found["verdict"]["sentence"]
    (prepared,) = (d for d in found["differences"] if d["name"].startswith("prepared/"))
    assert prepared["follows"] == "data file ~/.cache/digits/shift.txt"


@pytest.mark.slow
def test_arrays_are_prepared_anew_where_the_preparation_took_in_something_else(forked):
    copy = forked()
    copy.patch(PREPARE, "self.epsilon)", "self.epsilon + float(__import__('os').getenv('E', '0')))")
    copy.saigen("train", *STEPS)
    code, said = copy.verb("train", *STEPS, env={"E": "0.5"})
    assert code == 0, said
    assert "gave other arrays (fitted/scale.npy" in said
    assert "what it took in differs: variable E (src/project/prepare.py:" in said
    found = copy.diff()
    assert found["verdict"]["suspects"] == ["environment variable E"]


@pytest.mark.slow
def test_python_without_asserts_is_named(prepared_project):
    project = prepared_project
    for file, old, new in in_constructor(
        "assert self.layers[0].weight.data.mul_(0.5) is not None", "scale = 1"
    ):
        path = project.root / file
        path.write_text(path.read_text().replace(old, new, 1))
    project.saigen("train", *STEPS, cold=True)
    done = project.run(sys.executable, "-O", "-m", "saigen", "train", *STEPS, cold=True)
    assert done.returncode == 1, done.stderr
    assert "environment sys.flags.optimize (- -> 1)" in done.stderr


@pytest.mark.slow
def test_source_of_another_clone_on_the_path_is_refused(prepared_project, tmp_path):
    other = copy_project(tmp_path / "other")
    command = (sys.executable, "-m", "saigen", "train", *STEPS)
    done = prepared_project.run(*command, env={"PYTHONPATH": str(other.root / "src")}, cold=True)
    assert done.returncode == 2, done.stderr
    assert "refused: what runs is not this project's source" in done.stderr
    assert f"got:      {other.root}/src/saigen/__init__.py" in done.stderr


@pytest.mark.slow
def test_a_pth_file_that_patches_a_library_is_named(prepared_project, tmp_path):
    here, packages = Path(sys.prefix), Path(sysconfig.get_path("purelib"))
    venv = tmp_path / "venv"
    target = venv / packages.relative_to(here)
    target.mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / "bin/python").symlink_to(Path(sys.executable).resolve())
    for name in ("pyvenv.cfg", ".base", ".complete"):
        shutil.copyfile(here / name, venv / name)
    for path in packages.iterdir():
        if path.name != "saigen.pth":
            (target / path.name).symlink_to(path)
    train = (str(venv / "bin/python"), "-m", "saigen", "train", *STEPS)
    assert prepared_project.run(*train).returncode == 0
    (target / "patching.pth").write_text("import patching\n")
    (target / "patching.py").write_text(
        "import torch\nplain = torch.nn.functional.gelu\n"
        "torch.nn.functional.gelu = lambda x, **more: plain(x * 1.001, **more)\n"
    )
    assert prepared_project.run(*train).returncode in (0, 1)
    done = prepared_project.run(sys.executable, "-m", "saigen", "diff", "last~1", "last")
    assert "code module" in done.stdout, done.stdout
    assert {Path(name).name for name in observed(prepared_project)} == {
        "patching.py",
        "patching.pth",
    }


@pytest.mark.slow
def test_confirm_proves_a_variable_that_was_observed(forked):
    copy = forked()
    for patch in in_constructor("import os", 'scale = os.environ.get("SCALE", "1")'):
        copy.patch(*patch)
    copy.saigen("train", *STEPS)
    assert copy.verb("train", *STEPS, env={"SCALE": "0.5"})[0] == 1
    said = copy.verb("diff", "--confirm", "--json", "last~1", "last")[1]
    trials = json.loads(said[said.index("{") :])["trials"]
    assert [(t["suspect"], t["result"]) for t in trials] == [
        ("environment variable SCALE", "confirmed")
    ]


@pytest.mark.slow
def test_confirm_proves_a_file_that_was_observed(forked):
    """An unused helper was once "confirmed" where a file had moved the bits."""
    copy = forked()
    for patch in in_constructor('scale = open("scale.txt").read()'):
        copy.patch(*patch)
    (copy.root / "scale.txt").write_text("1")
    copy.saigen("train", *STEPS)
    (copy.root / "scale.txt").write_text("0.5")
    assert copy.verb("train", *STEPS)[0] == 1
    said = copy.verb("diff", "--confirm", "--json", "last~1", "last")[1]
    trials = json.loads(said[said.index("{") :])["trials"]
    assert [(t["suspect"], t["result"]) for t in trials] == [("data file scale.txt", "confirmed")]


@pytest.mark.slow
def test_confirm_judges_no_suspect_where_b_is_not_b_again(forked):
    copy, secret, value = forked(), "DB_PASSWORD", "hunter" + "2"
    for patch in in_constructor("import os", 'scale = len(os.getenv("DB_PASSWORD", ""))'):
        copy.patch(*patch)
    copy.saigen("train", *STEPS, env={secret: "pw"})
    copy.saigen("train", *STEPS, "optimizer.lr=0.01", env={secret: value})
    said = copy.verb("diff", "--confirm", "--json", "last~1", "last")[1]
    (trial,) = json.loads(said[said.index("{") :])["trials"]
    assert (trial["suspect"], trial["result"]) == ("B unchanged", "not tried")
    assert trial["words"].endswith("in what it takes in: environment variable DB_PASSWORD")


DECLARED = ("inputs.files=[scale.txt]", "inputs.variables=[SCALE]")


@pytest.mark.slow
def test_a_declared_input_is_in_the_recipe_and_refused_when_altered(forked):
    copy = forked()
    for patch in in_constructor(
        "import os", 'scale = float(open("scale.txt").read()) * float(os.getenv("SCALE", 1))'
    ):
        copy.patch(*patch)
    (copy.root / "scale.txt").write_text("1")
    code, said = copy.verb("train", *STEPS)
    assert (
        code,
        "warning: taken in, and declared nowhere (conf/inputs): file scale.txt (" in said,
    ) == (0, True)
    code, said = copy.verb("train", *STEPS, "inputs.undeclared=refuse")
    assert (code, "variable SCALE (src/project/models/mlp.py:" in said) == (2, True)
    said = copy.saigen("train", *STEPS, *DECLARED, "inputs.undeclared=refuse")
    assert "declared nowhere" not in said
    assert observed(copy) == {}
    (copy.root / "scale.txt").write_text("0.5")
    code, said = copy.verb("evaluate")
    assert (code, "where:    file scale.txt" in said) == (2, True)
    copy.saigen("train", *STEPS, *DECLARED, "inputs.undeclared=refuse")
    assert copy.diff()["verdict"]["suspects"] == ["data inputs.files.scale.txt"]
    assert "inputs.files: gone.txt" in copy.verb("train", *STEPS, "inputs.files=[gone.txt]")[1]
    assert "a secret cannot be" in copy.verb("train", *STEPS, "inputs.variables=[API_TOKEN]")[1]


@pytest.mark.slow
def test_verify_gives_another_value_of_each_thing_that_was_observed(forked):
    copy = forked()
    for patch in in_constructor(
        "import os",
        "import datetime",
        'unused = os.getenv("UNUSED")',
        'scale = float(os.getenv("SCALE", "2"))',
        "scale *= os.cpu_count() or 1",
        'scale *= 1 + os.path.exists("gone") + len(os.listdir("notes"))',
        "scale *= datetime.datetime.now().year",
    ):
        copy.patch(*patch)
    (copy.root / "notes").mkdir()
    (copy.root / "notes/a.txt").write_text("a")
    code, said = copy.verb(
        "verify", "--json", "--only", "inputs", "--only", "locale", "trainer.max_steps=2",
        env={"SCALE": "0.5"},
    )  # fmt: skip
    claims = {c["name"]: c for c in json.loads(said[said.index("\n{") :])["claims"]}
    assert {name: claim["result"] for name, claim in claims.items()} == {
        "inputs: folder notes/": "broken",
        "inputs: os.cpu_count()": "broken",
        "inputs: variable SCALE": "broken",
        "inputs: variable UNUSED": "held",
        "locale": "broken",
    }
    assert code == 1
    text = (copy.root / "src/project/models/mlp.py").read_text().splitlines()
    number = text.index("        scale *= os.cpu_count() or 1") + 1
    at = f"taken in at src/project/models/mlp.py:{number}: "
    assert claims["inputs: os.cpu_count()"]["why"].startswith(at)
    assert "year" in text[int(claims["locale"]["location"]["line"]) - 1]


def test_verify_has_nothing_to_change_where_nothing_was_observed(forked):
    said = forked().saigen("verify", "--only", "inputs", "trainer.max_steps=2")
    assert "what the project takes in and does not declare does not matter" in said
    assert "(nothing was observed)\n\n1 claims held" in said


def test_byte_code_of_another_text_is_not_run(forked):
    """Python keeps byte code by second and size."""
    copy = forked()
    for patch in in_constructor("scale = 0.25"):
        copy.patch(*patch)
    path = copy.root / "src/project/models/mlp.py"
    times = path.stat()
    copy.saigen("train", *STEPS)
    copy.run(sys.executable, "-c", "import project.models.mlp", cold=True)
    py_compile.compile(str(path), doraise=True)
    path.write_text(path.read_text().replace("0.25", "0.75"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    copy.saigen("train", *STEPS)
    assert copy.diff()["verdict"]["suspects"][0].startswith("code src/project/models/mlp.py")


@pytest.mark.slow
def test_a_preparation_has_the_environment_of_training_and_says_so(prepared_project):
    project = prepared_project
    path = project.root / PREPARE
    path.write_text(path.read_text().replace(
        "self.epsilon)", "self.epsilon + hash('a') % 97 + __import__('torch').get_num_threads())"
    ))  # fmt: skip
    for seed in ("1", "2"):
        shutil.rmtree(project.root / "prepared", ignore_errors=True)
        clean = {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "2"}
        project.saigen("prepare", env=clean, cold=True)
        digest = digest_file(project.root / "prepared/fitted/scale.npy")
        manifest = json.loads((project.root / "prepared/manifest.json").read_text())
        assert manifest["environment"]["variables"]["OMP_NUM_THREADS"] == "1"
        if seed == "1":
            first = digest
    assert digest == first
    project.saigen("train", *STEPS)
    record = json.loads(project.saigen("show", "last", "--json"))
    assert record["metadata"]["prepared_in"] == manifest["environment"]


def test_an_impure_preparation_is_said_when_it_happens(forked):
    copy = forked()
    copy.patch(PREPARE, "self.epsilon)", "self.epsilon + __import__('time').time() % 7)")
    assert "VIOLATION" not in copy.saigen("prepare")
    shutil.rmtree(copy.root / "prepared")  # as DVC does before a stage
    said = copy.saigen("prepare")
    assert "VIOLATION: equal snapshot, values and source gave other arrays (fitted/scale" in said


def test_the_newest_run_is_the_one_that_began_last_whatever_the_clock_said(forked):
    copy = forked()
    copy.saigen("train", *STEPS)
    plan = {"perturb": ["clock"], "verbs": [["train", *STEPS, "optimizer.lr=0.01"]]}
    assert copy.verb(plan=plan)[0] == 0
    last = copy.saigen("train", *STEPS, "optimizer.lr=0.02").splitlines()
    record = json.loads(copy.saigen("show", "last", "--json"))
    assert record["recipe"]["layers"]["config"]["values"]["optimizer"]["lr"] == 0.02, last

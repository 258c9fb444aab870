"""A training reads arrays that were prepared from its own data, config and preparation code."""

import json
import os
import shutil
import sys

import pytest
from conftest import copy_project, warm
from lab import Lab

from saigen.source_code import imported_sources

SHORT = ("debug=two_steps",)


@pytest.fixture
def place(tmp_path):
    """A project with nothing prepared, in which verbs start in a warm fork."""
    return Lab(copy_project(tmp_path / "project"), warm())


def arrays(record) -> dict[str, str]:
    return record["recipe"]["layers"]["data"]["prepared"]


def variants(lab) -> list:
    return sorted((lab.project.root / ".saigen/prepared").glob("[!.]*"))


def edit(lab, name, old, new) -> None:
    path = lab.project.root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_each_value_of_prepare_trains_on_arrays_of_its_own_each_prepared_once(place):
    plain = place.train(SHORT)
    assert len(variants(place)) == 1
    again = place.train(SHORT)
    assert arrays(again) == arrays(plain)
    assert len(variants(place)) == 1
    other = place.train((*SHORT, "prepare.preparation.epsilon=5"))
    assert arrays(other)["train/inputs.npy"] != arrays(plain)["train/inputs.npy"]
    assert arrays(other)["train/targets.npy"] == arrays(plain)["train/targets.npy"]
    split = place.train(
        (*SHORT, "prepare.salt=x", "prepare.fractions.train=0.5",
         "prepare.fractions.validation=0.35")
    )  # fmt: skip
    assert split["recipe"]["layers"]["data"]["rows"]["train"] < 1000
    assert len(variants(place)) == 3


@pytest.mark.slow
def test_another_experiment_reads_data_of_its_own_beside_what_is_prepared(place):
    place.project.saigen("prepare")
    place.train(SHORT)
    assert not variants(place)  # the stage's own fits
    text = place.train((*SHORT, "experiment=transformer_text"))
    assert text["recipe"]["layers"]["data"]["snapshot"]["name"] == "sums"
    assert len(variants(place)) == 1
    assert arrays(place.train(SHORT)) != arrays(text)


def test_an_edit_of_the_preparation_or_of_a_module_it_imports_prepares_anew(place):
    place.train(SHORT)
    edit(place, "src/project/prepare.py", '"mean": np.array(mean', '"mean": 2 * np.array(mean')
    moved = place.train(SHORT)
    assert len(variants(place)) == 2
    (place.project.root / "src/project/half.py").write_text("HALF = 0.5\n")
    edit(place, "src/project/prepare.py", "import math\n", "import math\nimport project.half\n")
    edit(place, "src/project/prepare.py", "2 * np.array(mean", "project.half.HALF * np.array(mean")
    halved = place.train(SHORT)
    edit(place, "src/project/half.py", "0.5", "0.25")
    quartered = place.train(SHORT)
    assert len({arrays(r)["fitted/mean.npy"] for r in (moved, halved, quartered)}) == 3
    edit(place, "src/project/data.py", "import numpy", "# not imported by it\nimport numpy")
    assert arrays(place.train(SHORT)) == arrays(quartered)
    assert len(variants(place)) == 4


def test_what_is_imported_or_read_unseen_is_recorded_and_asked_for(place):
    """A module whose name is only made while the program runs, and a second file of the data."""
    root = place.project.root
    (root / "src/project/half.py").write_text("HALF = 0.5\n")
    (root / "data/factor.txt").write_text("3")
    edit(place, "src/project/prepare.py", '"mean": np.array(mean',
         '"mean": float(open("data/factor.txt").read()) * __import__("importlib").import_module('
         '"project." + "half").HALF * np.array(mean')  # fmt: skip
    first = place.train(SHORT)
    (variant,) = variants(place)
    told = json.loads((variant / "manifest.json").read_text())["also_read"]
    assert list(told) == ["data/factor.txt", "src/project/half.py"]
    edit(place, "src/project/half.py", "0.5", "0.25")
    second = place.train(SHORT)
    (root / "data/factor.txt").write_text("4")
    third = place.train(SHORT)
    assert len({arrays(r)["fitted/mean.npy"] for r in (first, second, third)}) == 3
    assert "src/project/half.py" in third["metadata"]["imported"]["files"]


def test_several_processes_and_two_starts_at_once_prepare_a_variant_once(place):
    asked = (*SHORT, "trainer.microbatches=4", "prepare.salt=y")
    attempts = [place.start(asked, processes=n) for n in (2, 1)]
    assert [a.codes() for a in attempts] == [[0, 0], [0]], [a.log() for a in attempts]
    assert len(variants(place)) == 1
    told = "\n".join(attempt.log() for attempt in attempts)
    assert told.count("prepared 1") == 1
    records = [json.loads(p.read_text()) for p in place.project.root.glob("runs/*/record.json")]
    assert len(records) == 2
    assert len({r["outcome"]["digest"] for r in records}) == 1


def test_a_run_is_measured_again_on_its_own_variant_wherever_it_can_be_had(place):
    project = place.project
    run = place.train((*SHORT, "prepare.salt=y"))
    place.train(SHORT)
    edit(place, "src/project/prepare.py", '"mean": np.array(mean', '"mean": 2 * np.array(mean')
    same = "measured again: the same metrics and predictions as recorded"
    assert same in project.saigen("evaluate", run["run"])
    shutil.rmtree(project.root / ".saigen/prepared")
    assert same in project.saigen("evaluate", run["run"])  # from runs/.kept
    shutil.rmtree(project.root / ".saigen/prepared")
    shutil.rmtree(project.root / "runs/.kept")
    text = project.refused("evaluate", run["run"])
    assert "the data that this run was measured on cannot be had any more" in text
    assert "fitted/mean.npy" in text
    edit(place, "src/project/prepare.py", '"mean": 2 * np.array(mean', '"mean": np.array(mean')
    assert same in project.saigen("evaluate", run["run"])  # prepared once more


@pytest.mark.slow
def test_a_sweep_over_prepare_gives_other_data_and_diff_names_its_value(project):
    told = project.saigen(
        "train", "--multirun", "debug=two_steps", "prepare.preparation.epsilon=0.1,10"
    )
    assert told.count("prepared 1255 train") == 2
    assert_diff_names_epsilon(project)


def test_diff_names_the_value_of_prepare(place):
    for value in (0.1, 10):
        place.train((*SHORT, f"prepare.preparation.epsilon={value}"))
    assert_diff_names_epsilon(place.project)


def assert_diff_names_epsilon(project) -> None:
    done = project.run(sys.executable, "-m", "saigen", "diff", "last~1", "last")
    print(done.stdout)
    assert "prepare.preparation.epsilon" in done.stdout.partition("verdict")[2]


def test_a_large_file_is_hashed_again_only_after_a_change(tmp_path, monkeypatch):
    from saigen import digest_cache
    from saigen.digest import digest_bytes

    path, read = tmp_path / "large.csv", []
    monkeypatch.setattr(digest_cache, "LARGE_BYTES", 4)
    monkeypatch.setattr(digest_cache, "_SETTLED_SECONDS", -1)  # as if it had lain there for long
    hashed = digest_cache.digest_file
    monkeypatch.setattr(digest_cache, "digest_file", lambda p: read.append(p) or hashed(p))
    for content, times in ((b"a,b,c", 1), (b"a,b,d", 2)):
        path.write_bytes(content)
        before = path.stat().st_ctime_ns
        while path.stat().st_ctime_ns == before:  # the next tick of the file system's clock
            os.utime(path, (1, 1))  # the time of the change stands in the ctime all the same
        for _ in range(3):
            found = digest_cache.digest_unless_seen(path, tmp_path)
            assert found == digest_bytes(content)
        assert len(read) == times


def test_the_imports_of_a_module_are_read_from_its_text(tmp_path):
    files = {
        "a/__init__.py": "",
        "a/main.py": "import importlib\nfrom . import one\nfrom .sub.deep import x\n"
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a.typed\n"
        "else:\n    import a.real\n"
        "def f():\n    try:\n        from b import two\n    except ImportError:\n"
        "        import numpy\n    return importlib.import_module('a.named')\n",
        "a/one.py": "import a.main\n", "a/sub/__init__.py": "from ..above import y\n",
        "a/sub/deep.py": "x = 1", "a/above.py": "y = 1", "a/typed.py": "", "a/real.py": "",
        "a/named.py": "", "a/never.py": "", "b/__init__.py": "", "b/two.py": "def (", "c.py": "",
    }  # fmt: skip
    for name, text in files.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = imported_sources(tmp_path, ["a.main"])
    missing = {"a/typed.py", "a/never.py", "c.py"}
    assert set(found) == {f"src/{name}" for name in files if name not in missing}


@pytest.mark.parametrize("name", ["train/more.npy", "test/.hidden.npy", "fitted/more.npy"])
def test_a_file_that_no_manifest_names_is_refused_or_never_read(prepared_project, name):
    folder = prepared_project.root / "prepared"
    shutil.copyfile(folder / "fitted/mean.npy", folder / name)
    if ".hidden" in name:
        prepared_project.saigen("train", "debug=two_steps")
        return
    text = prepared_project.refused("train", "debug=two_steps")
    assert "prepared data is not what was prepared" in text
    assert f"prepared/{name}" in text
    assert "no file that prepared/manifest.json does not name" in text


def test_arrays_that_do_not_fit_together_are_refused_by_name(project):
    path = project.root / "src/project/prepare.py"
    text = path.read_text()
    line = '            arrays["targets"] = table.columns["label"]\n'
    for code, got in (
        ('arrays["targets"] = table.columns["label"].astype("i4" if len(table.ids) < 260 else "i8")'
         , "int32"),
        ('arrays["targets" if len(table.ids) > 260 else "labels"] = table.columns["label"]',
         "no such array"),
    ):  # fmt: skip
        path.write_text(text.replace(line, f"            {code}\n"))
        told = project.refused("prepare")
        assert "the arrays of the splits do not fit together" in told
        assert got in told
        assert not (project.root / "prepared").exists()

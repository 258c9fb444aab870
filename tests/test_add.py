"""`make add`: packages into the list, both locks and .venv, or nothing at all."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docker"))

import add  # noqa: E402

LIST = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
FILES = ("pyproject.toml", "docker/lock-cpu.txt", "docker/lock-cuda.txt")


def test_a_package_enters_the_sorted_list_and_another_version_takes_its_place():
    listed = add.with_requirements(LIST, ["polars", "scikit_learn>=1.5"])
    assert (
        listed.index('"polars"') < listed.index('"pydantic') < listed.index('"scikit_learn>=1.5"')
    )
    assert listed.count('"torch==2.13.0"') == 1
    assert add.with_requirements(listed, ["polars", "scikit-learn"]) == listed
    newer = add.with_requirements(listed, ["Scikit.Learn>=1.6"])
    assert '"Scikit.Learn>=1.6"' in newer
    assert "scikit_learn" not in newer
    assert add.with_requirements(LIST, ["numpy"]) == LIST


def test_what_moved_is_said_by_version():
    before, after = "a==1 \\\n    --hash\nb==1 \\\n", "b==2 \\\nc==3+cpu \\\n"
    assert add.difference(before, after) == ["a 1 -> none", "b 1 -> 2", "c none -> 3+cpu"]


@pytest.mark.parametrize(
    "wanted",
    ["--index-url=http://x", "./wheel.whl", "a;b", "a @ file:///x", "http://x/a.whl", "a>"],
)
def test_what_names_no_package_is_refused_before_anything_is_written(wanted, capsys):
    assert add.main([wanted.replace(" ", "")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("refused: this names no package\n  where:    P\n")
    assert "fix:      make add P=polars" in told


def test_no_package_at_all_is_refused(capsys):
    assert add.main([]) == 2
    assert "refused: no package is named" in capsys.readouterr().err


def wheel(folder: Path, name: str, version: str, requires: str) -> None:
    """A wheel with one empty module."""
    folder.mkdir(exist_ok=True)
    information = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(
            f"{information}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {requires}\n",
        )
        archive.writestr(
            f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{information}/RECORD", "")


@pytest.mark.slow
def test_packages_are_added_whole_or_not_at_all(project, tmp_path):
    """A real resolution; the build of torchvision for the CPU lies in a folder, as in a mirror."""
    version = "0.28.0"  # which goes with the torch of the list
    wheel(tmp_path / "wheels", "torchvision", f"{version}+cpu", "torch==2.13.0")
    links = f"{os.environ.get('PIP_FIND_LINKS', '')} {tmp_path / 'wheels'}".strip()
    shutil.copy(ROOT / "Makefile", project.root)
    before = {name: (project.root / name).read_text() for name in FILES}

    def added(packages: str) -> subprocess.CompletedProcess[str]:
        return project.run("make", "add", env={"P": packages, "PIP_FIND_LINKS": links}, cold=True)

    done = added("no-such-package-of-saigen")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "refused: the packages do not resolve together" in done.stderr
    assert before == {name: (project.root / name).read_text() for name in FILES}

    done = added(f"polars torchvision=={version}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "imports  polars\n" in done.stdout
    assert "imports  torchvision\n" in done.stdout
    found = {
        variant: re.search(
            r"^torchvision==(\S+)", (project.root / f"docker/lock-{variant}.txt").read_text(), re.M
        )[1]
        for variant in ("cpu", "cuda")
    }
    assert found == {"cpu": f"{version}+cpu", "cuda": version}
    checked = project.run(sys.executable, "docker/lock_header.py", "check")
    assert checked.returncode == 0, checked.stdout

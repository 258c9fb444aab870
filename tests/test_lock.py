"""Drift names itself: every way in which an environment stops being the one that was locked."""

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from saigen.environment.installed_files import NAME, Replaced, changed_files
from saigen.environment.lock import (
    Drift,
    drift,
    hold_to_lock,
    installed_versions,
    locked_versions,
    mend,
    unimportable,
    version_differences,
)
from saigen.errors import Refusal

ROOT = Path(__file__).parent.parent


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A site-packages with two distributions, as an installer leaves them."""
    folder = tmp_path / "site-packages"
    install(folder, "Alpha_Tools", "1.0", {"alpha/__init__.py": "a = 1\n", "alpha/fast.so": "x"})
    install(folder, "beta", "2.5", {"beta.py": "b = 2\n", "beta/include/b.h": "int b;\n"})
    return folder


def install(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    lines = []
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
        digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text)}\n")
    information = folder / f"{name}-{version}.dist-info"
    information.mkdir(exist_ok=True)
    (information / "RECORD").write_text("".join(lines) + f"{information.name}/RECORD,,\n")


def lines(found: list[Replaced]) -> list[str]:
    return [str(file) for file in found]


LOCKED = {"alpha-tools": "1.0", "beta": "2.5"}


def test_an_environment_as_locked_has_no_difference(packages: Path) -> None:
    assert version_differences(LOCKED, installed_versions(packages)) == []


@pytest.mark.parametrize("version", ["2.4", "2.6"])
def test_an_upgraded_or_downgraded_distribution_is_named(packages: Path, version: str) -> None:
    (packages / "beta-2.5.dist-info").rename(packages / f"beta-{version}.dist-info")
    found = version_differences(LOCKED, installed_versions(packages))
    assert found == [f"beta is {version} instead of 2.5"]


def test_a_missing_an_added_and_a_doubled_distribution_are_named(packages: Path) -> None:
    (packages / "beta-2.5.dist-info").rename(packages / "gamma-3.dist-info")
    install(packages, "alpha.tools", "0.9", {})
    assert version_differences(LOCKED, installed_versions(packages)) == [
        "alpha-tools is 0.9 and 1.0 instead of 1.0",
        "beta 2.5 is not installed",
        "gamma 3 is not in the lock",
    ]


def test_pip_beside_the_locked_distributions_is_no_difference(packages: Path) -> None:
    install(packages, "pip", "25.0", {})
    assert version_differences(LOCKED, installed_versions(packages)) == []


@pytest.mark.parametrize("sealed", [False, True])
def test_a_replaced_file_is_named_before_and_after_the_first_look(
    packages: Path, tmp_path: Path, sealed: bool
) -> None:
    if sealed:
        assert changed_files(packages, tmp_path) == []
    (packages / "beta.py").write_text("b = 3\n")
    expected = ["beta 2.5: beta.py is not the file that was installed"]
    for _ in range(2):  # and again: no difference is sealed
        found = changed_files(packages, tmp_path)
        assert lines(found) == expected
        assert Drift(files=tuple(found)).replaced == {
            "beta.py": hashlib.sha256(b"b = 3\n").hexdigest()
        }


def test_a_replaced_file_of_the_same_size_and_time_is_named(packages: Path, tmp_path: Path) -> None:
    assert changed_files(packages, tmp_path) == []
    library = packages / "alpha/fast.so"
    times = (library.stat().st_atime_ns, library.stat().st_mtime_ns)
    library.write_text("y")
    os.utime(library, ns=times)
    found = changed_files(packages, tmp_path)
    assert lines(found) == ["Alpha_Tools 1.0: alpha/fast.so is not the file that was installed"]


def test_a_removed_file_is_named(packages: Path, tmp_path: Path) -> None:
    assert changed_files(packages, tmp_path) == []
    (packages / "alpha/__init__.py").unlink()
    found = changed_files(packages, tmp_path)
    assert lines(found) == ["Alpha_Tools 1.0: alpha/__init__.py is gone"]
    assert Drift(files=tuple(found)).replaced == {"alpha/__init__.py": "gone"}


def test_another_build_of_the_same_version_is_named(packages: Path, tmp_path: Path) -> None:
    assert changed_files(packages, tmp_path) == []
    install(packages, "beta", "2.5", {"beta.py": "b = 4\n"})
    found = changed_files(packages, tmp_path)
    assert lines(found) == ["beta 2.5: another build of the same version"]


def test_a_touched_file_and_a_changed_header_are_no_difference(
    packages: Path, tmp_path: Path
) -> None:
    assert changed_files(packages, tmp_path) == []
    (packages / "beta.py").touch()
    (packages / "beta/include/b.h").write_text("long b;\n")
    assert changed_files(packages, tmp_path) == []


def test_a_new_installation_is_looked_at_anew(packages: Path, tmp_path: Path) -> None:
    assert changed_files(packages, tmp_path) == []
    install(packages, "beta", "2.5", {"beta.py": "b = 4\n"})
    (tmp_path / ".complete").write_text("made of something else")
    assert changed_files(packages, tmp_path) == []


def test_a_torn_seal_is_looked_behind_not_believed(packages: Path, tmp_path: Path) -> None:
    assert changed_files(packages, tmp_path) == []
    (tmp_path / NAME).write_text((tmp_path / NAME).read_text()[:20])
    (packages / "beta.py").write_text("b = 3\n")
    assert changed_files(packages, tmp_path) != []


def test_in_the_image_a_file_of_the_same_size_is_named_and_the_seal_is_of_one_image(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, home = tmp_path / "read-only", tmp_path / "home"
    prefix.mkdir()
    home.mkdir()
    monkeypatch.setenv("SAIGEN_IMAGE_ID", "sha256:1")
    assert changed_files(packages, prefix, home) == []
    assert (home / NAME).is_file()
    assert not (prefix / NAME).exists()
    (packages / "beta.py").write_text("b = 3\n")
    expected = ["beta 2.5: beta.py is not the file that was installed"]
    assert lines(changed_files(packages, prefix, home)) == expected
    install(packages, "beta", "2.5", {"beta.py": "b = 3\n"})
    assert lines(changed_files(packages, prefix, home)) == [
        "beta 2.5: another build of the same version"
    ]
    monkeypatch.setenv("SAIGEN_IMAGE_ID", "sha256:2")
    assert changed_files(packages, prefix, home) == []


def test_a_project_without_a_lock_is_refused_by_path_and_mend(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        hold_to_lock(tmp_path, "refuse")
    assert re.fullmatch(
        r"there is no docker/lock-c[pu][ud]\w*\.txt .*\(make lock\)", refused.value.got
    )
    assert "reproducibility.environment_drift=warn" in refused.value.fix


def test_under_warn_the_differences_are_said_and_given_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = hold_to_lock(tmp_path, "warn")
    assert found.lines == drift(tmp_path).lines != []
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("warning: the environment is not the one that is locked")
    assert found.lines[0] in told
    assert told.endswith(f"; to mend it: {mend()}")
    assert hold_to_lock(tmp_path, "warn") is found  # one look a process
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("drifted", [False, True])
@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("project.models.nothing", "No module named 'project.models.nothing'", "of the project"),
        ("pandas", "No module named 'pandas'", "a library cannot be imported"),
        ("saigen.nothing", "cannot import name 'x' from 'saigen.nothing'", None),
        ("json", "cannot import name 'x' from 'json'", None),
        (None, "libmkl.so.2: cannot open shared object file", "a library cannot be imported"),
    ],
)
def test_a_failed_import_is_called_drift_only_where_it_may_come_from_it(
    tmp_path: Path, drifted: bool, name: str | None, text: str, what: str | None
) -> None:
    root = tmp_path if drifted else ROOT  # there is no lock to hold to
    (tmp_path / "src/project").mkdir(parents=True)
    told = unimportable(root, ImportError(text, name=name))
    if what is None:
        assert told is None
        return
    assert text in told.got
    if drifted and "library" in what:
        what = "the environment is not the one that is locked"
        assert "there is no docker/lock-c" in told.got
        assert told.fix == mend()
    assert what in told.what


def test_of_many_differences_the_first_are_shown_and_the_rest_counted() -> None:
    many = Drift(tuple(f"p{number} 1 is not installed" for number in range(40)))
    assert many.words().startswith("p0 1 is not installed; p1 1")
    assert many.words().endswith("p11 1 is not installed; and 28 more")


def test_every_distribution_of_both_locks_is_read() -> None:
    for variant in ("cpu", "cuda"):
        lock = ROOT / f"docker/lock-{variant}.txt"
        versions = locked_versions(lock)
        assert len(versions) == lock.read_text().count("==")
        assert {"torch", "dvc", "types-pyyaml", "antlr4-python3-runtime"} <= set(versions)


def test_drift_in_a_real_environment_is_refused_with_its_list_and_its_mend(tmp_path: Path) -> None:
    """A virtual environment whose site-packages is this one's, file by file, less one package."""
    here = Path(sysconfig.get_path("purelib"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    there = next((tmp_path / "v/lib").glob("python3*/site-packages"))
    for entry in here.iterdir():
        if not entry.name.startswith("tqdm"):
            (there / entry.name).symlink_to(entry)
    done = subprocess.run(
        [tmp_path / "v/bin/python", "-m", "saigen.environment.lock"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src"), "SAIGEN_ENVIRONMENT": "container"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("refused: the environment is not the one that is locked")
    locked = locked_versions(ROOT / "docker/lock-cpu.txt")["tqdm"]
    assert f"tqdm {locked} is not installed" in done.stderr
    assert "make image" in done.stderr


OPENED = """
import sys, sysconfig
from pathlib import Path
from saigen.environment.installed_files import changed_files
packages, prefix = Path(sysconfig.get_path("purelib")), Path(sys.argv[1])
assert changed_files(packages, prefix) == []  # the first look, which seals
opened = []
sys.addaudithook(lambda event, values: event == "open" and opened.append(str(values[0])))
assert changed_files(packages, prefix) == []
print([name for name in opened if name.startswith(str(packages))])
"""


def test_a_second_look_at_an_unchanged_environment_opens_no_file_of_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPENED, str(tmp_path)]
    told = subprocess.check_output(command, env={"PYTHONPATH": str(ROOT / "src")}, text=True)
    assert told == "[]\n"


def test_a_lock_says_what_moved_and_hangs_on_no_name_of_the_project(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "docker"))
    import lock_header

    draft, lock = tmp_path / "draft", tmp_path / "lock.txt"
    texts = []
    for name, pins in (("saigen", "a==1\nb==1"), ("my.cars", "a==1\nb==1"), ("x", "a==2\nc[d]==1")):
        via = f"\n    # via\n    #   {name} (pyproject.toml)\n    #   other\n"
        draft.write_text(pins + via + f"e==1\n    # via {name} (pyproject.toml:dev)\n")
        lock_header.write("cpu", draft, lock)
        texts.append(lock.read_text())
    assert texts[0] == texts[1]
    assert "x (py" not in texts[2]
    told = [line.removeprefix(f"{lock}: ") for line in capsys.readouterr().out.splitlines()]
    assert told == [
        "3 packages, a (new) -> 1, b (new) -> 1, e (new) -> 1",
        "3 packages, as before",
        "3 packages, a 1 -> 2, b 1 -> (gone), c (new) -> 1",
    ]

"""What is written replaces only what is ours: of folders, files, devices and links."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT, Project
from lab import Attempt

from saigen import files
from saigen.errors import Refusal
from saigen.files import end_replacements, locked, refuse_unless_replaceable, replacing
from saigen.outputs import refuse_output, refuse_owned, write_output

TWO_STEPS = ("debug=two_steps",)


@pytest.fixture(scope="module")
def made(lab):
    """A project with one short run, a git repository around it, and a model/."""
    subprocess.run(["git", "init", "-q", lab.project.root.parent], check=True)
    lab.train(TWO_STEPS)
    assert done(lab, "restore", "last") == 0
    return lab.project


def done(lab, *arguments: str, cwd: Path | None = None, stdout: Path | None = None) -> int:
    """The exit code of a verb in a process of its own, forked from one that imported it."""
    environment = {"SAIGEN_STARTED_AGAIN": "1"}
    lab.count += 1
    log = stdout or lab.project.root / f"log-{lab.count}"
    Path(f"{log}.code").unlink(missing_ok=True)
    pid = lab.zygote.start(list(arguments), cwd or lab.project.root, environment, log)
    return Attempt({pid: log}).codes()[0]


def snapshot(top: Path) -> dict[str, bytes | str]:
    """Everything below a folder, links as links."""
    found: dict[str, bytes | str] = {}
    for path in sorted(top.rglob("*")):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        elif path.is_file():
            found[str(path)] = path.read_bytes()
    return found


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of what was made, as the place where a verb is started."""
    shutil.copytree(made.root.parent, tmp_path / "top", symlinks=True)
    monkeypatch.chdir(tmp_path / "top/project")
    return tmp_path / "top/project"


def verb(*arguments: str) -> int:
    from saigen.cli import main

    return main(arguments)


# every way to name a place that is not to be replaced, and what the refusal says of it
PLACES = {
    "precious": "without a readable manifest.json",
    "precious/file.txt": "a file",
    ".": "a folder that the project lies in",
    "": "a folder that the project lies in",
    "..": "a folder that the project lies in",
    "../..": "a folder that the project lies in",
    "/": "a folder that the project lies in",
    "precious/..": "a folder that the project lies in",
    "runs": "part of runs",
    "runs/new": "part of runs",
    "src": "part of src",
    "src/project/model": "part of src",
    "conf": "part of conf",
    "data": "part of data",
    "prepared": "part of prepared",
    "results": "part of results",
    "docker/x": "part of docker",
    "tests": "part of tests",
    ".git": "part of .git",
    ".dvc/cache": "part of .dvc",
    ".venv": "part of .venv",
    "dvc.lock": "part of dvc.lock",
    "../.git/model": "the inside of a git repository",
    "to_model": "a link to model",
    "to_runs": "part of runs",
    "to_precious": "a link to precious",
    "to_precious/../runs/x": "part of runs",
    "dangling": "a link to nowhere",
    "model/inner": "part of a model folder",
    "model_with_notes": "notes.txt, which manifest.json does not name",
    "model_with_history": ".git/HEAD, which manifest.json does not name",
    "model_with_link": "weights.safetensors.link, which manifest.json does not name",
    "torn_model": "without a readable manifest.json",
}


def plant(here: Path) -> None:
    (here / "precious").mkdir()
    (here / "precious/file.txt").write_text("years of work")
    for name, target in (("to_model", "model"), ("to_runs", "runs"), ("to_precious", "precious"),
                         ("dangling", "nowhere")):  # fmt: skip
        (here / name).symlink_to(target)
    for name in ("model_with_notes", "model_with_history", "model_with_link", "torn_model"):
        shutil.copytree(here / "model", here / name)
    (here / "model_with_notes/notes.txt").write_text("mine")
    (here / "model_with_history/.git").mkdir()
    (here / "model_with_history/.git/HEAD").write_text("ref: refs/heads/main")
    (here / "model_with_link/weights.safetensors.link").symlink_to("../precious/file.txt")
    (here / "torn_model/manifest.json").write_text("{")


def test_restore_replaces_nothing_that_is_not_a_model_folder_of_ours(here, capsys):
    plant(here)
    before = snapshot(here.parent)
    for place, got in PLACES.items():
        assert verb("restore", "last", "--to", place) == 2, place
        told = capsys.readouterr().err
        assert f"got:      {got}" in told or got in told, (place, told)
        assert "fix:" in told
    assert snapshot(here.parent) == before
    assert (here / "runs").is_dir()


def test_restore_replaces_what_is_absent_empty_or_a_model_folder_in_whatever_state(here, capsys):
    (here / "empty").mkdir()
    weights = here / "model/weights.safetensors"
    weights.write_bytes(b"damaged")
    (here / "model/config.json").unlink()
    for name in (".DS_Store", "._weights.safetensors", "fitted/.nfs0001", "Thumbs.db"):
        (here / "model" / name).write_bytes(b"a file browser's, or a network drive's")
    for place in ("model", "empty", "absent", "a/deep/one", "../beside", str(here / "absolute")):
        assert verb("restore", "last", "--to", place) == 0, capsys.readouterr().err
        assert (Path(place) / "weights.safetensors").stat().st_size > 100
        assert not (Path(place) / ".DS_Store").exists()
    assert not list(here.rglob(".*.saigen-*"))


def test_a_project_folder_in_another_case_or_by_a_link_is_the_same_folder(here):
    """On a file system that ignores case the two names are one folder, as by a link here."""
    (here / "Runs").symlink_to("runs")
    with pytest.raises(Refusal, match="no place for an output"):
        refuse_owned(Path("Runs/new"), Path())


def test_a_published_model_or_prepared_data_that_is_not_ours_is_kept(here):
    project = Project(here)
    project.saigen("compose", "--write")
    for folder, command in (("model", ("train", "--stage")), ("prepared", ("prepare", "--stage"))):
        (here / folder / "mine.txt").write_text("mine")
        told = project.refused(*command)
        assert "what stands there is not ours to replace" in told
        assert "mine.txt, which manifest.json does not name" in told
        assert (here / folder / "mine.txt").read_text() == "mine"
        (here / folder / "mine.txt").unlink()


def rows(here: Path) -> None:
    lines = (here / "data/digits.csv").read_text().splitlines()[:6]
    (here / "rows.csv").write_text("\n".join(lines) + "\n")


def read_from(fifo: Path, write) -> bytes:
    """What comes out of a pipe with a name while something is written into it."""
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    write()
    reader.join()
    assert fifo.is_fifo()
    return read[0]


def test_predictions_go_into_devices_pipes_and_descriptors_and_never_in_their_place(lab, here):
    """Real processes, since what is asked is what the system does."""
    rows(here)

    def predict(out: str, stdout: Path | None = None) -> None:
        arguments = ("predict", "model", "rows.csv", "--out", out)
        assert done(lab, *arguments, cwd=here, stdout=stdout) == 0

    predict("plain.csv")
    expected = Path("plain.csv").read_bytes()
    os.mkfifo("pipe")
    assert read_from(Path("pipe"), lambda: predict("pipe")) == expected
    assert read_from(Path("pipe"), lambda: predict("/dev/stdout", here / "pipe")) == expected
    Path("log").write_bytes(b"before\n")
    predict("/dev/stdout", here / "log")
    predict("/dev/fd/1", here / "log")
    assert Path("log").read_bytes() == b"before\n" + expected * 2
    assert Path("/dev/null").is_char_device()
    predict("/dev/null")
    assert Path("/dev/null").is_char_device()


def test_an_output_is_written_into_what_is_no_file_and_whole_where_it_is_one(tmp_path):
    null = os.lstat("/dev/null")
    write_output(Path("/dev/null"), b"gone")
    assert os.lstat("/dev/null") == null or os.lstat("/dev/null").st_rdev == null.st_rdev
    with pytest.raises(OSError, match="No space") as caught:
        write_output(Path("/dev/full"), b"x" * 100_000)
    assert caught.value.errno == errno.ENOSPC
    target = tmp_path / "target.csv"
    target.write_bytes(b"old")
    target.chmod(0o640)
    inode = target.stat().st_ino
    (tmp_path / "link").symlink_to("target.csv")
    (tmp_path / "link_to_link").symlink_to("link")
    write_output(tmp_path / "link_to_link", b"new")
    assert target.read_bytes() == b"new"
    assert target.stat().st_ino != inode  # by a rename
    assert target.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "dangling").symlink_to("made.csv")
    write_output(tmp_path / "dangling", b"through")
    assert (tmp_path / "made.csv").read_bytes() == b"through"
    (tmp_path / "to_null").symlink_to("/dev/null")
    write_output(tmp_path / "to_null", b"gone")
    assert (tmp_path / "to_null").is_symlink()


@pytest.mark.parametrize("how", ["itself", "link", "hard link", "round about", "model", "folder"])
def test_an_output_that_is_read_is_refused_before_anything_is_computed(here, capsys, how):
    rows(here)
    out = {
        "itself": "rows.csv",
        "link": "l.csv",
        "hard link": "h.csv",
        "folder": "precious",
        "round about": "model/../rows.csv",
        "model": "elsewhere/weights.safetensors",
    }[how]
    Path("l.csv").symlink_to("rows.csv")
    Path("h.csv").hardlink_to("rows.csv")
    Path("precious").mkdir()
    shutil.copytree("model", "elsewhere")
    before = snapshot(here)
    assert verb("predict", "elsewhere", "rows.csv", "--out", out) == 2
    told = capsys.readouterr().err
    assert "the output would overwrite something else" in told
    assert ("a folder" if how == "folder" else "which is read") in told
    assert snapshot(here) == before


@pytest.mark.parametrize(
    "out", ["runs/ledger.jsonl", "data/digits.csv", "src/x.py", ".git/config", "params.yaml",
            "results/new.csv", "to_data/digits.csv", "model/new.csv", "Makefile", "tools/new.sh",
            "mine.md", "to_mine"]
)  # fmt: skip
def test_an_output_never_goes_where_the_project_keeps_its_own(here, capsys, out):
    rows(here)
    Path("to_data").symlink_to("data")
    Path("mine.md").write_text("what a team wrote")
    Path("to_mine").symlink_to("mine.md")
    subprocess.run(["git", "add", "mine.md"], check=True)
    before = snapshot(here)
    assert verb("predict", "model", "rows.csv", "--out", out) == 2
    assert "fix:      name another" in capsys.readouterr().err
    assert verb("diff", "last", "last", "--html", out) == 2
    assert "fix:      name another" in capsys.readouterr().err
    assert snapshot(here) == before


def test_whatever_lies_at_the_top_of_the_project_is_its_own():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=False)
    for name in {line.partition("/")[0] for line in listed.stdout.decode().splitlines()}:
        with pytest.raises(Refusal, match="no place for an output"):
            refuse_owned(ROOT / name, ROOT)


def test_a_page_of_a_diff_never_replaces_a_record_that_is_compared(here, capsys):
    record = next(Path("runs").glob("*/record.json"))
    shutil.copyfile(record, "theirs.json")
    before = snapshot(here)
    assert verb("diff", "theirs.json", "last", "--html", "theirs.json") == 2
    assert "theirs.json, which is read" in capsys.readouterr().err
    assert snapshot(here) == before
    with pytest.raises(Refusal, match="overwrite"):
        refuse_output(Path("theirs.json"), Path(), [Path("theirs.json")])


# -- The one function by which a folder is replaced ------------------------------------------------


def filled(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "inner").mkdir()
    (folder / "inner/file").write_text(text)
    return folder


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("there", ["nothing", "empty", "full"])
def test_a_folder_is_replaced_in_one_step_also_without_renameat2(
    tmp_path, monkeypatch, there, exchange
):
    target = tmp_path / "target"
    if there != "nothing":
        target.mkdir()
    if there == "full":
        filled(target, "old")
    if not exchange:
        monkeypatch.setattr(files, "_NO_EXCHANGE", {errno.EINVAL})
        monkeypatch.setattr(files, "_RENAME_EXCHANGE", 1 << 20)  # no such flag: EINVAL
    with replacing(target) as new:
        (new / "file").write_text("new")
        assert target.exists() is (there != "nothing")
    assert [p.name for p in target.iterdir()] == ["file"]
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


def fail_while_replacing(target: Path) -> None:
    def half() -> None:
        with replacing(target) as new:
            (new / "file").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()


def test_a_replacement_that_fails_leaves_what_was_there(tmp_path):
    filled(tmp_path / "target", "old")
    fail_while_replacing(tmp_path / "target")
    assert snapshot(tmp_path) == {str(tmp_path / "target/inner/file"): b"old"}


KILLED = """
import os, signal, sys
from pathlib import Path
from saigen import files
files._RENAME_EXCHANGE = 1 << 20  # as where the file system cannot exchange
rename, times = Path.rename, 0
def watched(self, target):
    global times
    times += 1
    if times == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = watched
with files.replacing(Path("target")) as new:
    (new / "file").write_text("new")
"""


@pytest.mark.parametrize(("killed_at", "then"), [(1, "old"), (2, "new")])
def test_a_replacement_killed_between_its_two_renames_is_ended_by_the_next(
    tmp_path, killed_at, then
):
    (tmp_path / "target").mkdir()
    (tmp_path / "target/file").write_text("old")
    command = [sys.executable, "-c", KILLED, str(killed_at)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run(command, cwd=tmp_path, env=environment, check=False)
    assert len(list(tmp_path.glob(".target.saigen-*"))) == 1
    fail_while_replacing(tmp_path / "target")
    assert snapshot(tmp_path) == {str(tmp_path / "target/file"): then.encode()}


AT_THE_END = """
import os, signal
from pathlib import Path
from saigen import files
files._remove = lambda workplace: os.kill(os.getpid(), signal.SIGKILL)
with files.replacing(Path("step-1")) as new:
    (new / "file").write_text("new")
"""


@pytest.mark.parametrize("after", ["another replacement", "a look"])
def test_what_a_kill_at_the_end_of_a_replacement_leaves_is_gone_with_the_next_in_that_place(
    tmp_path, after
):
    """Of a last checkpoint, say, which nothing ever replaces again."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    for _ in range(2):  # with nothing in its place, and with something
        command = [sys.executable, "-c", AT_THE_END]
        subprocess.run(command, cwd=tmp_path, env=environment, check=False)
        assert len(list(tmp_path.glob(".step-1.saigen-*"))) == 1
    assert (tmp_path / "step-1/file").read_text() == "new"
    if after == "a look":
        end_replacements(tmp_path)
    else:
        fail_while_replacing(tmp_path / "step-2")
    assert snapshot(tmp_path) == {str(tmp_path / "step-1/file"): b"new"}


def test_a_folder_to_fill_that_another_process_took_away_is_made_anew(tmp_path, monkeypatch):
    """Between the making of its lock file and the lock."""
    lock, taken = files.locked, []

    def take_away(path, **wait):
        if not taken:
            taken.append(path)
            shutil.rmtree(path.parent)
            path = tmp_path / "lock"
        return lock(path, **wait)

    monkeypatch.setattr(files, "locked", take_away)
    with replacing(tmp_path / "target") as new:
        (new / "file").write_text("new")
    assert len(taken) == 1
    assert (tmp_path / "target/file").read_text() == "new"


def test_a_replacement_leaves_alone_what_another_process_fills(tmp_path):
    held = tmp_path / ".target.saigen-held"
    held.mkdir()
    code = "import sys; from pathlib import Path; from saigen.files import locked\n"
    code += "with locked(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(held / "lock")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline()
        with replacing(tmp_path / "target") as new:
            (new / "file").write_text("new")
        assert held.is_dir()
        with locked(held / "lock", wait=False) as had:
            assert not had
        other.stdin.close()
    with replacing(tmp_path / "target") as new:
        (new / "file").write_text("newer")
    assert not held.exists()


def test_a_folder_is_ours_only_with_a_manifest_that_names_all_of_it(tmp_path):
    folder = filled(tmp_path / "f", "x")
    with pytest.raises(Refusal, match="not ours to replace") as caught:
        refuse_unless_replaceable(folder)
    assert caught.value.fix == f"name another folder, or move it away: mv {folder} {folder}.mine"
    for manifest in ("[]", '{"files": 3}', '{"files": null}', "{}"):
        (folder / "manifest.json").write_text(manifest)
        with pytest.raises(Refusal):
            refuse_unless_replaceable(folder)
    (folder / "manifest.json").write_text(json.dumps({"files": {"inner/file": "0"}}))
    refuse_unless_replaceable(folder)

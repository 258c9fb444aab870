"""Whatever git is told by a machine, what is kept of a run gives its source back byte for byte."""

import os
import subprocess
from pathlib import Path

import pytest

from saigen import git_dvc
from saigen.analysis.run import Run
from saigen.analysis.worktree import compute_layout
from saigen.digest import digest_file
from saigen.errors import Refusal
from saigen.runs import uncommitted

NEW = {
    "src/added.py": b"ADDED = 1\n",
    "src/changed.py": b"one\nTWO\nthree\r\n\n\n",
    "src/café → x.py": b"UNICODE = 1",
    'src/"quoted"\t.py': b"QUOTED = 1\n",
    "src/no_end.py": b"no newline at the end",
    "src/crlf.py": b"windows\r\nlines\r\n",
    "conf/new.yaml": b"a: 1\n",
    "src/:(glob)odd.py": b"ODD = 1\n",
    "src/-flag.py": b"FLAG = 1\n",
}


class Repository:
    def __init__(self, root: Path) -> None:
        self.root = root
        for name, content in {
            "src/changed.py": b"one\ntwo\nthree\r\n",
            "src/removed.py": b"gone\n",
            "src/same.py": b"same\n",
            "src/image.py": b"\0\1\2 binary\n",
            "README": b"read\n",
        }.items():
            self.write(name, content)
        (self.root / "src/tracked_link").symlink_to("same.py")
        self.git("init", "-q", "-b", "main")
        self.commit()

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", *who, *words], cwd=self.root, capture_output=True, text=True, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(self.root.parent)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "x")

    def write(self, name: str, content: bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(content)

    def edit(self) -> None:
        for name, content in NEW.items():
            self.write(name, content)
        self.write("src/image.py", b"\0\1\2 other binary\n")
        (self.root / "src/removed.py").unlink()
        (self.root / "src/link").symlink_to("same.py")
        (self.root / "src/tracked_link").unlink()
        (self.root / "src/tracked_link").symlink_to("changed.py")
        self.git("add", "-N", "src/no_end.py", "src/-flag.py")

    def code(self) -> dict[str, str]:
        files = sorted((self.root / "src").rglob("*.py"))
        return {str(f.relative_to(self.root)): digest_file(f) for f in files if f.is_file()}

    def keep(self, folder: Path) -> dict:
        return uncommitted.keep(self.root, folder, uncommitted.state(self.root), self.code())

    def given_back(self, folder: Path) -> None:
        """Keep what is not committed, and put it together again as `rerun` does."""
        folder.mkdir()
        code, state = self.code(), self.keep(folder)
        assert state["commit"] == self.git("rev-parse", "HEAD")
        layers = {
            "code": {"files": code},
            "config": {"values": {"reproducibility": {}}},
        }
        record = {"run": "x", "recipe": {"layers": layers}, "metadata": {"git": state}}
        # from the run's own folder and the repository's objects alone: a clone that has no changes
        run = Run(folder=folder, record=record, root=folder)
        with git_dvc.checked_out(self.root, state["commit"]) as project:
            compute_layout(run, project)
            found = {str(f.relative_to(project)) for f in (project / "src").rglob("*.py")}
            assert found == code.keys()
            assert (project / "src/link").readlink() == Path("same.py")
            assert (project / "src/tracked_link").readlink() == Path("changed.py")
            assert (project / "conf/new.yaml").read_bytes() == NEW["conf/new.yaml"]
        assert self.git("worktree", "list").count("\n") == self.worktrees

    worktrees = 0


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    return Repository(tmp_path / "project")


SETTINGS = [
    "color.ui=always", "color.diff=always", "diff.noprefix=true", "diff.mnemonicPrefix=true",
    "diff.external=/bin/echo", "diff.srcPrefix=x/", "diff.context=0", "diff.interHunkContext=9",
    "diff.renames=copies", "diff.algorithm=histogram", "diff.orderFile=/nonexistent",
    "diff.submodule=log", "diff.relative=true", "diff.suppressBlankEmpty=true",
    "diff.wsErrorHighlight=all", "diff.colorMoved=zebra", "diff.ignoreSubmodules=all",
    "core.quotePath=true", "core.quotePath=false", "core.autocrlf=true", "core.autocrlf=input",
    "core.eol=crlf", "core.safecrlf=true", "core.fsmonitor=/bin/false", "core.fileMode=false",
    "core.pager=/bin/false", "core.hooksPath=/nonexistent", "core.splitIndex=true",
    "apply.whitespace=error-all", "apply.whitespace=fix", "core.whitespace=cr-at-eol,tab-in-indent",
    "i18n.commitEncoding=latin1", "i18n.logOutputEncoding=utf-16", "log.showSignature=true",
    "status.showUntrackedFiles=no", "submodule.recurse=true", "core.abbrev=4",
    "init.defaultObjectFormat=sha256", "extensions.worktreeConfig=true", "core.untrackedCache=true",
]  # fmt: skip


def test_all_settings_at_once_change_nothing(repository, tmp_path):
    for setting in SETTINGS:
        repository.git("config", *setting.split("=", 1))
    repository.edit()
    repository.given_back(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_of_the_repository_or_the_account_changes_nothing(repository, tmp_path, setting):
    key, _, value = setting.partition("=")
    repository.git("config", key, value)
    if not key.startswith("extensions"):
        repository.git("config", "--file", str(tmp_path / ".gitconfig"), key, value)
    repository.edit()
    repository.given_back(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "attributes",
    ["* text=auto", "*.py text eol=crlf", "*.py text eol=lf", "*.py binary", "*.py -diff",
     "*.py diff=shout", "*.py filter=shout", "*.py ident", "*.py working-tree-encoding=UTF-16",
     "*.py export-ignore", "*.py export-subst"],
)  # fmt: skip
@pytest.mark.parametrize("place", [".gitattributes", ".git/info/attributes"])
def test_attributes_with_their_filters_and_converters_change_nothing(
    repository, tmp_path, attributes, place
):
    for key in ("diff.shout.textconv", "diff.shout.command", "filter.shout.clean"):
        repository.git("config", key, "tr a-z A-Z")
    repository.edit()
    repository.write(place, attributes.encode() + b"\n")
    repository.given_back(tmp_path / "run")


def test_a_fresh_checkout_with_other_line_ends_is_given_back_as_it_was_read(repository, tmp_path):
    repository.git("config", "core.autocrlf", "true")
    for path in (repository.root / "src").glob("*"):
        path.unlink()
    repository.git("checkout", "-q", ".")
    assert b"\r\n" in (repository.root / "src/same.py").read_bytes()
    repository.edit()
    repository.given_back(tmp_path / "run")


VARIABLES = {
    "GIT_DIR": "/nonexistent", "GIT_WORK_TREE": "/", "GIT_INDEX_FILE": "/nonexistent/index",
    "GIT_OBJECT_DIRECTORY": "/nonexistent", "GIT_EXTERNAL_DIFF": "/bin/echo",
    "GIT_DIFF_OPTS": "-u0", "GIT_PAGER": "/bin/false", "GIT_NAMESPACE": "x", "GIT_PREFIX": "x/",
    "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_PARAMETERS": "'color.ui=always'", "GIT_TRACE": "1",
    "GIT_LITERAL_PATHSPECS": "1", "GIT_GLOB_PATHSPECS": "1", "GIT_ICASE_PATHSPECS": "1",
    "GIT_COMMON_DIR": "/nonexistent", "GIT_DEFAULT_HASH": "sha256", "GIT_SHALLOW_FILE": "/x",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES": "/x", "LC_ALL": "C.UTF-8", "LANGUAGE": "de",
}  # fmt: skip


def test_variables_of_the_environment_change_nothing(repository, tmp_path, monkeypatch):
    repository.edit()
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    repository.given_back(tmp_path / "run")


def test_git_dir_of_another_repository_names_no_commit_of_it(repository, tmp_path, monkeypatch):
    other = Repository(tmp_path / "other")
    other.write("README", b"other\n")
    other.commit()
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    assert uncommitted.state(repository.root)["commit"] == repository.git("rev-parse", "HEAD")


def test_a_work_tree_somewhere_else_is_no_repository_of_this_folder(repository, tmp_path):
    repository.git("config", "core.worktree", str(tmp_path))
    assert uncommitted.state(repository.root)["commit"] is not None
    (tmp_path / "elsewhere").mkdir()
    repository.git("config", "core.worktree", str(tmp_path / "elsewhere"))
    assert uncommitted.state(repository.root)["commit"] is None


def test_no_repository_no_commit_and_no_git_are_told_apart(tmp_path, monkeypatch):
    empty = {"commit": None, "branch": None, "changed": {}, "untracked": {}, "links": {}}
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "x"
    folder.mkdir()
    assert uncommitted.state(folder) == {**empty, "left_out": {}}
    assert git_dvc.problem(folder).startswith("not a git repository")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    assert uncommitted.state(folder)["commit"] is None
    assert git_dvc.problem(folder) == ""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert uncommitted.state(folder)["commit"] is None
    assert "No such file" in git_dvc.problem(folder)


def test_another_accounts_repository_is_not_believed_and_the_reason_is_git_own(
    repository, monkeypatch
):
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    for path in (repository.root, repository.root / ".git"):
        os.chown(path, 12345, 12345)
    monkeypatch.setenv("SUDO_UID", "0")
    assert uncommitted.state(repository.root)["commit"] is None
    assert "dubious ownership" in git_dvc.problem(repository.root)


@pytest.mark.parametrize("kind", ["detached", "worktree", "shallow", "subfolder", "submodule"])
def test_every_kind_of_checkout_gives_the_source_back(repository, tmp_path, kind):
    where = repository
    if kind == "detached":
        repository.git("checkout", "-q", "--detach")
    elif kind == "worktree":
        repository.git("worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
        where = Repository.__new__(Repository)
        where.root, where.worktrees = tmp_path / "tree", 1
    elif kind == "shallow":
        repository.write("README", b"second\n")
        repository.commit()
        repository.git("clone", "-q", "--depth=1", f"file://{repository.root}", str(tmp_path / "s"))
        where = Repository.__new__(Repository)
        where.root = tmp_path / "s"
    elif kind == "subfolder":
        for name in ("src", "README"):
            (repository.root / "in").mkdir(exist_ok=True)
            (repository.root / name).rename(repository.root / "in" / name)
        repository.commit()
        where = Repository.__new__(Repository)
        where.root = repository.root / "in"
    else:
        inner = Repository(tmp_path / "inner")
        repository.git(
            "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner.root),
            "src/inner",
        )  # fmt: skip
        repository.commit()
        repository.write("src/inner/src/changed.py", b"in the submodule\n")
    where.edit()
    where.given_back(tmp_path / "run")


def test_files_that_git_was_told_to_overlook_are_given_back(repository, tmp_path):
    repository.git("update-index", "--assume-unchanged", "src/same.py")
    repository.git("update-index", "--skip-worktree", "src/image.py")
    repository.write(".gitignore", b"ignored.py\n")
    repository.write("src/ignored.py", b"IGNORED = 1\n")
    repository.edit()
    repository.write("src/same.py", b"not the same\n")
    repository.given_back(tmp_path / "run")
    assert (tmp_path / "run/uncommitted/untracked/src/same.py").is_file()


def test_a_patch_that_git_does_not_apply_is_refused_when_it_is_kept(repository, tmp_path):
    with pytest.raises(Refusal) as refused:
        git_dvc.differing_after(repository.root, {}, b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ x")
    assert refused.value.what.startswith("what is not committed could not be kept")
    assert "commit the changes of src/ and conf/" in refused.value.fix
    assert repository.git("status", "--porcelain") == ""


def test_a_repository_that_cannot_be_written_gives_its_source_back(repository, tmp_path):
    repository.edit()
    before = {p: p.stat().st_mtime_ns for p in (repository.root / ".git").rglob("*")}
    repository.given_back(tmp_path / "run")
    assert {p: p.stat().st_mtime_ns for p in (repository.root / ".git").rglob("*")} == before


@pytest.mark.parametrize(
    "commit", ["--output=/tmp/x", "HEAD", "main", "-h", "", "1" * 39, "1" * 41, "HEAD~1", "A" * 40]
)
def test_what_is_no_whole_commit_is_no_commit_and_no_flag(repository, commit):
    assert not git_dvc.has_commit(repository.root, commit)
    with pytest.raises(Refusal), git_dvc.checked_out(repository.root, commit):
        pass
    if commit != "HEAD":
        assert git_dvc.committed(repository.root, commit, "README") is None


def test_every_call_of_git_and_dvc_stands_in_one_file():
    for path in (Path(__file__).parent.parent / "src").rglob("*.py"):
        text = path.read_text()
        if path.name != "git_dvc.py":
            assert '["git",' not in text, path
            assert '"-m", "dvc"' not in text, path


def test_what_dvc_keeps_for_itself_is_no_untracked_file(repository):
    repository.write(".dvc/tmp/btime", b"1")
    repository.write("loose.txt", b"1")
    told = uncommitted.state(repository.root)["untracked"]
    assert "loose.txt" in told
    assert not [name for name in told if name.startswith(".dvc/")]

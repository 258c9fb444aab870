"""No secret reaches what is kept of a run: every form, in every place people keep theirs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from planted import SECRETS, core
from test_git_settings import Repository

from saigen.errors import Refusal, refuse_secrets
from saigen.runs import uncommitted
from saigen.runs.store import FOLDER, keep
from saigen.secret_scan import named_like_a_key, redact, redact_value, scan, scan_bytes

ROOT = Path(__file__).parent.parent
AROUND = ('{}', 'x = 1\ntoken_of_mine: "{}"  # comment\n', "  - {}\n", 'f("{}", 3)\n')  # fmt: skip


@pytest.mark.parametrize("form", SECRETS)
@pytest.mark.parametrize("around", AROUND)
def test_every_form_is_found_wherever_it_stands_in_a_text(form, around):
    text = around.replace("{}", SECRETS[form])
    (found, *_) = scan(text)
    assert found.line == (2 if text.startswith("x = 1") else 1)
    assert core(SECRETS[form]) not in redact(text)
    assert "<left out: " in redact(text)
    assert redact(redact(text)) == redact(text)
    assert scan_bytes(text.encode())
    assert scan_bytes(text.encode("utf-16"))


@pytest.mark.parametrize(
    "text",
    [
        "sha256 90eb1a63de5e" + "90eb1a63" * 8,
        "c551c3caedbd903ba828e7fdffa5b56d475a15e7",
        "torch.nn.modules.batchnorm.BatchNorm2d(num_features=128)",
        "def test_resumed_run_equals_uninterrupted_bit_for_bit_2(self): ...",
        'password = os.environ["PASSWORD"]',
        "password: str = Field(description='how to log in')",
        "https://user:${PASSWORD}@host/x and https://user:{password}@host and //a:<p>@h",
        "PASSWORD=$PASSWORD API_KEY=${API_KEY} TOKEN=<yours> SECRET=changeme",
        "pad_token: '<pad>'\nmax_tokens: 128\ntokenizer_key: words",
        "see https://docs.google.com/document/d/1HSuTTVvYH1pTew89Rtpeu84Ht3nQEFTYhAX3Ypa_xJs/edit",
        "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
        "path/to/Some_Module2/with_Many/parts_In_It10/ResNet50V2.py",
        "integrity sha256=" + SECRETS["base64"],
        f"salt = '{SECRETS['base64']}'  # not a secret",
        "nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04@sha256:" + "14d94b03" * 8,
    ],
)
def test_what_is_no_secret_is_left_alone(text):
    assert scan(text) == []
    assert redact(text) == text


def test_nothing_in_this_repository_looks_like_a_secret():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("a copy without git")
    command = [sys.executable, str(ROOT / "src/saigen/secret_scan.py")]
    done = subprocess.run(command, cwd=ROOT, input=listed.stdout, capture_output=True, check=False)
    assert done.stdout.decode() == ""
    assert done.returncode == 0


@pytest.mark.parametrize(
    "name",
    [".env", ".env.local", "prod.env", "conf/a/.env.prod", "x/kaggle.json", "id_rsa", "id_ed25519",
     "id_ed25519.pub", "src/deep/server.pem", "a.key", "a.p12", "credentials", "credentials.json",
     ".netrc", ".npmrc", ".pypirc", "service-account-7.json", "src/.aws/config", ".ssh/known_hosts",
     "secrets.yaml", "my_secret.json", ".git-credentials", "pip.conf", ".dvc/config.local",
     "wandb_api_key.txt", "deploy_key", "kaggle (1).json", ".env~", "ssh_host_rsa_key",
     ".huggingface/token", "a-firebase-adminsdk-b.json", "prod.tfvars.json"],
)  # fmt: skip
def test_a_file_named_like_a_key_is_known_by_its_name(name):
    assert named_like_a_key(name)


@pytest.mark.parametrize(
    "name", ["src/keys.py", "src/saigen/secret_scan.py", "conf/keys.yaml", ".env.example", "a.py",
             "src/project/tokens.py", "data/environment.csv", "tokenizer.json",
             "data/key_points.json"],
)  # fmt: skip
def test_a_file_of_another_name_is_not(name):
    assert not named_like_a_key(name)


def test_a_value_is_redacted_with_its_key_and_its_digests_stay():
    value = {
        "arguments": ["train", f"x={SECRETS['github']}", "optimizer.lr=0.1"],
        "db": {"password": "".join(("sword", "fish")), "user": "x"},
        "sha256": "90eb1a63" * 8,
        "count": 3,
        "none": None,
        SECRETS["aws"]: "as a key",
    }
    clean, found = redact_value(value)
    text = json.dumps(clean)
    for secret in ("swordfish", SECRETS["github"], SECRETS["aws"]):
        assert secret not in text
    assert clean["sha256"] == value["sha256"]
    assert found[:2] == ["arguments.1 (GitHub token)", "db.password (password or key)"]
    assert redact_value(clean) == (clean, [])


@pytest.mark.parametrize("form", [form for form in SECRETS if form != "env"])
def test_a_value_that_would_be_written_is_refused_by_key(form):
    with pytest.raises(Refusal) as refused:
        refuse_secrets({"model": {"name": SECRETS[form]}}, lambda key: f"{key} (f:3)", "the config")
    assert refused.value.where == "model.name (f:3)"
    assert core(SECRETS[form]) not in str(refused.value)
    assert "environment variable" in refused.value.fix


def test_a_refusal_says_no_secret_whatever_it_was_given():
    for secret in SECRETS.values():
        told = str(Refusal("x", where="a", expected="b", got=f"pip said {secret}", fix="c"))
        assert core(secret) not in told


@pytest.mark.parametrize("form", ["github", "env", "url"])
def test_a_command_line_that_cannot_be_taken_is_said_without_its_secrets(project, form):
    secret = SECRETS[form]
    for arguments in (
        ("train", f"--key={secret}"),
        (secret,),
        ("show", "last", secret),
        ("train", "-m", f"x=[{secret}"),
        ("train", "-m", f"randomness.seed={secret}", "debug=two_steps"),
        ("compose", "--explain"),
    ):
        told = project.refused(*arguments)
        assert core(secret) not in told
    assert "this is no command line of saigen" in told
    assert "expected: saigen compose [-h]" in told
    assert "fix:      `saigen compose --help` says what it may be" in told


def test_what_hydra_says_of_a_sweep_reaches_the_terminal_as_text(project):
    done = project.run(sys.executable, "-m", "saigen", "train", "-m", "debug=two_steps",
                       "+x='a\x1b]0;b'")  # fmt: skip
    assert done.returncode == 1
    assert "[HYDRA]" in done.stdout
    assert "\\u001b]0;b" in done.stdout
    for text in (done.stdout, done.stderr):
        assert "\x1b" not in text
        assert "Traceback" not in text
    assert "refused: x holds a control character" in done.stderr
    assert "failed: a job of the sweep ended with exit code 2" in done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "project")


def everything(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "\n".join([str(p) + p.read_bytes().decode(errors="replace") for p in files])


@pytest.mark.parametrize("form", SECRETS)
def test_a_secret_in_any_uncommitted_file_is_kept_nowhere(repository, tmp_path, form):
    secret, run = SECRETS[form], tmp_path / "runs/run"
    run.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.write_text(f"# {secret}\n")
    places = {
        "src/new.py": f"# {secret}\n", "src/changed.py": f"one\n# {secret}\nthree\n",
        "src/note.ipynb": json.dumps({"cells": [{"source": [f"{secret}\n"]}]}),
        "conf/x.yaml": f"a: 1\n# {secret}\n", "conf/local/mine.yaml": secret, ".env": secret,
        "README": secret, "notes.txt": secret, "src/kaggle.json": secret, "src/id_ed25519": "x",
        "src/data.bin": f"\0\xff{secret}", "pyproject.toml": f"# {secret}", "x.dvc": f"# {secret}",
    }  # fmt: skip
    for name, text in places.items():
        repository.write(name, text.encode("latin-1"))
    (repository.root / "src/out.py").symlink_to(outside)
    (repository.root / "src/good.py").write_text("GOOD = 1\n")
    code = repository.code()
    state = uncommitted.keep(repository.root, run, uncommitted.state(repository.root), code)
    keep(run.parent, repository.root, code)
    (run / "record.json").write_text(json.dumps(state))
    assert core(secret) not in everything(tmp_path / "runs")
    assert (run / "uncommitted/untracked/src/good.py").is_file()
    assert (run.parent / FOLDER / code["src/good.py"]).is_file()
    for name in ("src/new.py", "src/changed.py", "conf/x.yaml"):
        assert state["left_out"][name].startswith(
            f"line {places[name][: places[name].index(secret)].count(chr(10)) + 1} ("
        )
    assert state["left_out"]["src/id_ed25519"] == "named like a key"
    assert state["left_out"]["src/out.py"] == "a link out of the project"
    assert state["changed"].keys() == {"README", "src/changed.py"}
    line = uncommitted.left_out_line(state)
    assert line.startswith("note: not kept with this run: ")
    assert line.count("\n") == 0


def test_a_secret_that_a_change_removes_is_not_kept_either(repository, tmp_path):
    repository.write("src/changed.py", f"one\n# {SECRETS['github']}\n".encode())
    repository.write("src/image.py", f"\0 {SECRETS['github']}".encode())
    repository.commit()
    repository.write("src/changed.py", b"one\n")
    repository.write("src/image.py", b"\0 nothing")
    run = tmp_path / "run"
    run.mkdir()
    state = repository.keep(run)
    assert state["left_out"]["src/changed.py"] == "a removed line (GitHub token)"
    assert SECRETS["github"] not in everything(run)


def test_what_no_run_reads_is_named_with_its_digest_and_not_kept(repository, tmp_path):
    repository.write("README", b"changed\n")
    repository.write("notes/todo.txt", b"mine\n")
    repository.write("tests/test_x.py", b"mine\n")
    run = tmp_path / "run"
    run.mkdir()
    state = repository.keep(run)
    assert state["changed"].keys() == {"README"}
    assert state["untracked"].keys() == {"notes/todo.txt", "tests/test_x.py"}
    assert not (run / "uncommitted").exists()
    assert uncommitted.left_out_line(state) == ""


def test_links_are_kept_as_links_and_never_followed(repository, tmp_path):
    (repository.root / "src/in").symlink_to("same.py")
    (repository.root / "src/up").symlink_to("../../outside")
    (repository.root / "src/folder").symlink_to("/etc")
    run = tmp_path / "run"
    run.mkdir()
    state = repository.keep(run)
    assert state["links"] == {"src/in": "same.py"}
    assert state["left_out"].keys() == {"src/up", "src/folder"}
    assert not (run / "uncommitted").exists()


def test_nobody_may_read_of_a_kept_file_what_he_might_not_read_before(repository, tmp_path):
    run = tmp_path / "runs/run"
    run.mkdir(parents=True)
    repository.write("src/own.py", b"OWN = 1\n")
    repository.write("src/changed.py", b"own\n")
    for name in ("src/own.py", "src/changed.py"):
        (repository.root / name).chmod(0o600)
    repository.keep(run)
    keep(run.parent, repository.root, repository.code())
    for name in ("untracked/src/own.py", "code.patch"):
        assert (run / "uncommitted" / name).stat().st_mode & 0o777 == 0o600
    digest = repository.code()["src/own.py"]
    assert (run.parent / FOLDER / digest).stat().st_mode & 0o777 == 0o600


def test_the_mode_of_a_kept_file_is_never_wider_for_a_moment(tmp_path, monkeypatch):
    from saigen import files

    seen = []
    real = os.fsync
    monkeypatch.setattr(
        files.os,
        "fsync",
        lambda handle: (seen.append(os.fstat(handle).st_mode & 0o777), real(handle)),
    )
    files.write_whole(tmp_path / "x", b"x", mode=0o600)
    assert seen[0] == 0o600

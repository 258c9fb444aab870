"""The one reader, the one printer, and the question whose code runs: what each refuses."""

import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load

from saigen import documents
from saigen.arrays import load_npy
from saigen.config.allowlist import resolve
from saigen.config.compose import compose, read_composed
from saigen.data.rows import read_rows
from saigen.digest import digest_bytes
from saigen.errors import Refusal
from saigen.printing import bare, visible_output
from saigen.runs.model_folder import open_model
from saigen.yaml_text import UnreadableYaml, refuse_bomb

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "more than 10000 values, aliases followed"),
        ("a: &a [*a]\n", "*a stands inside itself"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested more than 24 deep"),
        ("1: x\n", "the key '1', which YAML reads as a number: put it in quotes"),
        ("on: x\n", "the key 'on', which YAML reads as a bool: put it in quotes"),
        ("1e3: x\n", "the key '1e3', which YAML reads as a number: put it in quotes"),
        ("? [a]\n: x\n", "a key that is an alias, a list or a mapping"),
        ('a: "x\\0y"\n', "the control character U+0000"),
        ("a: x\x00y\n", "the control character U+0000"),
        ("".join(f"k{n}: 1\n" for n in range(100_000)), "more than 10000 values"),
        (f"a: {'9' * 5000}\n", "a number of 5000 digits"),
        (f"a: 0x{'f' * 5000}\n", "a number of 5002 digits"),
        (f"a: 0b{'1' * 30000}\n", "a number of 30002 digits"),
        (f"a: 1{':59' * 3000}\n", "a number of 9001 digits"),
        (f"a: !!int '{'9' * 5000}'\n", "a number of 5000 digits"),
    ],
    ids=range(15),
)
def test_yaml_that_grows_or_has_no_text_for_a_key_is_refused_before_it_is_built(text, why):
    with pytest.raises(UnreadableYaml) as caught:
        refuse_bomb(text)
    assert why in str(caught.value)


def test_a_bomb_in_conf_is_one_refusal_with_its_line(project):
    (project.root / "conf/model/mlp.yaml").write_text(BOMB)
    with pytest.raises(Refusal, match="a config file cannot be read") as caught:
        compose((), project.root / "conf")
    assert caught.value.where == "conf/model/mlp.yaml:5"


CHAIN = "".join(f"k{n}: ${{model.k{n + 1}}}${{model.k{n + 1}}}\n" for n in range(40)) + "k40: x\n"
FOLDERS = "".join(f"k{n}: {{a: '${{..k{n + 1}}}', b: '${{model.k{n + 1}}}'}}\n" for n in range(40))
LIST = "".join(f"k{n}: ['${{model.k{n + 1}}}', '${{model[k{n + 1}]}}']\n" for n in range(40))


@pytest.mark.parametrize(
    "text", [CHAIN, FOLDERS + "k40: x\n", LIST + "k40: x\n", "a: b\nb: c\nc: ${.${.a}}\n"]
)
def test_references_that_multiply_are_one_refusal(project, text):
    (project.root / "conf/model/mlp.yaml").write_text(text)
    with pytest.raises(Refusal, match="stand for too much") as caught:
        compose((), project.root / "conf")
    assert caught.value.where.startswith("model.")
    assert "mlp.yaml:" in caught.value.where
    assert caught.value.fix.startswith("write the value")


@pytest.mark.parametrize("text", ["a: ${", "- 1\n", "x", "a: !!python/name:os.system\n", "\xff"])
def test_a_params_file_that_is_no_config_is_a_refusal(tmp_path, text):
    (tmp_path / "params.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(Refusal):
        read_composed(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("kind", "value"),
    [(documents.RelativePath, text) for text in ("../x", "/x", "a/../x", "a//b", ".", "a\\b",
      "C:/x", "a\nb", "a\0b", "", "x" * 2000, "a/.git/hooks/x", "\u202ex", f"{'x' * 300}/y")]
    + [(documents.GitCommit, text) for text in ("--output=x", "HEAD", "abc", "a" * 65, "abcdefg\n")]
    + [(documents.Sha256, text) for text in ("0" * 63, "../" + "0" * 61, "A" * 64)]
    + [(documents.RunId, text) for text in ("../x", "-x", ".x", "a/b", "", "a b", "x\n")]
    + [(documents.Number, number) for number in (float("inf"), float("nan"))],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_of_no_type(kind, value):
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value, strict=True)


def test_a_link_in_a_model_folder_is_refused_by_restore_and_predict(place_of_links):
    project, theirs = place_of_links
    secret = project.root.parent / "secret"
    secret.write_text("nobody's business")
    fitted = theirs / "model/fitted/mean.npy"
    fitted.unlink()
    fitted.symlink_to(secret)
    told = project.refused("restore", str(theirs), "--to", "out")
    assert "got:      a link, a pipe, a device or a folder" in told
    assert "model/fitted/mean.npy" in told
    assert not (project.root / "out").exists()
    assert "a link" in project.refused("predict", str(theirs / "model"), "data/digits.csv")


def test_only_a_link_into_the_cache_of_ones_own_project_is_taken_for_a_file(place_of_links):
    project, theirs = place_of_links
    subprocess.run(["git", "init", "-q", project.root], check=True)
    fitted = theirs / "model/fitted/mean.npy"
    content = fitted.read_bytes()
    for cache in (theirs.parent / "elsewhere", project.root / ".dvc/cache"):
        kept = cache / "files/md5/ab/cdef"
        kept.parent.mkdir(parents=True)
        kept.write_bytes(content)
        fitted.unlink()
        fitted.symlink_to(kept)
        argv = ("predict", str(theirs / "model"), "data/digits.csv", "--out", "out.csv")
        if cache.name == "elsewhere":
            assert "a link" in project.refused(*argv)
        else:
            project.saigen(*argv)
    kept.unlink()
    kept.symlink_to(theirs.parent / "elsewhere/files/md5/ab/cdef")  # and on, out of it
    assert "a link" in project.refused(*argv)


def test_a_pipe_in_place_of_a_document_is_not_waited_for(place_of_links):
    project, theirs = place_of_links
    (theirs / "record.json").unlink()
    os.mkfifo(theirs / "record.json")
    assert "no run has this name" in project.refused("show", str(theirs / "record.json"))
    (theirs / "record.json").unlink()
    for name in ("trace.bin", "predictions.csv"):
        (theirs / name).unlink()
        os.mkfifo(theirs / name)
    own = next((project.root / "runs").glob("*-1"))
    shutil.copyfile(own / "record.json", theirs / "record.json")
    assert project.run(sys.executable, "-m", "saigen", "diff", own.name, str(theirs)).returncode < 2


@pytest.fixture
def place_of_links(tmp_path, prepared_project):
    prepared_project.saigen("train", "debug=two_steps")
    run = next((prepared_project.root / "runs").glob("*-1"))
    shutil.copytree(run, tmp_path / "theirs")
    return prepared_project, tmp_path / "theirs"


def test_control_characters_are_printed_as_escapes_everywhere():
    output = io.StringIO()
    kept, sys.stdout = sys.stdout, output
    try:
        with visible_output():
            print("a\x1b]0;b\x07\tc\nd\x9b\u202e\ud800\x7f")
            print(json.dumps({"k": "\x9b\u202e"}, ensure_ascii=False))
            print("\x1b[1mours", file=bare(sys.stdout))
    finally:
        sys.stdout = kept
    first, second, third, *rest = output.getvalue().split("\n")
    assert first == "a\\u001b]0;b\\u0007\tc"
    assert second == "d\\u009b\\u202e\\ud800\\u007f"
    assert json.loads(third) == {"k": "\x9b\u202e"}
    assert rest[0] == "\x1b[1mours"


def test_code_of_somebody_else_runs_only_if_that_was_agreed_to(place_of_links):
    project, theirs = place_of_links
    record = json.loads((theirs / "record.json").read_text())
    record["recipe"]["layers"]["code"]["files"]["src/project/task.py"] = "0" * 64
    (theirs / "record.json").write_text(json.dumps(record))
    own = next((project.root / "runs").glob("*-1")).name
    told = project.refused("diff", "--deep", own, str(theirs))
    assert "the record brings code of somebody else" in told
    assert "1 parts of it not as here (src/project/task.py)" in told
    assert "saigen diff --trust" in told
    trusted = project.refused("diff", "--deep", "--trust", own, str(theirs))
    assert "somebody else" not in trusted


def test_a_program_of_the_project_is_nothing_that_a_config_may_call():
    with pytest.raises(Refusal, match="is a program that a person starts"):
        resolve("project.sums.take", ("project",), "task._target_")


@pytest.mark.parametrize(
    ("content", "what", "where"),
    [
        (b"id,n\na,1_0\n", "a row holds something else", ":2, the column n"),
        ("id,n\na,\u0661\n".encode(), "a row holds something else", ":2, the column n"),
        (b"id,n\na,9223372036854775808\n", "a row holds something else", ":2, the column n"),
        (b"id,n\na,17\n", "a row holds something else", ":2, the column n"),
        (b"id,n,n\na,1,2\n", "a column stands twice", ":1"),
        (b"id,n\na,1,2\n", "a row is too long or too short", ":2"),
        (b"id,n\na\n", "a row is too long or too short", ":2"),
        (b"id,n\na,\xff\n", "the file is not text", ":2"),
        (b"id,n\na,1\0\n", "the file is not text", ":2"),
        (b"id,n\n" + b"x" * 200_000 + b",1\n", "a row is no CSV", ":2"),
        (b"id,n\n", "the file has no rows", ":1"),
        (b"id\na\n", "the file is not in the snapshot's format", ":1"),
    ],
    ids=range(12),
)
def test_a_row_that_cannot_be_taken_is_named_by_file_line_and_column(
    tmp_path, content, what, where
):
    (tmp_path / "some.csv").write_bytes(content)
    with pytest.raises(Refusal, match=what) as caught:
        read_rows(tmp_path / "some.csv", ["id", "n"]).whole_numbers(["n"], 0, 16)
    assert caught.value.where == f"{tmp_path}/some.csv{where}"


def test_the_mark_that_spreadsheets_begin_a_file_with_is_not_part_of_its_first_column(tmp_path):
    (tmp_path / "some.csv").write_bytes(b"\xef\xbb\xbfid,n\na,1\n")
    assert read_rows(tmp_path / "some.csv", ["id", "n"]).column("id") == ["a"]


@pytest.mark.parametrize("new", ["", "a\u2028b", "a\u0085b", "a\x1cb", '"a\nb"', "x" * 600])
def test_an_id_that_is_no_visible_line_is_refused_before_anything_is_written(project, new):
    path = project.root / "data/digits.csv"
    content = path.read_text().replace("digit-0001,", f"{new},", 1).encode()
    path.write_bytes(content)
    told = json.loads((project.root / "data/provenance.json").read_text())
    told["sha256"] = digest_bytes(content)
    (project.root / "data/provenance.json").write_text(json.dumps(told))
    assert "a record has no usable id" in project.refused("prepare")
    assert not (project.root / "prepared").exists()


@pytest.mark.parametrize("text", ["{}", "[]", '{"sha256": 3, "rows": 1}', '{"sha256": "', ""])
def test_a_provenance_that_is_none_is_refused(project, text):
    (project.root / "data/provenance.json").write_text(text)
    assert "this is not a readable provenance" in project.refused("data")
    assert "this is not a readable provenance" in project.refused("prepare")


def test_an_array_whose_header_asks_for_more_than_there_is_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(4))
    content = (tmp_path / "a.npy").read_bytes()
    for wrong in (content.replace(b"(4,)", b"(9,)"), content[:-1], content + b"0", b"", b"PK"):
        with pytest.raises(ValueError, match=r"."):
            load_npy(wrong)


def test_each_file_of_a_model_is_opened_once_and_what_was_checked_is_used(place_of_links):
    """What changes in a folder after it was checked reaches neither a model nor a copy."""
    folder = place_of_links[1] / "model"
    opened, watching = [], True
    sys.addaudithook(
        lambda event, values: (
            opened.append(str(values[0]))
            if watching and event == "open" and str(values[0]).startswith(str(folder))
            else None
        )
    )
    model = open_model(folder)
    watching = False
    before = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert sorted(opened) == sorted(str(folder / name) for name in before)
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"another's")
    copy = folder.parent / "copy"
    model.copy_into(copy)
    assert {name: (copy / name).read_bytes() for name in before} == before
    assert model.weights().keys() == load(before["weights.safetensors"]).keys()


def test_a_model_that_no_memory_holds_is_refused_before_it_is_read(place_of_links):
    project, theirs = place_of_links
    os.truncate(theirs / "model/weights.safetensors", 8 << 40)  # sparse
    told = project.refused("predict", str(theirs / "model"), "data/digits.csv")
    assert "a file of the model cannot be read" in told
    assert "weights.safetensors" in told
    assert "at most half of this machine's memory" in told
    assert "a file of the model cannot be read" in project.refused(
        "restore", str(theirs), "--to", "out"
    )

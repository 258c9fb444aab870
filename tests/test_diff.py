"""A diff says where two runs part, in words, and answers at once."""

import hashlib
import json
import sys

import jsonschema
import numpy as np
import pytest
from conftest import ROOT, copy_project

from saigen.analysis.diff import diff
from saigen.analysis.diff_text import diff_html, diff_text
from saigen.analysis.run import Run, open_run
from saigen.analysis.schemas import DOCUMENTS, schema
from saigen.digest import digest_bytes
from saigen.runs.record import read_record
from saigen.training.trace_file import HEADER_BYTES, ROW, first_difference


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with two runs that differ in the learning rate, and an interrupted one."""
    project = copy_project(tmp_path_factory.mktemp("diff") / "project")
    project.saigen("prepare")
    project.saigen("train", "debug=two_steps")
    project.saigen("train", "debug=two_steps", "optimizer.lr=0.004", "tracking.checkpoints_kept=1")
    return project


@pytest.fixture
def found(made):
    return diff(open_run("last~1", made.root), open_run("last", made.root))


def test_the_verdict_names_the_key_its_values_and_the_first_step_that_differs(found):
    assert found.verdict.sentence == (
        "most likely config optimizer.lr (0.003 -> 0.004): weights move otherwise; the runs part "
        "at step 0, in the weights after the update (the gradients are equal)"
    )
    assert found.verdict.next == f"saigen diff --confirm {found.a.run} {found.b.run}"
    assert (found.trace.phase, found.trace.step) == ("weights", 0)


def test_a_circumstance_is_shown_as_what_cannot_change_anything(found):
    (kept,) = [d for d in found.differences if d.name == "tracking.checkpoints_kept"]
    assert (kept.kind, kept.a, kept.b) == ("cannot change anything", 2, 1)


def test_the_layers_come_in_the_order_in_which_one_looks(found):
    order = ["data", "config", "code", "environment", "randomness", "distribution"]
    assert list(found.layers) == order
    text = diff_text(found, colour=False)
    places = [text.index(f"\n{layer}") for layer in order]
    assert places == sorted(places)
    assert text.index("\noutcome") < text.index("\ntrace") < text.index("\nverdict")


def test_a_pipe_gets_no_colour_and_a_page_stands_alone(made, found):
    done = made.run(sys.executable, "-m", "saigen", "diff", "last~1", "last", "--html", "d.html")
    assert done.returncode == 1
    assert "\033" not in done.stdout
    assert "\033[31m" in diff_text(found, colour=True)
    page = (made.root / "d.html").read_text()
    assert page == diff_html(found).replace(str(made.root) + "/", "")
    assert "<script" not in page
    assert "optimizer.lr" in page


def test_a_run_and_itself_have_the_same_outcome_and_exit_0(made):
    done = made.run(sys.executable, "-m", "saigen", "diff", "last", "last")
    assert done.returncode == 0
    assert "the same recipe gave the same outcome" in done.stdout


def test_a_diff_answers_without_importing_torch(made):
    """Its import takes four times as long as the whole diff."""
    ask = "from saigen.cli import main; main(['diff', 'last~1', 'last'])"
    check = "import sys; assert 'numpy' in sys.modules; sys.exit('torch' in sys.modules)"
    done = made.run(sys.executable, "-c", f"{ask}; {check}")
    assert done.returncode == 0, done.stderr


def test_an_interrupted_run_cannot_be_compared(made, tmp_path):
    record = read_record(open_run("last", made.root).folder)
    record["outcome"]["digest"], record["complete"] = None, False
    (tmp_path / "record.json").write_text(json.dumps(record))
    told = made.refused("diff", "last", str(tmp_path / "record.json"))
    assert "a run without an outcome cannot be compared" in told


def test_other_evaluation_data_is_the_first_line(made):
    a, b = open_run("last~1", made.root), open_run("last", made.root)
    record = json.loads(json.dumps(b.record))
    record["recipe"]["layers"]["data"]["prepared"]["test/ids.txt"] = "0" * 64
    found = diff(a, Run(folder=b.folder, record=record, root=b.root))
    first = diff_text(found, colour=False).splitlines()[0]
    assert first.startswith("METRICS CANNOT BE COMPARED: other records were tested on")


def test_snapshots_without_a_common_record_are_told_apart(made):
    a = open_run("last", made.root)
    content = (made.root / "data/digits.csv").read_bytes().replace(b"digit-", b"other-")
    digest = hashlib.sha256(content).hexdigest()
    (made.root / "runs/.kept" / digest).write_bytes(content)
    record = json.loads(json.dumps(a.record))
    record["recipe"]["layers"]["data"]["snapshot"]["sha256"] = digest
    found = diff(a, Run(folder=a.folder, record=record, root=a.root))
    names = [d.name for d in found.differences if d.layer == "data"]
    assert names == [f"data/digits.csv: 1797 rows {word} in B" for word in ("missing", "new")]


def test_the_same_recipe_with_another_outcome_is_called_a_violation(made):
    a = open_run("last", made.root)
    record = json.loads(json.dumps(a.record))
    record["outcome"]["digest"] = record["outcome"]["weights"]["sha256"] = "0" * 64
    found = diff(a, Run(folder=a.folder, record=record, root=a.root))
    assert found.verdict.sentence == (
        "VIOLATION: nothing in the recipe differs, and no input that was observed, and yet all 2 "
        "steps are equal, and other "
        "weights were kept"
    )


def trace_of(rows: np.ndarray) -> np.ndarray:
    chain = b"\0" * 16
    for row in rows:
        chain = hashlib.blake2b(chain + row.tobytes()[: ROW.itemsize - 16], digest_size=16).digest()
        row["chain"] = chain
    return rows


def test_a_diff_over_100_000_steps_finds_the_step(made, tmp_path):
    steps, parted = 100_000, 77_777
    a, b = open_run("last~1", made.root), open_run("last", made.root)
    rows = np.zeros(steps, ROW)
    rows["step"], rows["loss"] = np.arange(steps), np.linspace(2, 0.1, steps)
    head = (a.folder / "trace.bin").read_bytes()[:HEADER_BYTES]
    for name, run in (("a", a), ("b", b)):
        (tmp_path / name).mkdir()
        if name == "b":
            rows["gradients"][parted:] += 1
        content = head + trace_of(rows.copy()).tobytes()
        (tmp_path / name / "trace.bin").write_bytes(content)
        run.record["outcome"]["trace"] = {"sha256": digest_bytes(content), "steps": steps}
        (tmp_path / name / "record.json").write_text(json.dumps(run.record))
    command = ("diff", "--json", str(tmp_path / "a"), str(tmp_path / "b"))
    done = made.run(sys.executable, "-m", "saigen", *command)
    trace = json.loads(done.stdout)["trace"]
    assert (trace["step"], trace["phase"]) == (parted, "gradients")


def test_the_first_difference_is_found_wherever_it_is():
    rows = trace_of(np.zeros(57, ROW))
    for place in range(57):
        other = rows.copy()
        other["loss"][place] = 1.0
        assert first_difference(rows, trace_of(other)) == place


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_published_schema_is_the_one_in_use(name):
    published = json.loads((ROOT / f"docs/schemas/{name}.json").read_text())
    assert published == schema(name), "python -m saigen.analysis.schemas writes them anew"
    jsonschema.Draft202012Validator.check_schema(published)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("diff-1", ("diff", "last~1", "last", "--json")),
        ("runs-1", ("runs", "--json")),
        ("audit-1", ("audit", "--json")),
        ("record-2", ("show", "last", "--json")),
        ("config-1", ("compose", "--json")),
        ("explain-1", ("compose", "--explain", "optimizer", "--json")),
        ("explain-1", ("compose", "--explain", "trainer.max_epochs", "--json")),
    ],
)
def test_what_a_verb_answers_fits_its_schema(name, command, made):
    done = made.run(sys.executable, "-m", "saigen", *command)
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema(name))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"more": 1}, schema(name))

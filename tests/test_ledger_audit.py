"""The ledger remembers, and the audit finds any byte that was altered."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import copy_project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saigen.digest import digest_bytes
from saigen.errors import Refusal
from saigen.runs import folders, ledger
from saigen.runs.audit import audit
from saigen.runs.listing import listing
from saigen.runs.record import read_record
from saigen.runs.summary import runs_table


def entry(run: str, outcome: str = "b" * 64, reproducibility: str = "exact") -> dict:
    layers = {"config": {"values": {"reproducibility": {"name": reproducibility}}}}
    recipe = {"digest": "a" * 64, "layers": layers}
    return {"run": run, "recipe": recipe, "outcome": {"digest": outcome}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project in which the same recipe was made twice."""
    project = copy_project(tmp_path_factory.mktemp("ledger") / "project")
    project.saigen("prepare")
    project.told = [project.saigen("train", "debug=two_steps") for _ in range(2)]
    return project


@pytest.fixture
def runs(made, tmp_path):
    shutil.copytree(made.root / "runs", tmp_path / "runs")
    return tmp_path / "runs"


def test_a_recipe_made_again_says_how_often_and_that_it_is_identical(made):
    assert "made for the first time" in made.told[0]
    assert "made again, identical (2nd time)" in made.told[1]


def test_counts_are_said_in_english():
    said = [ledger.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 103, 111)]
    assert said == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "13th",
        "21st",
        "22nd",
        "103rd",
        "111th",
    ]


def test_another_outcome_of_the_same_recipe_is_a_violation_that_names_the_earlier_run(tmp_path):
    ledger.append(tmp_path, entry("first-1"), "0" * 64, "finished")
    history = ledger.append(tmp_path, entry("first-2", outcome="c" * 64), "0" * 64, "finished")
    assert str(history) == "VIOLATION: the same recipe gave another outcome in first-1"


def test_other_bits_under_an_agreement_that_promises_none_are_no_violation(tmp_path):
    ledger.append(tmp_path, entry("first-1", reproducibility="statistical"), "0" * 64, "finished")
    again = entry("first-2", outcome="c" * 64, reproducibility="statistical")
    history = ledger.append(tmp_path, again, "0" * 64, "finished")
    assert not history.violated
    assert str(history) == (
        "made again, with other bits than first-1, as its reproducibility allows (2nd time)"
    )


def test_entering_the_same_run_twice_does_not_count_as_making_it_again(tmp_path):
    ledger.append(tmp_path, entry("first-1"), "0" * 64, "finished")
    history = ledger.append(tmp_path, entry("first-1"), "1" * 64, "claims")
    assert history.times == 1


def test_an_altered_ledger_is_refused_before_it_is_written_to(tmp_path):
    ledger.append(tmp_path, entry("first-1"), "0" * 64, "finished")
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"first-1", b"first-7"))
    with pytest.raises(Refusal) as caught:
        ledger.append(tmp_path, entry("second-1"), "0" * 64, "finished")
    assert str(caught.value).startswith(
        f"refused: the ledger was altered\n  where:    {path}:1\n"
        "  expected: the line as it was written, chained to the one before\n"
    )
    assert "fix:      `saigen audit --repair` puts it aside" in str(caught.value)


@pytest.mark.parametrize("what", ["a pipe", "a folder", "a link", "the lock is a folder"])
def test_a_ledger_that_is_no_file_is_refused_before_training(tmp_path, what):
    path = tmp_path / ("runs/.lock" if "lock" in what else "runs/ledger.jsonl")
    path.parent.mkdir()
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    with pytest.raises((Refusal, IsADirectoryError)):
        ledger.refuse_unusable(tmp_path / "runs")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("what", ["no text", "a pipe", "a folder", "a link", "nothing"])
def test_whatever_stands_where_the_order_of_starts_is_noted_stops_nothing(runs, what):
    path = runs / ".starts"
    path.unlink(missing_ok=True)
    if what == "no text":
        path.write_bytes(b"\xff\xfe\x00")
    elif what == "a pipe":
        os.mkfifo(path)
    elif what == "a folder":
        path.mkdir()
    elif what == "a link":
        path.symlink_to(runs / "elsewhere")
    folders.note_start(runs / "some-1")
    assert len(folders.all_runs(runs)) == 2
    assert not (runs / "elsewhere").exists()


def test_untouched_runs_are_intact(runs):
    found = audit(runs)
    assert (found.verdict, found.lines, found.runs) == ("intact", 2, 2)
    assert found.files >= 20
    assert found.findings == []


def name_a_flipped_byte(runs, data):
    files = sorted(
        path
        for path in runs.rglob("*")
        if path.is_file() and path.stat().st_size and path.name != ".starts"  # an order, no record
    )
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = content[place] ^ data.draw(st.integers(1, 255))
    path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
    try:
        found = audit(runs)
    finally:
        path.write_bytes(content)
    assert found.verdict == "altered"
    assert any(finding.where.split(":")[0] == str(path) for finding in found.findings)


FLIPS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(data=st.data())
@settings(FLIPS, max_examples=30)
def test_any_single_altered_byte_is_named(runs, data):
    name_a_flipped_byte(runs, data)


@pytest.mark.slow
@given(data=st.data())
@settings(FLIPS, max_examples=1000)
def test_any_single_altered_byte_is_named_a_thousand_times(runs, data):
    name_a_flipped_byte(runs, data)


def test_the_layer_that_was_altered_inside_a_record_is_named(runs):
    path = next(runs.glob("*-1/record.json"))
    record = json.loads(path.read_text())
    record["recipe"]["layers"]["environment"]["packages"]["numpy"] = "0.0.1"
    path.write_text(json.dumps(record, sort_keys=True, indent=2, ensure_ascii=False) + "\n")
    assert "recipe.layers.environment" in audit(runs).findings[0].what


def test_a_missing_file_and_a_missing_ledger_line_are_named(runs):
    weights = next(runs.glob("*-1/model/weights.safetensors"))
    weights.unlink()
    path = runs / "ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))
    found = {finding.where: finding.what for finding in audit(runs).findings}
    assert found[str(weights)] == "missing"
    assert "the ledger has no line for it" in found[str(next(runs.glob("*-2/record.json")))]


def test_a_deleted_run_is_a_note_and_not_an_alteration(runs):
    shutil.rmtree(next(runs.glob("*-2")))
    found = audit(runs)
    assert found.verdict == "intact"
    assert "its folder is not here" in found.notes[0]


def test_audit_exits_1_and_names_the_file(made):
    path = next((made.root / "runs").glob("*-1/config.yaml"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"digits", b"digitz", 1))
    done = made.run("python", "-m", "saigen", "audit", "--json")
    path.write_bytes(content)
    assert done.returncode == 1
    assert json.loads(done.stdout)["findings"][0]["where"].endswith("config.yaml")


def test_runs_are_filtered_by_config_key_and_sorted_by_metric(made):
    rows = listing(made.root / "runs", ["optimizer.lr=0.003", "trainer.max_steps=2"]).runs
    assert len(rows) == 2
    assert listing(made.root / "runs", ["optimizer.lr=0.3"]).runs == []
    assert listing(made.root / "runs", ["state=complete"], sort="-accuracy").runs
    newest_first = listing(made.root / "runs", sort="-started_at").runs
    assert [row.run[-1] for row in newest_first] == ["2", "1"]
    assert "made again, identical (2nd time)" in runs_table(rows)


HOLD = """
import sys
from pathlib import Path
from saigen.runs.folders import claim
with claim(sys.argv[1], Path("runs")) as folder:
    print(folder.name, flush=True)
    sys.stdin.read()
"""


def test_a_run_is_running_while_a_process_holds_it_and_interrupted_after(runs):
    record = read_record(next(runs.glob("*-1"))) | {"complete": False}
    command = [sys.executable, "-c", HOLD, "f" * 64]
    with subprocess.Popen(
        command, cwd=runs.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        name = holder.stdout.readline().strip()
        record["run"] = name
        (runs / name / "record.json").write_text(json.dumps(record))
        states = {row.run: row.state for row in listing(runs).runs}
        assert states[name] == "running"
        holder.stdin.close()
    assert {row.run: row.state for row in listing(runs).runs}[name] == "interrupted"
    assert sorted(states.values()) == ["complete", "complete", "running"]


def test_an_unknown_key_of_runs_is_refused(made):
    with pytest.raises(Refusal, match="runs have no such key") as caught:
        listing(made.root / "runs", ["optimiser.lr=1"])
    assert caught.value.got == "optimiser.lr"


def test_a_record_of_another_schema_is_refused(runs, tmp_path):
    record = read_record(next(runs.glob("*-1"))) | {"schema": 99}
    (tmp_path / "record.json").write_text(json.dumps(record))
    with pytest.raises(Refusal, match="not a readable record") as caught:
        read_record(tmp_path)
    assert caught.value.expected == "a record of schema 2"
    assert caught.value.got == "schema: Input should be 2"


def test_the_ledger_holds_the_digest_of_each_record(runs):
    for line in ledger.entries(runs):
        assert digest_bytes((runs / line["run"] / "record.json").read_bytes()) == line["record"]

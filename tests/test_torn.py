"""Torn and damaged files: what nobody was told of is cut, one bad file stops nothing but itself."""

import json
import shutil
from pathlib import Path

import pytest
from lab import SHORT, Attempt
from test_ledger_audit import entry

from saigen.digest import digest_bytes
from saigen.errors import Refusal
from saigen.files import json_bytes
from saigen.publishing import publish_results
from saigen.runs import ledger
from saigen.runs.audit import audit
from saigen.runs.folders import readable
from saigen.runs.listing import listing
from saigen.runs.summary import runs_table
from saigen.training.history import History

TWO_STEPS = ("debug=two_steps",)


@pytest.fixture(scope="module")
def twice(lab):
    """A project in which a recipe was made twice."""
    for _ in range(2):
        lab.train(TWO_STEPS)
    return lab


@pytest.fixture
def runs(twice, tmp_path):
    """The runs of that project, in a folder of their own."""
    shutil.copytree(twice.project.root / "runs", tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def again(twice):
    """That project, and its runs afterwards as they were."""
    folder = twice.project.root / "runs"
    shutil.copytree(folder, folder.with_name("kept_runs"))
    yield twice
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name("kept_runs").rename(folder)


def verb(lab, *arguments: str) -> Attempt:
    lab.count += 1
    log = lab.project.root / f"log-{lab.count}"
    environment = {"SAIGEN_STARTED_AGAIN": "1"}
    return Attempt({lab.zygote.start(list(arguments), lab.project.root, environment, log): log})


def done(lab, *arguments: str) -> tuple[int, str]:
    attempt = verb(lab, *arguments)
    return attempt.codes()[0], attempt.log()


def test_a_last_line_torn_at_any_byte_is_cut_with_a_word_and_everything_goes_on(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger.append(tmp_path, entry("first-1"), "0" * 64, "finished")
    first = path.read_bytes()
    ledger.append(tmp_path, entry("first-2"), "0" * 64, "finished")
    last = path.read_bytes()[len(first) :]
    tails = [last[:kept] for kept in range(1, len(last) - 1, 9)] + [
        b"\0" * 300,
        last[:9] + b"\0" * 99,
    ]
    for tail in tails:
        path.write_bytes(first + tail)
        assert [line["run"] for line in ledger.entries(tmp_path)] == ["first-1"]
        assert "torn while it was written" in audit(tmp_path).notes[0]
        history = ledger.append(tmp_path, entry("first-3"), "0" * 64, "finished")
        assert history.times == 2
        assert history.cut.startswith(f"{path}: cut off a line that was torn")
        assert path.read_bytes().startswith(first)
        assert [line["run"] for line in ledger.entries(tmp_path)] == ["first-1", "first-3"]


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger.append(tmp_path, entry("first-1"), "0" * 64, "finished")
    path.write_bytes(path.read_bytes()[:-1])
    assert ledger.append(tmp_path, entry("first-2"), "0" * 64, "finished").cut == ""
    assert [line["run"] for line in ledger.entries(tmp_path)] == ["first-1", "first-2"]


@pytest.mark.parametrize("byte", [b" ", b"\r", b"}", b"\0"])
def test_a_last_line_whose_end_was_altered_is_not_taken_for_a_torn_one(tmp_path, byte):
    path = tmp_path / "ledger.jsonl"
    ledger.append(tmp_path, entry("first-1"), "0" * 64, "finished")
    path.write_bytes(path.read_bytes()[:-1] + byte)
    assert audit(tmp_path).verdict == "altered"
    with pytest.raises(Refusal, match="the ledger was altered"):
        ledger.entries(tmp_path)


def damage(path: Path) -> bytes:
    """Alter the first line of a ledger; returns what stands there then."""
    path.write_bytes(path.read_bytes().replace(b'"finished"', b'"FINISHED"', 1))
    return path.read_bytes()


def test_a_damaged_ledger_stops_only_what_needs_its_chain(again):
    root = again.project.root
    damage(root / "runs/ledger.jsonl")
    for arguments in (("runs",), ("show", "last"), ("diff", "last~1", "last")):
        code, told = done(again, *arguments)
        assert code == 0, told
    assert "the ledger was altered: `saigen audit`" in done(again, "runs")[1]
    code, told = done(again, "train", *TWO_STEPS)
    assert code == 2
    assert "the ledger was altered" in told
    assert "step 1/" not in told  # said before anything is trained


def test_a_damaged_ledger_is_repaired_by_the_command_that_the_refusal_names(again):
    root = again.project.root
    path = root / "runs/ledger.jsonl"
    damaged = damage(path)
    assert "`saigen audit --repair`" in done(again, "train", *TWO_STEPS)[1]
    code, told = done(again, "audit", "--repair")
    assert code == 0, told
    assert "1 lines kept, 1 runs entered again; what stood there is in runs/ledger-" in told
    (aside,) = (root / "runs").glob("ledger-*.altered")
    assert aside.read_bytes() == damaged
    found = audit(root / "runs")
    assert found.verdict == "intact"
    assert any(f"repaired; what stood there is in {aside.name}" in note for note in found.notes)
    assert {line["run"] for line in ledger.entries(root / "runs")} == {
        folder.name for folder, _ in readable(root / "runs")
    }
    assert "made again, identical (3rd time)" in done(again, "train", *TWO_STEPS)[1]


def test_a_ledger_that_is_gone_is_made_from_the_runs_and_a_whole_one_stays_as_it_is(runs):
    path = runs / "ledger.jsonl"
    before = path.read_bytes()
    assert ledger.repair(runs) == "nothing to repair: the ledger is whole"
    assert path.read_bytes() == before
    path.unlink()
    assert audit(runs).verdict == "altered"
    assert "0 lines kept, 2 runs entered again" in ledger.repair(runs)
    assert audit(runs).verdict == "intact"
    first, *_ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first)
    assert "1 lines kept, 1 runs entered again" in ledger.repair(runs)
    assert path.read_bytes().startswith(first)
    assert audit(runs).verdict == "intact"


def test_a_repair_vouches_for_no_record_that_was_altered_beside_a_line_that_is_whole(runs):
    record = next(runs.glob("*-2/record.json"))
    record.write_bytes(record.read_bytes().replace(b'"complete": true', b'"complete":  true'))
    damage(runs / "ledger.jsonl")
    ledger.repair(runs)
    assert [finding.where for finding in audit(runs).findings] == [str(record)]


TORN = [b"", b"{", b"[]", b"null", b'{"schema": 2}', b"\xff\xfe", b"\0" * 4096]


@pytest.mark.parametrize("content", TORN, ids=range(len(TORN)))
def test_one_unreadable_record_is_one_line_of_the_list_and_stops_nothing_else(runs, content):
    bad = next(runs.glob("*-1"))
    good = bad.with_name(bad.name[:-1] + "2")
    (bad / "record.json").write_bytes(content)
    rows = listing(runs).runs
    assert [(row.run, row.state) for row in rows] == [
        (bad.name, "unreadable"),
        (good.name, "complete"),
    ]
    assert f"{bad.name}" in runs_table(rows)
    assert "unreadable" in runs_table(rows)
    assert [folder.name for folder, _ in readable(runs)] == [good.name]
    found = {finding.where: finding.what for finding in audit(runs).findings}
    assert list(found) == [str(bad / "record.json")]
    assert "cannot be read" in found[str(bad / "record.json")]


def test_a_torn_record_does_not_block_its_recipe_nor_other_runs(again):
    runs = again.project.root / "runs"
    bad = next(runs.glob("*-2"))
    (bad / "record.json").write_bytes(b'{"schema"')
    code, told = done(again, "train", *TWO_STEPS)
    assert code == 0, told
    assert f"{bad.name}/record.json cannot be read" in told
    assert "taking the next number" in told
    assert (bad / "record.json").read_bytes() == b'{"schema"'  # left as it is
    for arguments in (("show", "last"), ("diff", "last~1", "last"), ("evaluate", "last")):
        code, told = done(again, *arguments)
        assert code == 0, told
    code, told = done(again, "compare", "last", "last")
    assert "cannot be read" not in told
    assert "Traceback" not in told


def test_a_learning_curve_is_whole_at_every_moment_of_a_resume(tmp_path):
    rows = ["step,epoch,learning_rate,loss,validation_accuracy\n"]
    rows += [f"{step},0,0.1,0.5,\n" for step in (1, 5, 9)]
    (tmp_path / "history.csv").write_text("".join(rows) + "12,0,0.")
    expected = digest_bytes("".join(rows[:3]).encode())
    history = History(tmp_path, monitor="accuracy", components=[], resumed_at=5, expected=expected)
    assert (tmp_path / "history.csv").read_text() == "".join(rows[:3])  # before anything is flushed
    history.add(6, 0, 0.1, 0.25, metric=None, components=[])
    history.close()
    assert (tmp_path / "history.csv").read_text() == "".join(rows[:3]) + "6,0,0.1,0.25,\n"


def test_two_evaluations_of_one_run_at_once_leave_it_intact(again):
    runs = again.project.root / "runs"
    for folder, record in readable(runs):
        record["complete"] = False
        record["outcome"] |= {"digest": None, "metrics": None, "predictions": None}
        (folder / "record.json").write_text(json.dumps(record))
    attempts = [verb(again, "evaluate", "last") for _ in range(4)]
    assert [attempt.codes() for attempt in attempts] == [[0]] * 4
    told = [attempt.log() for attempt in attempts]
    assert sum("measured again" in text for text in told) == 3, told
    assert verb(again, "evaluate", "last~1").codes() == [0]
    assert audit(runs).verdict == "intact"


def test_a_run_that_is_being_trained_is_not_evaluated_beside_it(again):
    long = (*SHORT, "trainer.max_steps=100000", "trainer.max_epochs=100000")
    attempt = again.start(long)
    try:
        while not again.steps():
            assert not attempt.ended, attempt.log()
        code, told = done(again, "evaluate", "last")
        assert code == 2
        assert "the run is being trained" in told
        assert "fix:      wait for that process" in told
    finally:
        attempt.kill()


@pytest.fixture
def published(runs):
    folder = next(runs.glob("*-2"))
    publish_results(folder, runs.parent)
    return runs.parent / "results"


def test_what_was_published_is_not_called_altered_because_its_run_is_gone(runs, published):
    assert audit(runs).verdict == "intact"
    shutil.rmtree(runs)
    found = audit(runs)
    assert found.verdict == "intact"
    assert "nothing vouches for it" in found.notes[-1]


@pytest.mark.parametrize("name", ["predictions.csv", "trace.bin", "record.json"])
def test_what_was_published_is_altered_where_it_is_altered_also_without_its_run(
    runs, published, name
):
    shutil.rmtree(runs)
    content = (published / name).read_bytes()
    place = content.index(b'"seeds"') + 20 if name == "record.json" else len(content) // 2
    (published / name).write_bytes(content[:place] + b"\x07" + content[place + 1 :])
    assert [finding.where for finding in audit(runs).findings] == [str(published / name)]


def test_publishing_changes_the_folder_at_once_and_keeps_what_verify_wrote(runs, published):
    layers = readable(runs)[0][1]["recipe"]["layers"]
    proof = {"layers": {name: layer["digest"] for name, layer in layers.items()}}
    proof["config"] = layers["config"]["values"]
    (published / "verify.json").write_text(json.dumps(proof))
    inode = published.stat().st_ino
    publish_results(next(runs.glob("*-1")), runs.parent)
    assert published.stat().st_ino != inode
    assert json.loads((published / "verify.json").read_text()) == proof
    assert json.loads((published / "record.json").read_text())["run"].endswith("-1")
    assert audit(runs).verdict == "intact"


def test_a_record_whose_entering_was_interrupted_is_put_in_place_by_the_audit(runs):
    """A process was killed when the ledger had its line and the record did not yet stand there."""
    folder, record = readable(runs)[-1]
    before = (folder / "record.json").read_bytes()
    record["metadata"]["finished_at"] = record["metadata"]["started_at"]
    content = json_bytes(record)
    ready = folder / ".record.entered"
    ready.write_bytes(content)
    ledger.append(runs, record, digest_bytes(content), "claims")
    assert audit(runs).verdict == "intact"
    assert (folder / "record.json").read_bytes() == content != before
    ready.write_bytes(before)  # never entered: the kill came before the ledger's line
    assert audit(runs).verdict == "intact"
    assert (folder / "record.json").read_bytes() == content
    assert not ready.exists()

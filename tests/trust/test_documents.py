"""What strangers hand us: a document that was altered in any field, or as a whole, ends every verb
in an answer or in a refusal, in bounded time and memory, and nothing around it is touched.
"""

import hashlib
import json

import pytest
import yaml
from conftest import copy_project

from trust.alterations import altered, broken
from trust.place import make

SAMPLE = 300  # one alteration of so many is tried in `make test`, a third in `make test-full`
PARTS = 6  # of the whole, so that several processes share it; all of them in `make test-faults`


@pytest.fixture(scope="module")
def place(tmp_path_factory, _prepared_once):
    return make(tmp_path_factory.mktemp("trust") / "base", copy_project, _prepared_once)


def quick_and_whole(function):
    """The test for a sample, and as slow ones for all, in parts."""
    parts = [pytest.param(SAMPLE, 3, id="sample")]
    parts += [
        pytest.param(PARTS, first, id=f"part{first}", marks=getattr(pytest.mark, suite))
        for first, suite in enumerate(("slow", "slow", *["faults"] * (PARTS - 2)))
    ]
    return pytest.mark.parametrize(("every", "first"), parts)(function)


def tried(path, cases, verbs):
    """The faults that altered documents bring out; the document is put back."""
    whole, found = path.read_bytes(), []
    try:
        for number, (title, content) in enumerate(cases):
            path.write_bytes(content)
            for fault in verbs(number):
                found.append(f"{path.name}, {title}: {fault}")
    finally:
        path.write_bytes(whole)
    return found


def told(found):
    return f"{len(found)} faults\n" + "\n\n".join(found[:12])


def of_record(place):
    """What is done with a record of somebody else: always compared, and one thing by turns."""
    mine, theirs = next((place.mine.root / "runs").glob("*-1")).name, str(place.run)
    turns = (
        (["show", theirs], None, ""),
        (["restore", theirs, "--to", "out"], None, "mine/out"),
        (["show", theirs, "--json"], None, ""),
        (["rerun", theirs], None, ""),
        (["runs"], place.theirs.root, ""),
        (["compare", mine, theirs], None, ""),
        (["audit"], place.theirs.root, ""),
        (["diff", "--deep", theirs, mine], None, ""),
        (["runs", "--json", "--sort", "started_at"], place.theirs.root, ""),
        (["evaluate", theirs], None, ""),
        (["diff", "--json", theirs, mine], None, ""),
    )

    def verbs(number):
        yield from place.faults(["diff", mine, theirs])
        argv, cwd, writes = turns[number % len(turns)]
        yield from place.faults(argv, cwd=cwd, writes=writes)

    return verbs


@quick_and_whole
def test_a_record_that_was_altered_is_an_answer_or_a_refusal(place, every, first):
    path = place.run / "record.json"
    cases = altered(json.loads(path.read_bytes()), every=every, first=first)
    found = tried(path, cases, of_record(place))
    assert not found, told(found)


@pytest.mark.parametrize("name", ["sample", pytest.param("all", marks=pytest.mark.slow)])
def test_a_record_that_is_none_is_refused(place, name):
    path = place.run / "record.json"
    cases = list(broken(path.read_bytes()))
    found = tried(path, cases[::5] if name == "sample" else cases, of_record(place))
    assert not found, told(found)


def resealed(folder, name, content):
    """A manifest that vouches for another content of one of its files."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    return json.dumps(manifest).encode()


@quick_and_whole
def test_a_model_folder_that_was_altered_predicts_or_is_refused(place, every, first):
    folder, found = place.run / "model", []

    def verbs(number):
        yield from place.faults(["predict", str(folder), "data/few.csv"])

    rows = (place.mine.root / "data/digits.csv").read_text().splitlines()[:4]
    (place.mine.root / "data/few.csv").write_text("\n".join(rows) + "\n")
    manifest = folder / "manifest.json"
    kept = manifest.read_bytes()
    found += tried(manifest, altered(json.loads(kept), every=every, first=first), verbs)
    for name in ("config.json", "recipe.json"):
        path = folder / name
        whole = path.read_bytes()
        for title, content in altered(json.loads(whole), every=every * 2, first=first):
            path.write_bytes(content)
            manifest.write_bytes(resealed(folder, name, content))
            found += [f"{name}, {title}: {fault}" for fault in verbs(0)]
        path.write_bytes(whole)
        manifest.write_bytes(kept)
    assert not found, told(found)


@quick_and_whole
def test_prepared_data_that_was_altered_is_an_answer_or_a_refusal(place, every, first):
    path = place.mine.root / "prepared/manifest.json"
    cases = altered(json.loads(path.read_bytes()), every=every * 3, first=first)

    def verbs(number):
        yield from place.faults(["evaluate"], writes="mine/prepared")

    found = tried(path, cases, verbs)
    assert not found, told(found)


@quick_and_whole
def test_a_line_of_the_ledger_that_was_altered_is_an_answer_or_a_refusal(place, every, first):
    path = place.theirs.root / "runs/ledger.jsonl"
    cases = altered(json.loads(path.read_bytes()), every=max(1, every // 6), first=first)

    def verbs(number):
        for argv in (["runs"], ["audit"], ["show"])[number % 3 :][:1]:
            yield from place.faults(argv, cwd=place.theirs.root)

    found = tried(path, ((name, content + b"\n") for name, content in cases), verbs)
    assert not found, told(found)


@quick_and_whole
def test_a_provenance_that_was_altered_is_an_answer_or_a_refusal(place, every, first):
    path = place.mine.root / "data/provenance.json"
    cases = altered(json.loads(path.read_bytes()), every=every // 2, first=first)

    def verbs(number):
        yield from place.faults(["data"])

    found = tried(path, cases, verbs)
    assert not found, told(found)


@quick_and_whole
def test_a_params_file_that_was_altered_is_a_refusal(place, every, first):
    path = place.mine.root / "params.yaml"
    place.mine.saigen("compose", "--write")
    whole = path.read_bytes()
    values = yaml.safe_load(whole)
    cases = list(altered(values, every=every * 2, first=first))  # JSON is YAML
    cases += [(f"torn at {at}", whole[:at]) for at in range(first, len(whole), every * 100)]

    def verbs(number):
        argv = (["train", "--stage"], ["compose", "--stage"])[number % 2]
        yield from place.faults(argv, writes="mine/params.yaml")

    found = tried(path, cases, verbs)
    path.unlink()
    assert not found, told(found)

"""The fault bench, diff's side: what differs is found, in the right layer, by its right name."""

import json
import shutil

import pytest

from faults.changed import CHANGED, EDITED, apply
from faults.continued import KILLED_AT, VIOLATED
from saigen.digest import digest_tree, digest_value

SHORT = ("trainer.max_steps=40", "tracking.checkpoint_every_steps=10")
# Some of each kind are among the quick tests; `make test-faults` plants them all.
QUICK = {
    "a data file with one changed label",
    "another activation",
    "evaluation data edited",
    "a resume that repeats a batch",
}


def named(faults):
    return [
        pytest.param(f, id=f.name, marks=() if f.name in QUICK else pytest.mark.faults)
        for f in faults
    ]


@pytest.fixture(scope="module")
def baseline(zygote, _prepared_once, tmp_path_factory):
    """A project with run A, which all faults share."""
    from conftest import copy_project

    from faults.conftest import Forked

    root = tmp_path_factory.mktemp("baseline") / "project"
    copy_project(root)
    shutil.copytree(_prepared_once, root / "prepared")
    Forked(root, zygote).saigen("train", *SHORT)
    return root


@pytest.mark.parametrize("fault", named(CHANGED))
def test_diff_names_the_layer_and_the_cause(fault, baseline, forked, score):
    copy = forked(like=baseline)
    if fault.both:
        copy.saigen("train", *SHORT, *fault.both)
    apply(fault, copy)
    copy.saigen("prepare", *SHORT, *fault.overrides)
    copy.saigen("train", *SHORT, *fault.both, *fault.overrides)
    found = copy.diff()
    layer, _, name = found["verdict"]["suspects"][0].partition(" ")
    score(
        detected=not found["same_outcome"],
        layer=layer == fault.layer,
        name=fault.cause in name,
        told=found["verdict"],
    )
    if fault.place:
        assert found["trace"]["phase"] == fault.place
    assert fault.says in copy.verb("diff", "last~1", "last")[1]


@pytest.mark.parametrize("fault", [pytest.param(f, id=f.name) for f in EDITED])
def test_diff_names_what_differs_between_two_machines(fault, baseline, forked, score):
    """The other machine is not at hand: its record is run A's with another environment."""
    copy = forked(like=baseline)
    folder = next((copy.root / "runs").glob("*-1"))
    other = folder.with_name("ffffffffffff-1")
    shutil.copytree(folder, other)
    record = json.loads((other / "record.json").read_text())
    layers = record["recipe"]["layers"]
    layer = place = layers["environment"]
    for key in fault.key[:-1]:
        place = place[key]
    assert place.get(fault.key[-1]) != fault.value, "this machine has it: plant another value"
    place[fault.key[-1]] = fault.value
    layer["digest"] = digest_value({k: v for k, v in layer.items() if k != "digest"})
    record["recipe"]["digest"] = digest_tree({n: entry["digest"] for n, entry in layers.items()})
    record["run"] = other.name
    record["outcome"]["weights"]["sha256"] = record["outcome"]["digest"] = "e" * 64
    (other / "record.json").write_text(json.dumps(record))
    found = copy.diff(str(folder), str(other))
    layer, _, name = found["verdict"]["suspects"][0].partition(" ")
    score(
        detected=not found["same_outcome"],
        layer=layer == "environment",
        name=name == fault.cause,
        told=found["verdict"],
    )


@pytest.mark.parametrize("fault", named(VIOLATED))
def test_diff_names_the_circumstance_that_mattered(fault, forked, score):
    copy = forked()
    for patch in fault.patches:
        copy.patch(*patch)
    train = ["train", *SHORT, "trainer.microbatches=2", *fault.overrides]
    copy.saigen(*train)
    if fault.killed:
        assert copy.verb(plan={"kill_at": [KILLED_AT], "verbs": [train]})[0] == -9
    code, said = copy.verb(*train, *(() if fault.killed else ("hardware.processes=2",)))
    assert "VIOLATION: the same recipe gave another outcome in" in said
    assert code == 1
    found = copy.diff()
    score(
        detected=found["verdict"]["sentence"].startswith("VIOLATION"),
        layer=found["trace"]["phase"] == fault.place,
        name=found["verdict"]["suspects"] == [fault.suspect],
        told=found["verdict"],
    )
    assert found["verdict"]["next"] == f"saigen verify --only {fault.claim}"
    assert found["verdict"]["sentence"] in said
    if fault.place != "selection":
        continued = [d["b"] for d in found["differences"] if d["name"] == "continued at step"]
        assert [found["trace"]["step"]] == (continued or [0])


SCATTER = (
    "        import os\n"
    "        order = torch.tensor(sorted(range(len(inputs)), key=lambda _: os.urandom(4)))\n"
    "        middle = torch.zeros_like(inputs[:1]).index_add(0, 0 * order, inputs[order])\n"
    "        scores: torch.Tensor = self.layers(inputs - middle)\n"
)


@pytest.mark.faults
def test_diff_names_the_line_of_a_scatter_that_adds_in_an_order_of_its_own(forked, score):
    """A kernel that is not deterministic, played by one whose order comes from the system."""
    copy = forked()
    copy.patch(
        "src/project/models/mlp.py", "        scores: torch.Tensor = self.layers(inputs)\n", SCATTER
    )
    copy.saigen("train", *SHORT)
    assert copy.verb("train", *SHORT)[0] == 1
    code, said = copy.verb("diff", "--deep", "--json", "last~1", "last")
    assert code == 1, said
    found = json.loads(said)
    assert found["verdict"]["next"].startswith("saigen diff --deep")
    file, _, number = (found["deep"]["line"] or ":0").partition(":")
    line = (copy.root / file).read_text().splitlines()[int(number) - 1]
    score(
        detected=found["verdict"]["sentence"].startswith("VIOLATION"),
        layer=found["trace"]["phase"] in ("forward", "gradients"),  # as chance has it
        name=line in SCATTER,
        told=found["deep"],
    )

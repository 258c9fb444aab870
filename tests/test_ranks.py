"""What a launcher says is what the recipe names; what cannot be is refused before any training."""

import functools
import json
import sys

import pytest
from lab import SHORT

from saigen.config.compose import compose as composed_anew
from saigen.errors import Refusal
from saigen.training.ranks import as_launched

compose = functools.cache(composed_anew)

GOOD = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "a",
    "MASTER_PORT": "29500",
}
SHARED = ("trainer.microbatches=8",)


@pytest.fixture
def told(monkeypatch):
    """Sets the variables of a launcher; None: not there."""

    def told(**changed: str | None) -> None:
        for name, value in (GOOD | changed).items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    return told


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("value", [None, "", "-1", "1.0", "two", "١", "1_0", " 1", "99999999999"])
def test_a_variable_that_is_missing_or_no_number_is_refused_by_name(told, name, value):
    if name == "MASTER_ADDR" and value:
        return  # a host may have any name
    told(**{name: value})
    with pytest.raises(Refusal) as refused:
        as_launched(compose(SHARED))
    assert f"the launcher's {name} cannot be" in str(refused.value)
    assert "`unset RANK WORLD_SIZE LOCAL_RANK` to train in one process" in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "name", "expected"),
    [
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE", "at least 1"),
        ({"RANK": "2"}, "RANK", "0 to WORLD_SIZE - 1 = 1"),
        ({"RANK": "0", "LOCAL_RANK": "2"}, "LOCAL_RANK", "0 to WORLD_SIZE - 1 = 1"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT", "1 to 65535"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT", "1 to 65535"),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_range(told, changed, name, expected):
    told(**changed)
    with pytest.raises(Refusal) as refused:
        as_launched(compose(SHARED))
    assert f"where:    {name} (environment)" in str(refused.value)
    assert f"expected: {expected}" in str(refused.value)


def test_one_of_one_needs_no_address(told):
    told(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR=None, MASTER_PORT=None)
    assert as_launched(compose(())).config.hardware.processes == 1


def test_more_processes_than_microbatches_are_refused_by_whoever_starts_them(told):
    told()
    with pytest.raises(Refusal, match="more processes than microbatches to share") as refused:
        as_launched(compose(()))
    assert "hardware.processes (WORLD_SIZE)" in str(refused.value)
    told(**dict.fromkeys(GOOD))
    with pytest.raises(Refusal, match="more processes than microbatches to share"):
        as_launched(compose(("hardware.processes=2",)))


def test_another_number_than_the_config_asks_for_is_refused(told):
    told()
    with pytest.raises(Refusal) as refused:
        as_launched(compose((*SHARED, "hardware.processes=4")))
    assert "expected: hardware.processes=2, as WORLD_SIZE, or 1" in str(refused.value)
    assert "torchrun --nproc-per-node 4" in str(refused.value)


def test_values_and_config_name_the_processes_that_run(told):
    told()
    found = as_launched(compose(SHARED))
    assert found.config.hardware.processes == 2
    assert found.values["hardware"]["processes"] == 2


def test_half_a_launcher_trains_nothing(prepared_project):
    command = (sys.executable, "-m", "saigen", "train", "debug=two_steps")
    done = prepared_project.run(*command, env={"RANK": "0"})
    assert done.returncode == 2, done.stderr
    assert "the launcher's" in done.stderr
    assert not (prepared_project.root / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("reproducibility", ["exact", "statistical"])
def test_under_torchrun_the_record_names_two_processes(prepared_project, reproducibility):
    project = prepared_project
    overrides = (*SHORT, f"reproducibility={reproducibility}", "trainer.max_steps=3")
    launcher = ("python", "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    done = project.run(*launcher, "-m", "saigen", "train", *overrides)
    assert done.returncode == 0, done.stderr
    record = json.loads(project.saigen("show", "--json"))
    counted = record["recipe"]["layers"]["distribution"]["processes"]
    assert counted == ("any" if reproducibility == "exact" else 2)
    assert record["metadata"]["config"]["hardware.processes"] == 2
    assert record["metadata"]["training"]["processes"] == 2
    # the same recipe as our own launcher's
    project.saigen("train", *overrides, "hardware.processes=2")
    digests = {run["recipe"] for run in json.loads(project.saigen("runs", "--json"))["runs"]}
    assert digests == {record["recipe"]["digest"]}

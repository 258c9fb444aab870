"""The canary names the operations that move, and none moves where none may."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from processor import COMMON, needs

from saigen.environment.numerics_probe import moved, sing

SONG = """
import json, sys, torch
torch.set_num_threads(int(sys.argv[1]))
from saigen.environment.numerics_probe import sing
from saigen.environment.optimizer_step import leave_the_compiler_out
leave_the_compiler_out()
cpu = torch.backends.cpu.get_cpu_capability()
switches = {"instruction_set": cpu, "intra_op_threads": torch.get_num_threads()}
print(json.dumps({"switches": switches, "canary": sing("cpu", portable=False)}))
"""
CHOICES = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA")


def song(threads: int, **variables: str) -> dict:
    """The part of an environment layer that another process has."""
    plain = {k: v for k, v in os.environ.items() if k not in CHOICES}
    done = subprocess.run(
        (sys.executable, "-c", SONG, str(threads)),
        env={**plain, "PYTHONPATH": str(ROOT / "src"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def here():
    return song(1, ATEN_CPU_CAPABILITY=COMMON)


def test_two_processes_have_the_same_canary(here):
    assert song(1, ATEN_CPU_CAPABILITY=COMMON) == here
    assert moved(here, here) == ""


@needs("avx2")
def test_another_instruction_set_moves_operations_that_are_named(here):
    words = moved(here, song(1, ATEN_CPU_CAPABILITY="default"))
    names, _, cause = words.partition(": ")
    assert cause == "instruction set without AVX instead of AVX2"
    for name in ("softmax", "layer norm", "sigmoid", "AdamW step", "normal draws"):
        assert name in names
    for name in ("permutation", "uniform draws", "sort with ties", "division"):
        assert name not in names


@needs("avx512")
def test_avx512_moves_softmax(here):
    words = moved(song(1, ATEN_CPU_CAPABILITY="avx512"), here)
    assert words == (
        "softmax, log softmax, cross entropy and softmax backward: "
        "instruction set AVX2 instead of AVX-512"
    )


def test_another_number_of_threads_moves_operations_that_are_named(here):
    words = moved(here, song(2, ATEN_CPU_CAPABILITY=COMMON))
    assert "sum" in words.partition(":")[0]
    assert words.endswith(": 2 threads instead of 1")


def test_idle_threads_are_told_to_sleep_soon():
    """libgomp's threads spin for what they wait for; what that costs: `bench/canary.py`."""
    from saigen.config.compose import compose
    from saigen.environment.torch_flags import environment_of

    config = compose(("hardware.intra_op_threads=2",), ROOT / "conf").config
    assert environment_of(config)["GOMP_SPINCOUNT"] == "1000"


def test_the_canary_repeats_touches_no_stream_and_leaves_the_square_root_to_exact():
    import torch

    state = torch.random.get_rng_state()
    switches = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    first = sing("cpu", portable=False)
    assert sing("cpu", portable=False) == first
    assert len(first["operations"]) >= 60
    without_the_hole = sing("cpu", portable=True)["operations"]
    assert "square root" not in without_the_hole
    assert without_the_hole.items() < first["operations"].items()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert switches == (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
    )


def test_without_a_recorded_cause_the_words_say_so():
    a, b = ({"canary": {"operations": {"exp": x, "log": "1"}}} for x in "12")
    assert moved(a, b).startswith("exp: nothing that is recorded differs; the processor itself")


def test_an_operation_that_only_one_canary_knows_is_no_evidence():
    a, b = ({"canary": {"operations": {name: "1"}}} for name in ("exp", "exp of 8"))
    assert moved(a, b) == ""


@needs("avx2")
@pytest.mark.slow
def test_the_diff_says_which_operations_moved_and_that_the_config_is_the_cause(prepared_project):
    from saigen.analysis.diff import diff
    from saigen.analysis.run import open_run

    prepared_project.saigen("train", "debug=two_steps")
    prepared_project.saigen("train", "debug=two_steps", "reproducibility.instruction_set=default")
    runs = [open_run(name, prepared_project.root) for name in ("last~1", "last")]
    found = diff(*runs)
    canary = [d for d in found.differences if d.layer == "environment" and d.name == "canary"]
    (said,) = canary
    assert "softmax" in said.details[0]
    assert "instruction set without AVX instead of" in said.details[0]
    assert said.follows == "config reproducibility.instruction_set"
    assert not said.counts

"""Under `reproducibility=portable` the processor's own choices move no bit; what it cannot hold is
refused by name. Processors of other makers are a matter of the system suite.
"""

import json
import os
import re
import subprocess
import sys

import pytest
from conf_project import ROOT, Conf
from processor import CAPABILITIES, needs


@pytest.fixture
def conf(tmp_path):
    return Conf(tmp_path)


def test_adamw_that_is_not_fused_is_refused_by_name(conf):
    conf.replace("optimizer/adamw.yaml", "fused: true", "fused: false")
    refusal = conf.refusal("reproducibility=portable")
    assert "AdamW takes float32 square roots" in refusal.what
    assert "optimizer.fused" in refusal.where
    assert "optimizer.fused=true" in refusal.fix
    assert conf.compose().config.optimizer.arguments["fused"] is False  # exact takes it


def test_other_instruction_sets_than_the_measured_ones_are_refused(conf):
    refusal = conf.refusal("reproducibility=portable", "reproducibility.mkl_branch=AVX2")
    assert "do not give the same bits on every processor" in refusal.what
    assert "reproducibility.mkl_branch" in refusal.where
    assert refusal.got == "avx2, AVX2, AVX2"


def test_a_gpu_is_refused(conf):
    refusal = conf.refusal("reproducibility=portable", "hardware=cuda")
    assert "hardware.device" in refusal.where


def test_fused_adamw_and_sgd_are_taken(conf):
    for optimizer in ("adamw", "sgd"):
        config = conf.compose("reproducibility=portable", f"optimizer={optimizer}").config
        assert config.reproducibility.name == "portable"


FIRST_THEN_SET = """
import os, sys, torch
from saigen.config.compose import compose
from saigen.environment import torch_flags as settings
config = compose(("reproducibility=portable",)).config
wanted = {n: v for n, v in settings.environment_of(config).items() if v}
os.environ.update((n, v) for n, v in wanted.items() if n != sys.argv[1])
torch.ones(64, 64) @ torch.ones(64, 64)
torch.nn.functional.conv2d(torch.ones(4, 8, 12, 12), torch.ones(8, 8, 3, 3))
os.environ.update(wanted)
settings.apply(config)
settings.refuse_unless_set(config, settings.read_back())
print("taken")
"""


@needs("avx2")
@pytest.mark.parametrize(
    ("variable", "where", "got"),
    [
        ("MKL_CBWR", "reproducibility.mkl_branch", "'native'"),
        pytest.param("ONEDNN_MAX_CPU_ISA", "reproducibility.onednn_instruction_set", "'AVX-512'",
                     marks=needs("avx512")),  # on another there is nothing to limit
        ("", "", ""),
    ],
)  # fmt: skip
def test_a_variable_that_is_set_after_the_first_operation_is_refused(variable, where, got):
    """MKL and oneDNN ignore it then, silently: what they really took is asked of themselves."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_THEN_SET, variable],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    if not variable:
        assert done.stdout == "taken\n", done.stderr
        return
    told = done.stderr.partition("Refusal: ")[2]
    assert "a switch was set and did not stay set" in told
    assert done.returncode == 1
    refusal = [line.split(":", 1)[1].strip() for line in told.splitlines()[1:]]
    assert refusal[0] == where
    assert refusal[2] == got


@pytest.mark.parametrize("branch", ["COMPATIBLE", "SSE4_2", "AVX2"])
def test_the_branch_that_mkl_says_is_the_one_it_prints(branch):
    code = (
        "import torch; a = torch.ones(8, 8); a @ a\n"
        "from saigen.environment.torch_branches import mkl_branch; print('said', mkl_branch())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "MKL_CBWR": branch, "MKL_VERBOSE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    printed = re.search(r"CNR:(\S+)", done.stdout)
    assert printed is not None
    assert f"said {printed[1]}" in done.stdout


@needs("avx2")
@pytest.mark.slow
def test_what_the_environment_asks_of_the_libraries_moves_no_bit(prepared_project):
    asked = (
        {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
        {
            "ATEN_CPU_CAPABILITY": CAPABILITIES[-1],
            "MKL_CBWR": "AVX512",
            "ONEDNN_MAX_CPU_ISA": "ALL",
        },
    )
    for model in ("mlp", "cnn"):
        for env in asked:
            prepared_project.saigen(
                "train", "reproducibility=portable", f"model={model}", "debug=two_steps", env=env
            )
    records = [
        json.loads(path.read_text()) for path in prepared_project.root.glob("runs/*/record.json")
    ]
    recipes = {record["recipe"]["digest"] for record in records}
    outcomes = {record["outcome"]["digest"] for record in records}
    assert (len(records), len(recipes), len(outcomes)) == (4, 2, 2)
    environment = records[0]["recipe"]["layers"]["environment"]
    assert environment["switches"]["mkl_branch"] == "COMPATIBLE"
    assert environment["switches"]["instruction_set"] == "AVX2"
    assert "cpu_vendor" not in environment

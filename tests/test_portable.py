"""Under the portable agreement the processor's own choices move no bit; what it cannot hold is
refused by name. Processors of other makers are a matter of the system suite.
"""

import json

import pytest
from conf_project import Conf


@pytest.fixture
def conf(tmp_path):
    return Conf(tmp_path)


def test_adamw_that_is_not_fused_is_refused_by_name(conf):
    conf.replace("optimizer/adamw.yaml", "fused: true", "fused: false")
    refusal = conf.refusal("agreement=portable")
    assert "AdamW takes float32 square roots" in refusal.what
    assert "optimizer.fused" in refusal.where
    assert "optimizer.fused=true" in refusal.fix
    assert conf.compose().config.optimizer.arguments["fused"] is False  # exact takes it


def test_other_instruction_sets_than_the_measured_ones_are_refused(conf):
    refusal = conf.refusal("agreement=portable", "agreement.mkl_branch=AVX2")
    assert "do not give the same bits on every processor" in refusal.what
    assert "agreement.mkl_branch" in refusal.where
    assert refusal.got == "avx2, AVX2, AVX2"


def test_a_gpu_is_refused(conf):
    refusal = conf.refusal("agreement=portable", "hardware=cuda")
    assert "hardware.device" in refusal.where


def test_fused_adamw_and_sgd_are_taken(conf):
    for optimizer in ("adamw", "sgd"):
        config = conf.compose("agreement=portable", f"optimizer={optimizer}").config
        assert config.agreement.name == "portable"


@pytest.mark.slow
def test_what_the_environment_asks_of_the_libraries_moves_no_bit(prepared_project):
    asked = (
        {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
        {"ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AVX512", "ONEDNN_MAX_CPU_ISA": "ALL"},
    )
    for model in ("mlp", "cnn"):
        for env in asked:
            prepared_project.saigen(
                "train", "agreement=portable", f"model={model}", "debug=two_steps", env=env
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

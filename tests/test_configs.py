"""Every config that is shipped works."""

from pathlib import Path

import pytest
from processor import needs

from saigen.config.compose import compose

ROOT = Path(__file__).parent.parent
GROUPS = (
    "data",
    "model",
    "optimizer",
    "scheduler",
    "trainer",
    "reproducibility",
    "experiment",
    "debug",
)
TEXT = "experiment=transformer_text"
WITHIN_TEXT = {"data=sums", "model=transformer"}  # alone they do not fit the digits
SHIPPED = sorted(
    {
        f"{path.parent.name}={path.stem}"
        for group in GROUPS
        for path in (ROOT / "conf" / group).glob("*.yaml")
    }
    - WITHIN_TEXT
)
NEEDS = {"reproducibility=portable": needs("avx2")}


@pytest.mark.parametrize("choice", [pytest.param(c, marks=NEEDS.get(c, ())) for c in SHIPPED])
def test_every_shipped_config_trains_two_steps(choice, prepared_project):
    if choice == TEXT:
        prepared_project.saigen("prepare", choice)
    overrides = tuple(dict.fromkeys((choice, "trainer.max_steps=2")))
    text = prepared_project.saigen("train", *overrides)
    assert "accuracy" in text


def test_the_cuda_config_composes_without_a_device():
    assert compose(("hardware=cuda",)).config.hardware.device == "cuda"


def test_cuda_is_refused_where_there_is_none(prepared_project):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    text = prepared_project.refused("train", "hardware=cuda", "debug=two_steps")
    assert "there is no CUDA device" in text
    assert "hardware=cpu" in text

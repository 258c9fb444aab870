"""The config of a GPU, where there is none. That the others train is for tests/project to say."""

import pytest

from saigen.config.compose import compose


def test_the_cuda_config_composes_without_a_device():
    assert compose(("hardware=cuda",)).config.hardware.device == "cuda"


def test_cuda_is_refused_where_there_is_none(prepared_project):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    text = prepared_project.refused("train", "hardware=cuda", "debug=two_steps")
    assert "there is no CUDA device" in text
    assert "hardware=cpu" in text

"""The statistical reproducibility: torch's own all-reduce, whatever order it adds in."""

import numpy as np
import pytest
from lab import SHORT
from safetensors.numpy import load_file

STATISTICAL = (*SHORT, "reproducibility=statistical", "trainer.keep_weights=last")


def weights(lab):
    record = lab.newest()
    return record, load_file(
        lab.project.root / "runs" / record["run"] / "model/weights.safetensors"
    )


@pytest.mark.slow
def test_processes_agree_nearly_and_are_another_recipe(lab):
    lab.train(STATISTICAL)
    alone, one = weights(lab)
    lab.train(STATISTICAL, processes=2)
    shared, other = weights(lab)
    for name in one:
        assert np.allclose(one[name], other[name], rtol=1e-3, atol=1e-4)
    distribution = [r["recipe"]["layers"]["distribution"]["processes"] for r in (alone, shared)]
    assert distribution == [1, 2]
    assert alone["recipe"]["digest"] != shared["recipe"]["digest"]

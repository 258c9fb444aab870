"""The same promises on one CUDA device. Skipped, and said so, where there is none."""

import json
import time

import pytest
import torch
from lab import SHORT

from saigen.recipe.canary import sing
from saigen.training.fingerprint import BLOCK, Fingerprint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="there is no CUDA device: not yet measured"
    ),
]
CUDA = (*SHORT, "hardware=cuda")
MODELS = {
    "mlp": (),
    "cnn": ("model=cnn",),
    "cnn_augmented": ("experiment=cnn_augmented",),
    "transformer": ("experiment=transformer_text",),
}


@pytest.fixture(scope="module")
def expected():
    """The outcome of each model without workers, uninterrupted; made once."""
    made: dict[str, str] = {}

    def of(lab, model: str) -> str:
        if model not in made:
            made[model] = lab.train((*CUDA, *MODELS[model]))["outcome"]["digest"]
        return made[model]

    return of


@pytest.mark.timeout(900)
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("model", MODELS)
def test_workers_and_kills_leave_no_mark(request, expected, model, workers, killed):
    lab = request.getfixturevalue("text_lab" if model == "transformer" else "lab")
    digest = expected(lab, model)
    overrides = (*CUDA, *MODELS[model])
    if killed:
        attempt = lab.start(overrides, workers=workers)
        time.sleep(4.0)  # a CUDA context takes seconds to make
        attempt.kill()
    assert lab.train(overrides, workers=workers)["outcome"]["digest"] == digest


def test_the_device_and_its_libraries_are_recorded(lab):
    record = lab.train(CUDA)
    environment = json.dumps(record["recipe"]["layers"]["environment"])
    assert torch.cuda.get_device_name(0) in environment
    assert record["recipe"]["layers"]["environment"]["canary"]["operations"]


def test_the_canary_sings_the_same_twice_and_fast():
    first = sing("cuda", portable=False)
    assert len(first["operations"]) > 60
    assert sing("cuda", portable=False) == first


@pytest.mark.parametrize("signs", [False, True])
def test_the_fingerprint_is_that_of_the_host(signs):
    tensor = torch.randn(2 * BLOCK + 32)
    here = Fingerprint([tensor], salt=5)
    there = Fingerprint([tensor.cuda()], salt=5)
    assert there.read(signs=signs) == here.read(signs=signs)

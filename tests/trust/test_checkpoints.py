"""A checkpoint that was altered, sealed anew or not, is skipped, refused or taken up."""

import json
import shutil
from contextlib import closing

import numpy as np
import pytest
import torch
from lab import SHORT

from saigen.config.compose import compose
from saigen.digest import digest_bytes, digest_value
from saigen.errors import Refusal
from saigen.streams import Streams
from saigen.training.build import build_model
from saigen.training.checkpoint import Checkpoints, refuse_unheld, taking_up
from saigen.training.codec import Decoder, Encoder
from saigen.training.kept import Kept
from saigen.training.optimizer import build_optimizer
from saigen.training.selection import Selection
from trust.alterations import altered, broken


class Resumed:
    """An interrupted run, and the state that its newest checkpoint is put into."""

    def __init__(self, lab) -> None:
        while True:
            attempt = lab.interrupt(SHORT, after=16, rank=0)
            record = lab.newest()
            if not record["complete"]:
                break
            assert attempt.codes() == [0]
        self.run = lab.project.root / "runs" / record["run"]
        self.recipe = record["recipe"]["digest"]
        self.said: list[str] = []
        for older in sorted(self.run.glob("checkpoints/step-*"))[:-1]:
            shutil.rmtree(older)
        (self.folder,) = self.run.glob("checkpoints/step-*")
        self.document, self.tensors = (
            self.folder / name for name in ("checkpoint.json", "state.safetensors")
        )
        config = compose(SHORT, lab.project.root / "conf").config
        model = build_model(config, Streams(config.randomness.streams))
        parts = {"model": model, "optimizer": build_optimizer(config.optimizer, model)}
        self.state = Kept(parts, config, Selection(config.trainer), world=1)

    def taken_up(self) -> str:
        """What came of it: taken up, or the words with which it was not."""
        self.said.clear()
        checkpoints = Checkpoints(self.run, self.recipe, kept=2, say=self.said.append)
        with closing(checkpoints):
            try:
                if found := checkpoints.newest():
                    with taking_up(found, self.run):
                        self.state.restore(found.tensors, found.values)
                    return "taken up"
            except Refusal as refusal:
                return str(refusal)
        (line,) = self.said
        return line


@pytest.fixture(scope="module")
def resumed(lab):
    return Resumed(lab)


def sealed(content: bytes) -> bytes:
    """A document with the digest of what it says now."""
    body = json.loads(content)
    if isinstance(body, dict) and body.pop("digest", None):
        body["digest"] = digest_value(body)
    return json.dumps(body).encode()


@pytest.mark.parametrize("every", [60, pytest.param(1, marks=pytest.mark.slow)])
def test_every_field_of_a_checkpoint_may_be_anything(resumed, every):
    whole = resumed.document.read_bytes()
    cases = list(altered(json.loads(whole), every=every, first=every // 2))
    assert len(cases) > 400 / every
    outcomes = []
    for title, content in cases:
        for text in (content, sealed(content)):
            resumed.document.write_bytes(text)
            try:
                outcomes.append(resumed.taken_up())
            except Exception as error:
                raise AssertionError(title) from error
    resumed.document.write_bytes(whole)
    assert resumed.taken_up() == "taken up"
    refused = [text for text in outcomes if text.startswith("refused")]
    for text in refused:
        other_parts = "other parts than the training loop keeps" in text
        fix = "or remove the run folder" if other_parts else f"fix:      remove {resumed.folder}"
        assert fix in text, text
    assert any("does not fit the run" in text for text in refused)
    assert any("is not whole" in text for text in outcomes)


def test_a_document_that_is_none_is_skipped_with_a_word(resumed):
    whole = resumed.document.read_bytes()
    for title, content in broken(whole):
        if title == "20 MiB":  # no more than a large model's
            continue
        resumed.document.write_bytes(content)
        assert "is not whole" in resumed.taken_up(), title
    resumed.document.write_bytes(whole)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\xff" * 64, (8).to_bytes(8, "little") + b"{} {} {}"]
)
def test_tensors_that_are_none_are_skipped_though_their_digest_fits(resumed, content):
    whole, tensors = resumed.document.read_bytes(), resumed.tensors.read_bytes()
    resumed.tensors.write_bytes(content)
    body = json.loads(whole) | {"tensors_sha256": digest_bytes(content)}
    resumed.document.write_bytes(sealed(json.dumps(body).encode()))
    assert "is not whole (state.safetensors: " in resumed.taken_up()
    resumed.document.write_bytes(whole)
    resumed.tensors.write_bytes(tensors)
    assert resumed.taken_up() == "taken up"


def test_what_a_state_may_hold_comes_back_through_a_document(tmp_path):
    value = {"seed": 2**127 + 1, "negative": -(2**64), "small": 3, "nested": {1: {2: [{}, ()]}}}
    value |= {"type": torch.float16, "place": torch.device("cpu"), "array": np.arange(3)}
    encoder = Encoder({})
    values = json.loads(json.dumps({"model": encoder.encode(value, "x")}))
    refuse_unheld(values)
    found = Decoder(encoder.tensors, {}, torch.device("cpu")).decode(values["model"])
    assert found.pop("array").tolist() == value.pop("array").tolist()
    assert found == value


@pytest.mark.parametrize("too_much", ["deep", "name"])
def test_what_no_checkpoint_could_be_read_with_is_refused_when_it_is_made(too_much):
    value: dict = {"\x1b": 1}
    if too_much == "deep":
        value = {}
        for _ in range(400):
            value = {"x": value}
    with pytest.raises(Refusal, match="more than a checkpoint can hold") as refused:
        refuse_unheld(value)
    assert refused.value.fix == "keep it in tensors, or flatter"

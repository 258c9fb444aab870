"""A loop that calls the run wrongly is refused, and a rule for parameter groups that cannot be."""

import shutil
from pathlib import Path

import pytest
import torch
from lab import SHORT

from saigen.errors import Refusal
from saigen.training.optimizer import Rates

BROKEN = Path(__file__).parent / "loops/broken.py"
NOTHING_KEPT = ("does not say what is kept", "call run.keep once")
UNENDED = ("a step ended before all its microbatches did", "do not leave that loop early")
LOOPS = {
    "nothing": (2, *NOTHING_KEPT, "where:    the end of the training loop"),
    "steps_first": (2, *NOTHING_KEPT, "where:    run.steps()"),
    "evaluate_first": (2, *NOTHING_KEPT, "where:    run.evaluate(...)"),
    "offer_first": (2, *NOTHING_KEPT, "where:    run.offer(...)"),
    "kept_twice": (2, "says twice what is kept", "join the calls into one"),
    "stateless": (2, "no telling what state", "where:    run.keep(counter=...)", "got:      list"),
    "without_optimizer": (2, "nothing that is kept is trained", "got:      no optimizer"),
    "stranger": (2, "moves weights that no kept module holds", "run.keep(optimizer=...)"),
    "another_model": (2, "does not build the model that is published", "run.build(config.model)"),
    "no_walk": (2, *UNENDED),
    "no_backward": (2, *UNENDED),
    "left_early": (2, *UNENDED),
    "backward_twice": (2, "called outside of a microbatch, or twice in one", "add the losses"),
    "untrained": (2, "called for modules that are not trained", "got:      Linear"),
    "ended_early": (1, "ended before its steps did", "got:      0", "walk over all of run.steps()"),
    "no_offer": (1, "offered no model", "offer the model that is to be published"),
}
RULE = "{{names: [{names}], modules: [{modules}], frozen: {frozen}, options: {{}}}}"
RULES = {
    "fits_nothing": (
        RULE.format(names="nobody.*", modules="", frozen="false"),
        ("fits no parameter", "optimizer.parameter_groups.0", "names ['nobody.*']"),
    ),
    "lacks_a_key": (
        "{names: ['*'], modules: [], frozen: false}",
        ("cannot be read", "optimizer.parameter_groups.0.options", "write all four"),
    ),
    "not_allowed": (
        RULE.format(names="", modules="os.system", frozen="false"),
        ("the project does not allow this module", "optimizer.parameter_groups"),
    ),
}


@pytest.fixture(scope="module")
def broken(lab):
    shutil.copyfile(BROKEN, lab.project.root / "src/project/broken.py")
    return lab


def told(lab, code: int, *overrides: str) -> str:
    attempt = lab.start((*SHORT, "trainer.keep_weights=last", *overrides))
    assert attempt.codes() == [code], attempt.log()
    assert "Traceback" not in attempt.log()
    return attempt.log()


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_that_calls_the_run_wrongly_is_refused(broken, name):
    code, *texts = LOOPS[name]
    log = told(broken, code, f"trainer.loop=project.broken.{name}")
    for text in texts:
        assert text in log


@pytest.mark.parametrize("name", RULES)
def test_a_rule_for_parameter_groups_that_cannot_be_is_refused(broken, name):
    rule, texts = RULES[name]
    log = told(broken, 2, f"+optimizer.parameter_groups=[{rule}]")
    for text in texts:
        assert text in log


def test_a_loop_that_is_not_there_is_refused_by_its_key(broken):
    log = told(broken, 2, "trainer.loop=project.broken.nobody")
    assert "trainer.loop" in log
    assert "has no 'nobody'" in log


def test_a_schedule_sets_every_key_that_it_names_in_every_group():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.5, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, weight_decay=0.2)
    rates = Rates(optimizer)
    for _ in range(2):  # from the first values, not from the last ones
        rates.set({"lr": 0.5, "weight_decay": 0.5, "betas": 0.5})
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert [group["betas"] for group in optimizer.param_groups] == [(0.45, 0.999)] * 2
    with pytest.raises(Refusal) as refusal:
        rates.set({"lr": 1.0, "momentum": 0.5})
    assert "the scheduler sets what the optimizer's groups do not have" in str(refusal.value)
    assert "scheduler: 'momentum'" in str(refusal.value)

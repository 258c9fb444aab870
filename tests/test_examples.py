"""Each example, laid over the template, gives one outcome; none needs a line of the instrument."""

import importlib.util
import shutil
import sys

import pytest
from conftest import ROOT

EXAMPLES = ROOT / "examples"
SHORT = (
    "trainer.max_steps=40", "tracking.checkpoint_every_steps=5", "tracking.trace_flush_steps=4",
    "tracking.history_every_steps=1", "trainer.eval_batch_size=64",
)  # fmt: skip
# of 32 samples, as many slices as there may be processes
CASES = {
    "char_gpt": ("trainer.microbatches=4",),
    "forward_forward": ("trainer.microbatches=4",),
    "siamese": ("trainer.microbatches=4",),
    "sine_waves": ("trainer.max_epochs=9", "trainer.max_steps=9", "trainer.eval_batch_size=8",
                   "tracking.checkpoint_every_steps=2", "tracking.trace_flush_steps=1"),
    "vae": ("trainer.microbatches=4",),
}  # fmt: skip
BARS = {  # what an example reaches as it is shipped
    "char_gpt": ("accuracy", 0.27, 1), "forward_forward": ("accuracy", 0.8, 1),
    "siamese": ("accuracy", 0.7, 1), "sine_waves": ("error", 0.05, 0), "vae": ("error", 0.6, 0),
}  # fmt: skip


@pytest.fixture
def place(lab, request):
    """The lab with an example over it; composing looks at signatures in this process."""
    example = EXAMPLES / request.node.callspec.params["name"]
    for folder in ("src", "conf", "data"):
        if (example / folder).is_dir():
            shutil.copytree(example / folder, lab.project.root / folder, dirs_exist_ok=True)
    names = []
    for path in (example / "src/project").glob("*.py"):
        names.append(f"project.{path.stem}")
        spec = importlib.util.spec_from_file_location(names[-1], path)
        sys.modules[names[-1]] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[names[-1]])
    yield lab
    for name in names:
        sys.modules.pop(name)


def test_each_example_is_tried():
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_an_example_is_small_and_says_what_it_is(name):
    kinds = ("src/**/*.py", "conf/**/*.yaml")
    files = [path for kind in kinds for path in (EXAMPLES / name).glob(kind)]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 200
    page = (EXAMPLES / name / "README.md").read_text()
    assert len(page.splitlines()) <= 25
    assert f"saigen train experiment={name}" in page


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_one_outcome_over_processes_workers_and_kills(place, name):
    overrides = (f"experiment={name}", *SHORT, *CASES[name])
    whole = place.train(overrides)
    assert not whole["metadata"]["training"]["draws_outside_streams"]
    least = 12 if name != "sine_waves" else 4
    steps = 0
    while not steps:  # else the kill came too late
        place.interrupt(overrides, after=least, rank=0, processes=2, workers=2)
        steps = place.steps()
    again = place.train(overrides, processes=3)
    assert again["metadata"]["training"]["steps"] < whole["outcome"]["trace"]["steps"]
    assert again["outcome"] == whole["outcome"]


@pytest.mark.slow
@pytest.mark.parametrize("name", BARS)
def test_an_example_learns(place, name):
    place.project.saigen("train", f"experiment={name}")
    metric, bar, more = BARS[name]
    found = place.newest()["outcome"]["metrics"][metric]
    assert found >= bar if more else found <= bar


@pytest.mark.slow
@pytest.mark.parametrize("name", ["char_gpt"])
def test_the_plain_loop_gives_the_same_losses(place, name):
    steps = ("trainer.max_epochs=2", "tracking.history_every_steps=1")
    place.project.saigen("train", f"experiment={name}", *steps)
    done = place.project.run(sys.executable, str(EXAMPLES / name / "plain.py"))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1e-5

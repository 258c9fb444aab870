"""The trace in depth names the tensor in which two runs part, and survives a kill."""

import json
import sys

import pytest
from lab import SHORT

from saigen.training.trace_file import TENSORS, read_tensors

DEEP = ("tracking.trace_depth=tensor",)
MLP = "src/project/models/mlp.py"


def test_diff_names_the_tensor(prepared_project):
    short = ("trainer.max_steps=6", *DEEP)
    prepared_project.saigen("train", *short)
    path = prepared_project.root / MLP
    text = path.read_text()
    hook = "        self.layers[0].weight.register_hook(lambda gradient: gradient * 1.001)\n"
    at = text.index("    def forward")
    path.write_text(text[:at].rstrip() + "\n" + hook + "\n" + text[at:])
    prepared_project.saigen("train", *short)
    command = ("diff", "--json", "last~1", "last")
    done = prepared_project.run(sys.executable, "-m", "saigen", *command)
    assert done.returncode == 1, done.stdout + done.stderr
    trace = json.loads(done.stdout)["trace"]
    assert (trace["step"], trace["phase"]) == (0, "gradients")
    assert trace["words"].endswith("; first in layers.0.weight, in 1 of 4 tensors")


@pytest.mark.slow
def test_a_killed_run_leaves_the_same_rows(lab):
    rare = ("trainer.max_epochs=100", "tracking.checkpoint_every_steps=60")
    overrides = (*SHORT, *DEEP, *rare, "trainer.max_steps=300", "tracking.trace_flush_steps=1")
    runs = lab.project.root / "runs"
    whole = runs / lab.train(overrides)["run"] / TENSORS
    before = set(runs.glob(f"*/{TENSORS}"))

    def behind_a_checkpoint() -> bool:
        made = set(runs.glob(f"*/{TENSORS}")) - before
        return any(path.stat().st_size > whole.stat().st_size / 3 for path in made)

    lab.kill(overrides, behind_a_checkpoint)
    (path,) = set(runs.glob(f"*/{TENSORS}")) - before
    assert path.stat().st_size < whole.stat().st_size
    resumed = runs / lab.train(overrides)["run"]
    assert (resumed / TENSORS).read_bytes() == whole.read_bytes()
    names, rows = read_tensors(resumed)
    assert rows["tensors"].shape == (300, len(names), 2)
    assert len(set(rows["tensors"][:, :, 0].ravel().tolist())) > 299 * len(names)

"""What torch knows to be nondeterministic is refused by operation, module and line."""

import sys

import pytest
import torch

from saigen.project_code import is_project

MLP = "src/project/models/mlp.py"
FORWARD = "        scores: torch.Tensor = self.layers(inputs)\n"
SHORT = ("model.dropout=0.1", "trainer.max_steps=3")

FORWARD_PUT = """        places = torch.zeros(2, dtype=torch.int64)
        inputs = inputs + torch.zeros(4).put_(places, torch.ones(2))[0]
"""
SPREAD = "        inputs = Spread.apply(inputs * self.layers[0].weight.sum())\n"
LIBRARY = """

import sysconfig

SOURCE = '''
import torch
class Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs):
        return inputs * 1.0
    @staticmethod
    def backward(ctx, gradient):
        places = torch.zeros(2, dtype=torch.int64)
        return gradient + torch.zeros(4).put_(places, torch.ones(2))[0]
'''
exec(compile(SOURCE, sysconfig.get_path("purelib") + "/a_library.py", "exec"))
"""
ODD = """

class Odd(nn.Module):
    def forward(self, inputs):
        places = torch.zeros(2, dtype=torch.int64)
        return inputs + torch.zeros(4).put_(places, torch.ones(2))[0]
"""


def change(project, old, new, after=""):
    """Change the model; returns its lines."""
    path = project.root / MLP
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new) + after)
    return path.read_text().splitlines()


def number_of(words, lines):
    return 1 + next(number for number, line in enumerate(lines) if words in line)


def test_in_the_forward_pass_the_line_is_named_and_a_replacement(prepared_project):
    lines = change(prepared_project, FORWARD, FORWARD_PUT + FORWARD)
    said = prepared_project.refused("train", *SHORT)
    assert "refused: the operation put_ has no deterministic kernel" in said
    assert f"where:    {MLP}:{number_of('put_', lines)}" in said
    assert "expected: the same bits each time (reproducibility.deterministic_algorithms)" in said
    assert "got:      put_" in said
    assert "replace it: index_put_ with accumulate=True" in said
    assert "or choose reproducibility=statistical" in said


def test_in_the_backward_pass_the_forward_call_is_named(prepared_project):
    """The stack begins in torch's engine there, and shows at most lines of a library."""
    lines = change(prepared_project, FORWARD, SPREAD + FORWARD, LIBRARY)
    said = prepared_project.refused("train", *SHORT)
    assert "refused: the operation put_ has no deterministic kernel" in said
    assert f"where:    {MLP}:{number_of('Spread.apply', lines)}" in said


def test_a_module_is_named_by_its_path(prepared_project):
    lines = change(prepared_project, "nn.GELU()", "Odd()", ODD)
    said = prepared_project.refused("train", *SHORT)
    assert f"where:    {MLP}:{number_of('put_', lines)}, in module 'layers.1'" in said


def test_any_other_error_stays_what_it_is(prepared_project):
    change(prepared_project, FORWARD, "        raise RuntimeError('something else')\n")
    done = prepared_project.run(sys.executable, "-m", "saigen", "train", *SHORT)
    assert "something else" in done.stderr
    assert "deterministic" not in done.stderr


@pytest.mark.parametrize(
    ("file", "own"),
    [
        (torch.nn.__file__, False),
        ("/opt/another/lib/python3.11/site-packages/torch/nn/functional.py", False),
        ("/usr/lib/python3/dist-packages/numpy/core.py", False),
        ("/home/somebody/my-packages/src/project/task.py", True),
        ("src/project/task.py", True),
    ],
)
def test_a_library_is_no_project_code_wherever_it_lies(file, own):
    assert is_project(file) == own

"""Values that stand in Python are found, and honest code is left alone."""

import subprocess
import sys

import pytest
from conf_project import ROOT

from saigen.config.hidden_defaults import check_folder, check_source

FOUND = (
    ("def f(*, lr=0.1): ...", "parameter 'lr' of f has the default 0.1"),
    ("def f(lr: float | None = None): ...", "parameter 'lr' of f has the default None"),
    ("class A:\n    def __init__(self, depth=2): ...", "parameter 'depth' of __init__"),
    ("step = lambda x, rate=0.3: x", "parameter 'rate' of a lambda has the default 0.3"),
    ("class A:\n    lr: float = 0.1", "field 'lr' of A has the default 0.1"),
    ("lr = config.get('lr', 0.1)", "`config.get('lr', 0.1)` falls back to a default"),
    ("lr = config.get('lr', base)", "`config.get('lr', base)` falls back to a default"),
    ("lr = config.pop('lr', default=3)", "falls back to a default"),
    ("config.setdefault('lr', 0.1)", "falls back to a default"),
    ("lr = getattr(config, 'lr', 1)", "falls back to a default"),
    ("lr = os.getenv('LR', '1')", "falls back to a default"),
    ("parser.add_argument('--lr', default=0.1)", "falls back to a default"),
    ("lr = lr or 0.1", "`lr or 0.1` falls back to a default"),
    ("layers = layers or [3]", "falls back to a default"),
    ("name = name or 'gelu'", "falls back to a default"),
    ("lr = 0.1 if lr is None else lr", "falls back to a default"),
    ("lr = lr if lr is not None else 2", "falls back to a default"),
    ("RATE = 0.003", "the number 0.003 may be a hyperparameter"),
    ("RATE = -3", "the number 3 may be a hyperparameter"),
    ("for _ in range(10): ...", "the number 10 may be a hyperparameter"),
    ("x = scale * 0.1", "the number 0.1 may be a hyperparameter"),
    ("train(epochs=40)", "the number 40 may be a hyperparameter"),
    ("from torch import nn\nnn.Linear(1, a)", "the number 1 may be a hyperparameter"),
    ("from torch import nn\nnn.MaxPool2d(2)", "the number 2 may be a hyperparameter"),
    ("from torch import nn\nnn.Conv2d(a, b, c, padding=1)", "the number 1 may be a hyper"),
    ("import torch\ntorch.nn.Dropout(p=0.5)", "the number 0.5 may be a hyperparameter"),
    ("import torch.nn.functional as F\nF.max_pool2d(x, 2)", "the number 2 may be a hyperparam"),
    (
        "from torch import nn\nnn.BatchNorm2d(width)",
        "leaves eps = 1e-05, momentum = 0.1 to the library",
    ),
    ("from torch import nn\nnn.Dropout()", "leaves p = 0.5 to the library"),
    ("X = 3  # saigen: constant, because so", "the escape gives no reason: 'so'"),
    ("X = 1  # saigen: constant, because the data has one", "the escape excuses nothing"),
)

HONEST = (
    "def f(x, *, lr): return x * lr",
    "x = y[3:5]; z = y[..., 4]",
    "x = y ** 3 + (1 << 20) + 0xFF51AFD7 - 0b101",
    "x = 0.5 * (1 + y) - 2 * z",
    "first = names.get('a'); x = found.pop(0); y = table.get('b', None)",
    "groups.setdefault(name, []).append(x); seen.setdefault(key, name)",
    "if not a or b == 1: ...",
    "flag = a or b; done = a or False",
    "x = y.sum(dim=3).softmax(dim=-1); z = generator.integers(-a, a, size=3)",
    "print(f'{x:.3f} of {y:8.2f}')",
    "raise ValueError('expected 3, got ' + str(7))",
    "assert x.shape == (3, 64)",
    "raise Refusal('x', expected=str(10), got=value or 'nothing')",
    "def f(kind: Literal[3, 4]): ...",
    "class A:\n    name: str\n    _x: int = field(init=False)",
    "SIDE = 8  # saigen: constant, because the images are 8 pixels wide",
    "# saigen: constant, because the images are 8 pixels wide\nSIDE = 8\n",
    "def f(\n    x,\n    dtype=4,  # saigen: default, because NumPy calls it so\n): ...",
    "from torch import nn\nnn.Linear(a, b); nn.Flatten(start_dim=1); nn.BatchNorm2d(a, e, m)",
)


@pytest.mark.parametrize(("source", "says"), FOUND)
def test_a_value_in_python_is_found(source: str, says: str) -> None:
    findings = check_source(source, "src/project/x.py")
    assert len(findings) == 1, findings
    assert says in findings[0].what
    assert str(findings[0]).startswith(f"src/project/x.py:{findings[0].line}: ")
    assert findings[0].fix


def test_every_number_of_a_line_is_found() -> None:
    findings = check_source("from torch import nn\nnn.Linear(64, 10)", "x.py")
    assert [found.what.split()[2] for found in findings] == ["64", "10"]


@pytest.mark.parametrize("source", HONEST)
def test_honest_code_is_left_alone(source: str) -> None:
    assert check_source(source, "src/project/x.py") == []


@pytest.mark.parametrize("folder", ["src/project", "src/saigen/training", "src/saigen/data"])
def test_no_hyperparameter_has_its_value_in_python(folder: str) -> None:
    assert [str(found) for found in check_folder(ROOT / folder)] == []


def test_the_checker_is_a_program_that_fails_where_it_finds_something(tmp_path) -> None:
    file = tmp_path / "model.py"
    for source, code in (("def f(lr=0.1): ...\n", 1), ("def f(lr): ...\n", 0)):
        file.write_text(source)
        done = subprocess.run(
            [sys.executable, "-m", "saigen.config.hidden_defaults", str(tmp_path)],
            env={"PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
        assert ("parameter 'lr' of f has the default 0.1" in done.stdout) == bool(code)

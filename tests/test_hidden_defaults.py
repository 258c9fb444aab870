"""Values that stand in Python are found, and honest code is left alone."""

import subprocess
import sys

import pytest
from conf_project import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from hidden_defaults import check_folder, check_source

PROJECT, INSTRUMENT = (str(ROOT / f"src/{name}.py") for name in ("project/x", "saigen/training/x"))
NN, F, OPTIM = "from torch import nn\n", "import torch.nn.functional as F\n", "import torch\n"
MODULE = NN + F + "class Mine(nn.Module):\n    def forward(self, x):\n        "

EVERYWHERE = (
    ("def f(*, lr=0.1): ...", "parameter 'lr' of f has the default 0.1"),
    ("def f(*, tolerance=1e-3): ...", "parameter 'tolerance' of f has the default 0.001"),
    ("def f(batch_size=32): ...", "parameter 'batch_size' of f has the default 32"),
    ("N = 3\ndef f(lr=N): ...", "parameter 'lr' of f has the default N"),
    ("step = lambda x, rate=0.3: x", "parameter 'rate' of a lambda has the default 0.3"),
    ("class A:\n    lr: float = 0.1", "field 'lr' of A has the default 0.1"),
    ("class A:\n    x: float = field(default=0.5)", "falls back to a default"),
    ("class A:\n    def loss(self, smoothing=0): ...", "parameter 'smoothing' of loss"),
    ("lr = config.get('lr', 0.1)", "`config.get('lr', 0.1)` falls back to a default"),
    ("x = config.pop('lr', default=3)", "falls back to a default"),
    ("config.setdefault('lr', 0.1)", "falls back to a default"),
    ("lr = getattr(config, 'lr', 1)", "falls back to a default"),
    ("parser.add_argument('--lr', default=3)", "falls back to a default"),
    ("lr = lr or 0.1", "`lr or 0.1` falls back to a default"),
    ("x = config.get('epochs') or 3", "falls back to a default"),
    ("lr = 0.1 if lr is None else lr", "falls back to a default"),
    ("lr = lr if lr is not None else 2", "falls back to a default"),
    ("if lr is None:\n    lr = 0.5", "`lr = 0.5` falls back to a default"),
    ("if self.lr is not None: ...\nelse:\n    self.lr = 2", "falls back to a default"),
    ("LEARNING_RATE = 0.003", "'LEARNING_RATE' is given the number 0.003"),
    ("group['lr'] = 0.01", "'lr' is given the number 0.01"),
    ("self.dropout: float = 0.5", "'dropout' is given the number 0.5"),
    ("group = {'lr': 0.01}", "'lr' is given the number 0.01"),
    ("train(epochs=40)", "'epochs' is given the number 40"),
    ("n = 40\ntrain(epochs=n)", "'epochs' is given the number n"),
    ("partial(loss, label_smoothing=0.1)", "'label_smoothing' is given the number 0.1"),
    (NN + "nn.Linear(1, a)", "the number 1 is handed to nn.Linear"),
    (NN + "nn.Linear(a, 4 * a)", "the number 4 is handed to nn.Linear"),
    (NN + "N = 4\nnn.Linear(a, N)", "the number N = 4 is handed to nn.Linear"),
    (NN + "nn.Conv2d(a, b, (3, c))", "the number 3 is handed to nn.Conv2d"),
    (NN + "nn.Conv2d(a, b, c, padding=1)", "the number 1 is handed to nn.Conv2d"),
    (NN + "x = nn.Sequential(nn.MaxPool2d(2))", "the number 2 is handed to nn.MaxPool2d"),
    (NN + "nn.utils.clip_grad_norm_(x, 1.0)", "the number 1.0 is handed to nn.utils.clip_grad"),
    (OPTIM + "torch.nn.Dropout(p=0.5)", "the number 0.5 is handed to torch.nn.Dropout"),
    (OPTIM + "torch.optim.SGD(p, 0.5)", "the number 0.5 is handed to torch.optim.SGD"),
    (
        OPTIM + "torch.optim.lr_scheduler.StepLR(o, 5, g)",
        "the number 5 is handed to torch.optim.lr",
    ),
    (F + "F.max_pool2d(x, 2)", "the number 2 is handed to F.max_pool2d"),
    (F + "F.cross_entropy(x / 0.07, y)", "the number 0.07 is handed to F.cross_entropy"),
    (MODULE + "...\nMine(3)", "the number 3 is handed to Mine"),
    ("from project.models.mlp import MLP\nMLP(inputs=64)", "the number 64 is handed to MLP"),
    (NN + "nn.BatchNorm2d(width)", "leaves eps = 1e-05, momentum = 0.1 to the library"),
    (NN + "nn.Dropout()", "leaves p = 0.5 to the library"),
    (OPTIM + "torch.optim.RAdam(p, lr=r)", "leaves betas = (0.9, 0.999), eps = 1e-08 to the"),
    ("X = 3  # saigen: constant, because so", "the escape gives no reason: 'so'"),
    ("X = 1  # saigen: constant, because the data has one", "the escape excuses nothing"),
)
# of no name that is a hyperparameter's, and no float
IN_THE_PROJECT = (
    ("class A:\n    def __init__(self, blocks=2): ...", "parameter 'blocks' of __init__"),
    ("def f(*, kind='gelu'): ...", "parameter 'kind' of f has the default 'gelu'"),
    ("def f(*, bias=True): ...", "parameter 'bias' of f has the default True"),
    (NN + "def f(*, act=nn.GELU): ...", "parameter 'act' of f has the default nn.GELU"),
    (NN + "def f(*, act=nn.GELU()): ...", "parameter 'act' of f has the default nn.GELU()"),
    ("def f(sizes=(3, 4)): ...", "parameter 'sizes' of f has the default (3, 4)"),
    (NN + "class A(nn.Module):\n    def train(self, mode=3): ...", "parameter 'mode' of train"),
    ("from .models.mlp import MLP\nMLP(inputs=64)", "the number 64 is handed to MLP"),
    ("class A:\n    blocks: int = 2", "field 'blocks' of A has the default 2"),
    ("name = name or 'gelu'", "falls back to a default"),
    ("x = x or [3]", "falls back to a default"),
    ("x = os.getenv('X', '1')", "falls back to a default"),
)
HONEST = (
    "def f(x, *, lr): return x * lr",
    "def f(x, lr=None, *, names=(), word=''): ...",
    "_MISSING = object()\ndef f(lr=_MISSING): ...",
    OPTIM + "class A(torch.optim.Optimizer):\n    def step(self, closure=None): ...",
    NN + "class A(nn.Module):\n    def train(self, mode=True): ...",
    NN + "class A(nn.Module):\n    pass\nclass B(A):\n    def train(self, mode=True): ...",
    OPTIM + "class A(torch.optim.Optimizer):\n    def zero_grad(self, set_to_none=True): ...",
    F + "x = F.cross_entropy(a, b, reduction='none').view(n, -1)",
    F + "x = F.relu(y).view(3, 4).sum(dim=3)",
    F + "x = F.log_softmax(a, 1) + F.softmax(a, dim=3) + F.layer_norm(a, (64,), w, b, eps)",
    F + "x = F.relu(y[3] ** 3)",
    "SIDE = 8\nROWS, MASK = 4000, 0xFF51AFD7\nx = y.view(-1, 1, SIDE, SIDE) * 0.1",
    "class A:\n    BYTES: ClassVar[int] = 8\n    name: str\n    _x: int = field(init=False)",
    "for _ in range(10): ...",
    "epochs = 0; rate = 1.0; batch = batches[3]",
    "first = names.get('a'); x = found.pop(0); y = table.get('b', None)",
    "groups.setdefault(name, []).append(x); seen.setdefault(key, name); z = max(a, default=0)",
    "lr = config.get('lr', base)",
    "if not a or b == 1: ...",
    "flag = a or b; done = a or False; x = getattr(y, 'done', False)",
    "print(f'{x:.3f} of {y:8.2f}')",
    "raise ValueError('expected 3, got ' + str(7))",
    "assert x.shape == (3, 64)",
    "raise Refusal('x', expected=str(10), got=value or 'nothing', rate=3)",
    "def f(kind: Literal[3, 4]): ...",
    "train(epochs=3)  # saigen: constant, because the images are 8 pixels wide",
    "# saigen: constant, because the images are 8 pixels wide\ntrain(epochs=3)\n",
    NN + "# saigen: constant, because there are ten digits\nN = 10\nx = nn.Linear(a, N)",
    "def f(\n    x,\n    rate=4,  # saigen: default, because NumPy calls it so\n): ...",
    NN + "nn.Linear(a, b); nn.Flatten(start_dim=1); nn.Flatten(1); nn.BatchNorm2d(a, e, m)",
    NN + "nn.Conv2d(a, b, c); nn.Linear(a, b, bias=False)",  # stride and dilation: whole numbers
)
IN_A_MODULE = (  # in a method of an nn.Module
    ("return nn.Linear(64, a)", "the number 64 is handed to nn.Linear"),
    ("return nn.BatchNorm2d(x)", "leaves eps = 1e-05, momentum = 0.1 to the library"),
    ("return F.max_pool2d(x, 2)", "the number 2 is handed to F.max_pool2d"),
    ("return x * 0.5", "the number 0.5 may be a hyperparameter"),
    ("self.dropout = 0.5", "'dropout' is given the number 0.5"),
)


def only(source: str, file: str, *, strict: bool = False) -> str:
    findings = check_source(source, file, strict=strict)
    assert len(findings) == 1, findings
    assert str(findings[0]).startswith(f"{file}:{findings[0].line}: ")
    assert "\n    fix: " in str(findings[0])
    return findings[0].what


@pytest.mark.parametrize(("source", "says"), EVERYWHERE)
@pytest.mark.parametrize("file", [PROJECT, INSTRUMENT], ids=["project", "instrument"])
def test_a_hyperparameter_in_python_is_found(file: str, source: str, says: str) -> None:
    assert says in only(source, file)


@pytest.mark.parametrize(("source", "says"), IN_THE_PROJECT)
def test_any_default_of_the_project_is_found(source: str, says: str) -> None:
    assert says in only(source, PROJECT)
    assert check_source(source, INSTRUMENT, strict=False) == []


@pytest.mark.parametrize("source", HONEST)
@pytest.mark.parametrize("file", [PROJECT, INSTRUMENT], ids=["project", "instrument"])
def test_honest_code_is_left_alone(file: str, source: str) -> None:
    assert check_source(source, file, strict=False) == []


@pytest.mark.parametrize(("line", "says"), IN_A_MODULE)
def test_what_stands_inside_a_module_is_its_authors_unless_strict(line: str, says: str) -> None:
    assert check_source(MODULE + line, PROJECT, strict=False) == []
    assert says in only(MODULE + line, PROJECT, strict=True)
    of_mine = line.replace("self", "x")
    derived = "from project.models.mlp import MLP\n" + MODULE.replace("nn.Module", "MLP") + of_mine
    assert check_source(derived, PROJECT, strict=False) == []
    excused = MODULE + f"# saigen: constant, because the paper has this one\n        {line}"
    for strict in (False, True):
        assert check_source(excused, PROJECT, strict=strict) == []


def test_what_is_the_instrument_is_said_by_the_folder_of_sources_not_by_the_clone() -> None:
    source = "def f(blocks=2): ..."
    assert only(source, "/home/me/saigen/src/project/x.py")
    assert check_source(source, "/usr/src/project/src/saigen/x.py", strict=False) == []


def test_a_module_hides_no_default_of_its_signature() -> None:
    head = NN + "class Mine(nn.Module):\n    def __init__(self, width=64):\n        "
    assert "parameter 'width' of __init__" in only(head + "...", PROJECT)
    head = head.replace("=64", "")
    assert "falls back to a default" in only(head + "self.width = width or 64", PROJECT)


def test_strict_names_every_number_but_indexes_and_the_like() -> None:
    honest = "return x[3:5] ** 3 + (1 << 20) - 0xFF * 2 + f'{x:.3f}' + x.sum(dim=3)"
    assert check_source(MODULE + honest, PROJECT, strict=True) == []


def test_every_number_of_a_line_is_found() -> None:
    findings = check_source(NN + "nn.Linear(64, 10)", "x.py", strict=False)
    assert [found.what.split()[2] for found in findings] == ["64", "10"]


@pytest.mark.parametrize("folder", ["src/project", "src/saigen/training", "src/saigen/data"])
def test_no_hyperparameter_has_its_value_in_python(folder: str) -> None:
    assert [str(found) for found in check_folder(ROOT / folder, strict=True)] == []


def test_the_checker_is_a_program_that_fails_where_it_finds_something(tmp_path) -> None:
    file = tmp_path / "model.py"
    module = MODULE + "return nn.Linear(64, x)\n"
    for source, strict, code, says in (
        (
            "def f(lr=0.1): ...\n",
            (),
            1,
            "parameter 'lr' of f has the default 0.1\n    fix: give it",
        ),
        ("def f(lr): ...\n", (), 0, ""),
        (module, ("--strict",), 1, "the number 64 is handed to nn.Linear\n    fix: give it a key"),
    ):
        file.write_text(source)
        program = [sys.executable, ROOT / "tools/hidden_defaults.py", *strict, tmp_path]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (code, "")
        assert says in done.stdout

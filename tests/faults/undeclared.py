"""Planted inputs that no recipe declares: the same recipe gives another outcome.

Run A is made with `before`, run B after `between`, both by the source with the patch.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MLP = "src/project/models/mlp.py"
PREPARE = "src/project/prepare.py"
_MADE = "            nn.Linear(hidden, outputs),\n        )\n"


def in_constructor(*lines: str) -> tuple[tuple[str, str, str], ...]:
    """A patch of the model: lines that give `scale`, by which the first weights are multiplied."""
    code = "".join(f"        {line}\n" for line in lines)
    return ((MLP, _MADE, f"{_MADE}{code}        self.layers[0].weight.data.mul_(float(scale))\n"),)


def text(name: str, value: str) -> Callable[[Path], None]:
    """Write a file of the project."""

    def write(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
        # byte code is kept by second and size
        os.utime(path, ns=(path.stat().st_mtime_ns + 10**10 * len(value),) * 2)

    return write


def array(name: str, value: float) -> Callable[[Path], None]:
    """Write an array of the project."""

    def write(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, np.array(value, np.float32))

    return write


def model(value: float) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        from safetensors.numpy import save_file

        (root / "model").mkdir(exist_ok=True)
        save_file({"scale": np.array([value], np.float32)}, root / "model/weights.safetensors")

    return write


def nothing(root: Path) -> None:
    pass


@dataclass(frozen=True)
class Undeclared:
    name: str
    suspect: str  # layer and name of the first suspect
    line: str  # must stand in the line that is named
    patches: tuple[tuple[str, str, str], ...]
    before: Callable[[Path], None] = nothing
    between: Callable[[Path], None] = nothing
    environment: dict[str, str] = field(default_factory=dict)  # of run B
    overrides: tuple[str, ...] = ()


UNDECLARED = (
    Undeclared("a variable read in the model's constructor", "environment variable SCALE",
               'os.environ.get("SCALE"',
               in_constructor("import os", 'scale = os.environ.get("SCALE", "1")'),
               environment={"SCALE": "0.5"}),
    Undeclared("a variable read by os.getenv", "environment variable SCALE", "os.getenv",
               in_constructor("import os", 'scale = os.getenv("SCALE") or 1'),
               environment={"SCALE": "0.5"}),
    Undeclared("a variable that is only asked for", "environment variable QUICK", '"QUICK" in',
               in_constructor("import os", 'scale = 0.5 if "QUICK" in os.environ else 1'),
               environment={"QUICK": "1"}),
    Undeclared("a password that seeds a scale", "environment variable DB_PASSWORD", "DB_PASSWORD",
               in_constructor("import os", 'scale = 1 / len(os.getenv("DB_PASSWORD", "none"))'),
               environment={"DB_PASSWORD": "correct horse battery"}),
    Undeclared("a .env file", "data file .env", "open(",
               in_constructor('scale = open(".env").read().partition("=")[2]'),
               text(".env", "SCALE=1\n"), text(".env", "SCALE=0.5\n")),
    Undeclared("a YAML file of its own beside the code", "data file src/project/models/mlp.yaml",
               "read_text",
               in_constructor(
                   "import yaml, pathlib",
                   'own = pathlib.Path(__file__).with_suffix(".yaml").read_text()',
                   'scale = yaml.safe_load(own)["scale"]'),
               text("src/project/models/mlp.yaml", "scale: 1\n"),
               text("src/project/models/mlp.yaml", "scale: 0.5\n")),
    Undeclared("an array beside the snapshot", "data file data/scale.npy", "np.load",
               in_constructor("import numpy as np", 'scale = np.load("data/scale.npy")'),
               array("data/scale.npy", 1), array("data/scale.npy", 0.5)),
    Undeclared("a helper outside src loaded by importlib", "code module helpers/scaling.py",
               "exec_module",
               in_constructor(
                   "from importlib import util",
                   'found = util.spec_from_file_location("scaling", "helpers/scaling.py")',
                   "helper = util.module_from_spec(found)",
                   "found.loader.exec_module(helper)",
                   "scale = helper.SCALE"),
               text("helpers/scaling.py", "SCALE = 1\n"),
               text("helpers/scaling.py", "SCALE = 0.5\n")),
    Undeclared("an uncommitted change in a submodule", "code module vendor/scaling/__init__.py",
               "import scaling",
               in_constructor("import sys", 'sys.path.insert(0, "vendor")', "import scaling",
                              "scale = scaling.SCALE"),
               text("vendor/scaling/__init__.py", "SCALE = 1\n"),
               text("vendor/scaling/__init__.py", "SCALE = 0.5\n")),
    Undeclared("a program that is executed", "code module recipe.py", "open(",
               in_constructor("told = {}", 'exec(open("recipe.py").read(), told)',
                              'scale = told["SCALE"]'),
               text("recipe.py", "SCALE = 1\n"), text("recipe.py", "SCALE = 0.5\n")),
    Undeclared("a warm start from a model that happens to lie there",
               "data file model/weights.safetensors", "load_file",
               in_constructor(
                   "from safetensors.torch import load_file",
                   'scale = load_file("model/weights.safetensors")["scale"]'),
               model(1), model(0.5)),
    Undeclared("how many files lie in a folder", "data folder extra/", "iterdir",
               in_constructor("import pathlib",
                              'scale = 1 / len(list(pathlib.Path("extra").iterdir()))'),
               text("extra/a", ""), text("extra/b", "")),
    Undeclared("a file that was not there before", "data file scale.txt", "open(",
               in_constructor("try:", '    scale = open("scale.txt").read()',
                              "except FileNotFoundError:", "    scale = 1"),
               between=text("scale.txt", "0.5")),
    Undeclared("a variable read in a loader's worker", "environment variable SCALE", "getenv",
               (("src/project/data.py", "{name: array[indices] for",
                 '{name: array[indices] * (float(__import__("os").getenv("SCALE", 1)) '
                 "if array.ndim == 2 else 1) for"),),
               environment={"SCALE": "0.5"}, overrides=("hardware.loader_workers=1",)),
)  # fmt: skip

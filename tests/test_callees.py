"""Callables that a config names: wholly stated, allowed, and read again when they change."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conf_project import ROOT, Conf

from saigen.config.callables import function, instantiate
from saigen.config.schema import Call
from saigen.config.signatures import CACHE
from saigen.errors import Refusal

TASK = """
class Task:
    def __init__(self, *, label_smoothing: float{grown}) -> None: ...
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Conf:
    """A project that may call `lent`, a library that lies beside it."""
    conf = Conf(tmp_path)
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('allow = ["', 'allow = ["lent", "'))
    monkeypatch.syspath_prepend(str(tmp_path / "library"))
    conf.write("task/lent.yaml", "_target_: lent.Task\nlabel_smoothing: 0.1\n")
    return conf


def lend(conf: Conf, source: str) -> None:
    """Install a version of the library `lent`, as an upgrade between two processes would."""
    sys.modules.pop("lent", None)
    path = conf.root / "library" / "lent.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    importlib.invalidate_caches()
    # Python itself would take a source of the same second and size for the same
    importlib.import_module("lent")
    exec(compile(source, path, "exec"), sys.modules["lent"].__dict__)


def test_a_library_that_gains_a_parameter_is_refused_by_name(conf: Conf) -> None:
    lend(conf, TASK.format(grown=""))
    assert conf.compose("task=lent").values["task"]["label_smoothing"] == 0.1
    lend(conf, TASK.format(grown=", focal_gamma: float = 2.0"))
    refusal = conf.refusal("task=lent")
    assert refusal.what.startswith("task.focal_gamma is not stated")
    assert refusal.where == "task.focal_gamma (conf/task/lent.yaml)"
    assert refusal.got == "nothing for focal_gamma = 2.0"
    assert refusal.fix == "add under task:\n    focal_gamma: 2.0"
    conf.write("task/lent.yaml", conf.read("task/lent.yaml") + "focal_gamma: 2.0\n")
    conf.compose("task=lent")


def test_a_library_that_loses_a_parameter_is_refused_by_name(conf: Conf) -> None:
    lend(conf, TASK.format(grown=""))
    conf.compose("task=lent")
    lend(conf, "class Task:\n    pass\n")
    refusal = conf.refusal("task=lent")
    assert refusal.where == "task.label_smoothing (conf/task/lent.yaml:2)"
    assert refusal.expected == "no parameter"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def Task(label_smoothing, **more): ...", "takes **more, so nobody can tell"),
        ("def Task(label_smoothing, /): ...", "task._args_ do not agree on the arguments"),
        ("def Task(*label_smoothing): ...", "task._args_ do not agree on the arguments"),
        ("class Task:\n    __signature__ = 3", "does not say which parameters it takes"),
        ("Task = object()", "is no class or function"),
        ("import functools\nTask = functools.partial(print)", "is no class or function"),
        ("Task = __import__('os').system", "it is defined in posix, which is not allowed"),
        ("Task = __import__('os')", "is no class or function"),
        ("raise RuntimeError('boom')", "importing lent raises RuntimeError: boom"),
        ("import nowhere_at_all", "lent needs 'nowhere_at_all'"),
        ("def Task(label_smoothing: int): ...", "task.label_smoothing is of the wrong kind"),
        ("def Task(label_smoothing, warmup_steps, warmup_epochs): ...", "one thing in two units"),
    ],
)
def test_a_callable_that_hides_something_is_refused_with_a_reason(
    conf: Conf, source: str, says: str
) -> None:
    if "two_units" in source or "warmup" in source:
        conf.write(
            "task/lent.yaml", conf.read("task/lent.yaml") + "warmup_steps: 3\nwarmup_epochs: 1\n"
        )
    path = conf.root / "library" / "lent.py"
    path.parent.mkdir()
    path.write_text(source)
    sys.modules.pop("lent", None)
    importlib.invalidate_caches()
    refusal = conf.refusal("task=lent")
    assert says in refusal.what
    assert "conf/task/lent.yaml" in refusal.where


def test_arguments_without_a_name_are_stated_in_a_list(conf: Conf) -> None:
    lend(conf, "def Task(smoothing, /, *rest): return smoothing, rest")
    conf.write("task/lent.yaml", "_target_: lent.Task\n_args_: [0.1, 2, 3]\n")
    composition = conf.compose("task=lent")
    assert composition.config.task.arguments == {"_args_": [0.1, 2, 3]}
    conf.write("task/lent.yaml", "_target_: lent.Task\n_args_: []\n")
    assert "a value for each of: smoothing, rest" in conf.refusal("task=lent").expected


def test_nested_callables_are_checked_and_built() -> None:
    node = {
        "_target_": "torch.nn.Linear",
        "in_features": 2,
        "out_features": 3,
        "bias": False,
        "device": None,
        "dtype": None,
    }
    call = Call.model_validate(
        {"_target_": "torch.nn.Sequential", "_args_": [node, {"_target_": "torch.nn.Tanh"}]}
    )
    built = instantiate(call)
    assert [type(layer).__name__ for layer in built] == ["Linear", "Tanh"]
    assert built[0].weight.shape == (3, 2)


def test_a_nested_hidden_default_is_refused_by_its_full_key(conf: Conf) -> None:
    conf.write(
        "model/deep.yaml",
        "_target_: torch.nn.Sequential\n_args_:\n"
        "  - _target_: torch.nn.Linear\n    in_features: 64\n    out_features: 10\n"
        "    device: null\n    dtype: null\n",
    )
    refusal = conf.refusal("model=deep")
    assert refusal.where == "model._args_.0.bias (conf/model/deep.yaml)"
    assert refusal.fix == "add under model._args_.0:\n    bias: true"


def test_no_range_is_guessed_from_a_name(conf: Conf) -> None:
    """What torch itself takes, its own defaults first, passes; annotated ranges are held."""
    lend(conf, "def Task(momentum: float, betas: list[float], beta2_decay: float): ...")
    text = "_target_: lent.Task\nmomentum: 1.0\nbetas: [0.0, 1.0]\nbeta2_decay: -0.8\n"
    conf.write("task/lent.yaml", text)
    conf.compose("task=lent")
    refusal = conf.refusal("scheduler.final_fraction=1.5")
    assert refusal.expected == "float at least 0 and at most 1"


def test_a_torch_module_without_parameters_needs_none(conf: Conf) -> None:
    conf.write("task/lent.yaml", "_target_: torch.nn.Tanh\n")
    conf.compose("task=lent")


def test_bound_arguments_wait_for_those_of_run_time() -> None:
    call = Call.model_validate(
        {"_target_": "saigen.training.schedule.cosine", "warmup_steps": 0, "final_fraction": 0.5}
    )
    assert function(call)(0, 10) == 1.0
    assert function(call)(9, 10) == 0.5


def test_nothing_forbidden_is_called_even_when_no_check_came_before(tmp_path: Path) -> None:
    trace = tmp_path / "was_here"
    call = Call.model_validate({"_target_": "os.system", "command": f"touch {trace}"})
    with pytest.raises(Refusal, match="the project does not allow this module"):
        instantiate(call)
    nested = {"_target_": "torch.nn.modules.os.system", "command": f"touch {trace}"}
    with pytest.raises(Refusal, match="there is no module"):
        instantiate(Call.model_validate({"_target_": "torch.nn.Sequential", "_args_": [nested]}))
    assert not trace.exists()


def test_a_forbidden_target_is_refused_before_anything_is_imported(conf: Conf) -> None:
    path = conf.root / "library" / "unlent.py"
    path.parent.mkdir()
    path.write_text("raise SystemExit('imported')")
    refusal = conf.refusal("task._target_=unlent.Task")
    assert "the project does not allow this module" in refusal.what
    assert "unlent" not in sys.modules


def test_a_project_without_a_list_of_allowed_modules_is_told_how_to_write_one(
    tmp_path: Path,
) -> None:
    conf = Conf(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.saigen]\nallow = 'torch'\n")
    refusal = conf.refusal()
    assert refusal.where.startswith("tool.saigen.allow")
    assert 'allow = ["project", "torch.nn", "torch.optim"]' in refusal.fix


def test_a_torn_cache_of_signatures_costs_time_and_nothing_else(conf: Conf) -> None:
    lend(conf, TASK.format(grown=""))
    right = conf.compose("task=lent").yaml
    cache = conf.root / CACHE
    kept = json.loads(cache.read_text())
    assert "lent.Task" in kept["signatures"]
    for text in ("[]", '{"version": 1}', cache.read_text()[:-20]):
        cache.write_text(text)
        lend(conf, TASK.format(grown=""))
        assert conf.compose("task=lent", "optimizer._target_=torch.optim.AdamW").yaml == right


def test_an_option_of_a_subgroup_is_picked(conf: Conf) -> None:
    text = conf.read("model/mlp.yaml")
    conf.write("model/small/tiny.yaml", f"# @package model\n{text}")
    assert conf.compose("model=small/tiny").values["model"]["hidden"] == 128
    assert "write model=small/tiny" in conf.refusal("model=small/tony").fix


def test_composing_needs_no_torch_once_the_signatures_are_known() -> None:
    program = (
        "import sys; from saigen.config.compose import compose; compose(()); compose(());"
        "sys.modules.pop('torch', None); print('torch' in sys.modules)"
    )
    again = program.replace("sys.modules.pop('torch', None); ", "")
    for text in (program, again):
        done = subprocess.run(
            [sys.executable, "-c", text],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.strip() == "False"


def test_a_config_of_an_older_template_is_told_the_value_that_keeps_what_was() -> None:
    from pydantic import ValidationError

    from saigen.config.compose import compose
    from saigen.config.messages import refusal_of
    from saigen.config.schema import Config
    from saigen.digest import canonical_json

    values = compose((), ROOT / "conf").values
    del values["trainer"]["parameter_layout"]
    with pytest.raises(ValidationError) as caught:
        Config.model_validate_json(canonical_json(values))
    newer = {"trainer.parameter_layout": ("0.9.0", "tensors")}
    refusal = refusal_of(caught.value, lambda key: f"{key} (conf/trainer/default.yaml)", newer)
    assert refusal.what == "trainer.parameter_layout is missing"
    assert refusal.where == "trainer.parameter_layout (conf/trainer/default.yaml)"
    assert refusal.fix.startswith(
        "add `parameter_layout: tensors`, which keeps what was before 0.9.0: what the optimizer"
    )


def test_the_values_that_keep_what_was_belong_to_keys_of_the_schema() -> None:
    from saigen.config.messages import schema_fields
    from saigen.config.schema import NEWER_KEYS

    assert set(NEWER_KEYS) <= set(dict(schema_fields()))

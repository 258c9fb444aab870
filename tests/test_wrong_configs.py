# ruff: noqa: E501
"""Every way to get a config wrong that we could think of: refused by key, file and fix."""

import socket
from pathlib import Path
from typing import NamedTuple

import pytest
from conf_project import Conf


class Wrong(NamedTuple):
    """An edit `(file, old, new)` or overrides, and what the refusal must say."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    overrides: tuple[str, ...]
    key: str
    place: str
    fix: str
    got: str = ""


def edit(name: str, file: str, old: str, new: str, *says: str, **more: str) -> Wrong:
    return Wrong(name, ((file, old, new),), (), *says, **more)


def line(name: str, override: str | tuple[str, ...], *says: str, **more: str) -> Wrong:
    return Wrong(name, (), (override,) if isinstance(override, str) else override, *says, **more)


ADAMW, MLP, TRAINER = "optimizer/adamw.yaml", "model/mlp.yaml", "trainer/default.yaml"
LR, EPOCHS = "lr: 0.003 ", "max_epochs: 40 "

# fmt: off
WRONG = (
    # typos
    edit("a misspelt key of a section", TRAINER, "max_epochs:", "max_epoch:", "trainer.max_epoch", "conf/trainer/default.yaml:1", "write 'max_epochs' instead"),
    edit("a misspelt argument", ADAMW, "amsgrad:", "amsgard:", "optimizer.amsgard", "conf/optimizer/adamw.yaml:6", "write 'amsgrad' instead"),
    edit("a misspelt group", "config.yaml", "- model: mlp", "- mdoel: mlp", "mdoel", "conf/config.yaml:8", "delete the line"),
    edit("a misspelt option in the defaults list", "config.yaml", "- optimizer: adamw", "- optimizer: adam", "optimizer", "conf/config.yaml:9", "write 'adamw'", got="adam"),
    edit("a misspelt option in a preset", "experiment/mlp_sgd.yaml", "/optimizer: sgd", "/optimizer: sdg", "optimizer", "conf/experiment/mlp_sgd.yaml:5", "write 'sgd'")._replace(overrides=("experiment=mlp_sgd",)),
    edit("an override of a group that a preset invents", "experiment/mlp_sgd.yaml", "/optimizer: sgd", "/optimiser: sgd", "optimiser", "conf/experiment/mlp_sgd.yaml:5", "write `override /optimizer`")._replace(edits=(("experiment/mlp_sgd.yaml", "/optimizer: sgd", "/optimiser: sgd"), ("experiment/mlp_sgd.yaml", "# sets: optimizer", "# sets: optimiser")), overrides=("experiment=mlp_sgd",)),
    line("a misspelt override", "optimizer.lrr=1", "optimizer.lrr", "command line: optimizer.lrr=1", "write optimizer.lr=..."),
    line("a misspelt group on the command line", "optimzer=sgd", "optimzer", "command line: optimzer=sgd", "write optimizer=..."),
    line("a key without its group", "seed=3", "seed", "command line: seed=3", "write randomness.seed=..."),
    line("an option that does not exist", "model=cn", "model", "command line: model=cn", "write model=cnn", got="cn"),
    line("an experiment that does not exist", "experiment=cnn", "experiment", "command line: experiment=cnn", "write experiment=cnn_augmented"),
    line("a key of a model that is not selected", ("model=cnn", "model.inputs=3"), "model.inputs", "command line: model.inputs=3", "prints every key"),
    line("an added key that is misspelt", "+trainer.max_step=3", "trainer.max_step", "command line: +trainer.max_step=3", "write 'max_steps' instead"),
    # dead keys
    edit("a key that nothing reads", TRAINER, EPOCHS, "colour: red\n" + EPOCHS, "trainer.colour", "conf/trainer/default.yaml:1", "delete trainer.colour"),
    edit("a section that nothing reads", "config.yaml", "defaults:\n", "extras:\n  loud: true\ndefaults:\n", "extras", "conf/config.yaml:4", "delete extras"),
    edit("an argument that the model does not take", MLP, "hidden: 128", "depth: 3\nhidden: 128", "model.depth", "conf/model/mlp.yaml:3", "delete model.depth"),
    edit("a stream that nothing draws from", "randomness/streams.yaml", "streams: ", "streams: \n  noise: 3 ", "randomness.streams.noise", "conf/randomness/streams.yaml:3", "delete randomness.streams.noise"),
    line("a dead key on the command line", "+task.margin=2", "task.margin", "command line: +task.margin=2", "delete task.margin"),
    line("a key below a value", "+optimizer.lr.decay=1", "optimizer.lr", "command line: +optimizer.lr.decay=1", "give optimizer.lr"),
    # missing
    edit("a missing key", TRAINER, "batch_size: 32 ", "# ", "trainer.batch_size", "conf/trainer/default.yaml", "add `batch_size: VALUE`: examples behind one update"),
    edit("a missing stream", "randomness/streams.yaml", "order: ", "# order: ", "randomness.streams.order", "conf/randomness/streams.yaml", "randomness.streams.order"),
    edit("a missing argument of our own", MLP, "hidden: 128", "# hidden", "model.hidden", "conf/model/mlp.yaml", "add under model:\n    hidden: ...", got="hidden (no default)"),
    edit("a missing group", "config.yaml", "- tracking: files", "# files", "tracking", "conf/config.yaml", "pick an option of tracking"),
    edit("a missing _target_", MLP, "_target_: project.models.mlp.MLP ", "# ", "model", "conf/model/mlp.yaml", "_target_"),
    edit("three question marks", ADAMW, LR, "lr: ??? ", "optimizer.lr", "conf/optimizer/adamw.yaml:2", "give optimizer.lr=VALUE"),
    line("a deleted key", "~trainer.monitor", "trainer.monitor", "command line: ~trainer.monitor", "add `monitor: VALUE`"),
    # hidden defaults of callables
    edit("a hidden default of the optimizer", ADAMW, "foreach: false", "# foreach", "optimizer.foreach", "conf/optimizer/adamw.yaml", "add under optimizer:\n    foreach: null", got="foreach = None"),
    edit("two hidden defaults at once", "optimizer/sgd.yaml", "momentum: 0.9                       # share of the last update that is kept\ndampening: 0.0 ", "# ", "optimizer.momentum", "conf/optimizer/sgd.yaml", "    momentum: 0\n    dampening: 0")._replace(overrides=("optimizer=sgd",)),
    line("another callable with the old arguments", "scheduler._target_=saigen.training.schedule.constant", "scheduler.final_fraction", "conf/scheduler/cosine.yaml:3", "delete scheduler.final_fraction"),
    line("a deleted argument", "~optimizer.eps", "optimizer.eps", "command line: ~optimizer.eps", "    eps: 1.0e-08"),
    line("an argument that is supplied at run time", "+optimizer.params=[1]", "optimizer.params", "command line: +optimizer.params=[1]", "delete optimizer.params", got="the weights exist once the model is built"),
    # types
    line("text for a number", "optimizer.lr=fast", "optimizer.lr", "command line: optimizer.lr=fast", "give optimizer.lr", got="'fast'"),
    edit("text for a number in a file", ADAMW, LR, "lr: fast ", "optimizer.lr", "conf/optimizer/adamw.yaml:2", "give optimizer.lr", got="'fast'"),
    line("a fraction for a count", "model.inputs=1.5", "model.inputs", "command line: model.inputs=1.5", "give model.inputs", got="1.5"),
    line("a truth for a count", "trainer.max_epochs=true", "trainer.max_epochs", "command line: trainer.max_epochs=true", "give trainer.max_epochs"),
    line("a number for a truth", "optimizer.amsgrad=1", "optimizer.amsgrad", "command line: optimizer.amsgrad=1", "give optimizer.amsgrad"),
    line("one beta of two", "optimizer.betas=[0.9]", "optimizer.betas", "command line: optimizer.betas=[0.9]", "give optimizer.betas", got="[0.9]"),
    line("nothing where a value is needed", "optimizer.lr=null", "optimizer.lr", "command line: optimizer.lr=null", "give optimizer.lr", got="None"),
    line("a word that is none of the choices", "trainer.precision=float23", "trainer.precision", "command line: trainer.precision=float23", "write 'float32'"),
    edit("YAML's own truth for a name", "reproducibility/exact.yaml", "reduction: tree", "reduction: off", "reproducibility.reduction", "conf/reproducibility/exact.yaml:14", "give reproducibility.reduction", got="False"),
    edit("a group that is empty", TRAINER, EPOCHS, "# ", "trainer.max_epochs", "conf/trainer/default.yaml", "passes over the training split"),
    # ranges
    line("no epoch", "trainer.max_epochs=0", "trainer.max_epochs", "command line: trainer.max_epochs=0", "greater than or equal to 1", got="0"),
    line("a seed below zero", "randomness.seed=-1", "randomness.seed", "command line: randomness.seed=-1", "greater than or equal to 0"),
    line("a seed of 65 bits", "randomness.seed=18446744073709551616", "randomness.seed", "command line: randomness.seed", "less than"),
    line("a warm-up below zero", "scheduler.warmup_steps=-5", "scheduler.warmup_steps", "command line: scheduler.warmup_steps=-5", "int at least 0"),
    line("shares that sum to 0.8", "prepare.fractions.train=0.5", "prepare.fractions.train", "command line: prepare.fractions.train=0.5", "mend prepare.fractions.train", got="0.5"),
    line("a batch that does not split", "trainer.microbatches=5", "trainer.microbatches", "command line: trainer.microbatches=5", "trainer.batch_size or trainer.microbatches", got="5"),
    line("no number at all", "optimizer.lr=nan", "optimizer.lr", "command line: optimizer.lr=nan", "write a number", got="nan"),
    line("infinity", "trainer.max_grad_norm=inf", "trainer.max_grad_norm", "command line: trainer.max_grad_norm=inf", "null"),
    # two units for one thing
    edit("steps and hours", TRAINER, EPOCHS, "max_hours: 3\n" + EPOCHS, "trainer.max_hours", "conf/trainer/default.yaml:1", "instead"),
    line("steps and epochs of warm-up", "+scheduler.warmup_epochs=2", "scheduler.warmup_epochs", "command line: +scheduler.warmup_epochs=2", "write 'warmup_steps' instead"),
    # callables
    line("a shell", "model._target_=os.system", "model._target_", "command line: model._target_=os.system", "src/project", got="os.system"),
    line("a shell through a library", "model._target_=torch.nn.modules.os.system", "model._target_", "command line: model", "src/project"),
    line("a shell through the project", "task._target_=project.snapshot.datetime.datetime", "task._target_", "command line: task", "src/project"),
    line("what a project's module imported", "task._target_=project.snapshot.write_whole", "task._target_", "command line: task", "src/project", got="project.snapshot.write_whole"),
    line("a builtin", "task._target_=builtins.eval", "task._target_", "command line: task", "pyproject.toml"),
    line("a dunder walk", "task._target_=project.task.Classification.__init__.__globals__", "task._target_", "command line: task", "pyproject.toml"),
    line("a private name", "task._target_=torch.nn.modules._functions.SyncBatchNorm", "task._target_", "command line: task", "pyproject.toml"),
    line("a module instead of a callable", "task._target_=torch.nn.functional", "task._target_", "command line: task", "pyproject.toml"),
    line("a name that the allowed name only begins", "task._target_=projectile.task.Classification", "task._target_", "command line: task", "pyproject.toml"),
    line("a class that does not exist", "optimizer._target_=torch.optim.Adamw", "optimizer._target_", "command line: optimizer", "write torch.optim.AdamW"),
    line("a nested shell", "+model.hidden={_target_: os.system, command: ls}", "model.hidden._target_", "command line: +model.hidden", "pyproject.toml"),
    line("a callable that is no text", "model._target_=3", "model._target_", "command line: model._target_=3", ""),
    line("a key of Hydra's instantiate", "+model._partial_=true", "model._partial_", "command line: +model._partial_=true", "delete model._partial_"),
    line("arguments without a name", "+model._args_=[3]", "model._args_", "command line: +model._args_=[3]", "by its name"),
    line("open-ended arguments", ("task._target_=torch.nn.Identity",), "task._target_", "command line: task", "names each parameter"),
    # resolvers and what belongs to one machine
    edit("a variable of the environment", "data/digits.yaml", "name: digits ", "name: ${oc.env:HOSTNAME} ", "data.name", "conf/data/digits.yaml:1", "write the value itself"),
    edit("a resolver in a file that is not selected", "model/cnn.yaml", "side: 8", "side: ${oc.env:SIDE}", "model.side", "conf/model/cnn.yaml:2", "write the value itself"),
    edit("a resolver in the defaults list", "config.yaml", "- model: mlp", "- model: ${oc.env:MODEL}", "defaults", "conf/config.yaml:8", "write the value itself"),
    line("the clock", "data.name=${now:%Y}", "data.name", "command line: data.name=${now:%Y}", "write the value itself"),
    line("Hydra's own values", "data.name=${hydra:job.num}", "data.name", "command line", "write the value itself"),
    line("a resolver with a default of its own", "optimizer.lr=${oc.select:rate,0.1}", "optimizer.lr", "command line", "write the value itself"),
    line("a resolver inside another reference", "optimizer.lr=${optimizer.${oc.env:KEY}}", "optimizer.lr", "command line", "write the value itself"),
    line("a home", "data.snapshot='~/digits.csv'", "data.snapshot", "command line: data.snapshot='~/digits.csv'", "from the root of the project"),
    line("an absolute path", "data.snapshot=/mnt/digits.csv", "data.snapshot", "command line", "from the root of the project"),
    line("a path on Windows", "data.snapshot='C:\\data'", "data.snapshot", "command line", "from the root of the project"),
    line("a path out of the project", "data.snapshot=../digits.csv", "data.snapshot", "command line", "from the root of the project"),
    line("a variable for the shell", "data.snapshot='$HOME/digits.csv'", "data.snapshot", "command line", "from the root of the project"),
    line("this host in a place", f"data.snapshot='mirror@{socket.gethostname()}:digits'", "data.snapshot", "command line", "names this machine"),
    line("a port of this machine", "data.name='http://localhost:8000'", "data.name", "command line", "names this machine"),
    # references
    edit("a circle", ADAMW, LR, "lr: ${optimizer.eps} ", "optimizer.lr", "conf/optimizer/adamw.yaml:2", "write a value")._replace(overrides=("optimizer.eps=${optimizer.lr}",)),
    line("a key that refers to itself", "trainer.max_steps=${trainer.max_steps}", "trainer.max_steps", "command line", "write a value"),
    edit("a reference to nothing", ADAMW, LR, "lr: ${optimizer.epsi} ", "optimizer.lr", "conf/optimizer/adamw.yaml:2", "write ${optimizer.eps}"),
    # YAML
    edit("a key that stands twice", ADAMW, LR, "lr: 0.1\n" + LR, "lr", "conf/optimizer/adamw.yaml:3", "delete one of the two lines"),
    edit("a number with a leading zero", TRAINER, "batch_size: 32 ", "batch_size: 032 ", "trainer.batch_size", "conf/trainer/default.yaml:3", "write 32", got="26"),
    edit("a number with a colon", TRAINER, "max_epochs: 40 ", "max_epochs: 1:30 ", "trainer.max_epochs", "conf/trainer/default.yaml:1", 'or "1:30"', got="90"),
    edit("a tab", TRAINER, "max_epochs: 40", "\tmax_epochs: 40", "", "conf/trainer/default.yaml:1", "mend the line"),
    edit("a list instead of keys", TRAINER, "max_epochs: 40", "- max_epochs: 40", "", "conf/trainer/default.yaml", "mend the line"),
    edit("a Python object", TRAINER, "monitor: accuracy", "monitor: !!python/name:os.system", "", "conf/trainer/default.yaml:13", "mend", got="python"),
    # Hydra's own
    line("several values for one run", "optimizer.lr=1,2", "optimizer.lr", "command line: optimizer.lr=1,2", "add --multirun"),
    line("a setting of Hydra", "hydra.run.dir=here", "hydra.run.dir", "command line: hydra.run.dir=here", "leave it out"),
    line("an override without a value", "optimizer.lr", "optimizer.lr", "command line: optimizer.lr", "mend"),
    line("an override that is not closed", "optimizer.betas=[0.9", "optimizer.betas", "command line: optimizer.betas=[0.9", "mend"),
    line("a group without an option", "trainer=null", "trainer", "command line: trainer=null", "write trainer=default"),
    edit("config.yaml without its own place", "config.yaml", "  - _self_ ", "  # ", "_self_", "conf/config.yaml", "a line of its own"),
    edit("an optional group", "config.yaml", "- tracking: files", "- optional tracking: file", "tracking", "conf/config.yaml", ""),
    edit("a search path elsewhere", "config.yaml", "defaults:\n", "hydra:\n  searchpath: [file:///tmp]\ndefaults:\n", "hydra.searchpath", "conf/config.yaml:5", "delete the line"),
    edit("Hydra's folder in the way of runs/", "config.yaml", "defaults:\n", "hydra:\n  run:\n    dir: runs\ndefaults:\n", "hydra.run.dir", "conf/config.yaml:6", "delete the line"),
    edit("a launcher in the defaults list", "config.yaml", "  - _self_", "  - override hydra/launcher: basic\n  - _self_", "hydra/launcher", "conf/config.yaml:18", "delete the line"),
    # presets
    edit("a preset that says less than it sets", "debug/overfit.yaml", "# sets: model.dropout, ", "# sets: ", "model.dropout", "conf/debug/overfit.yaml:5", "write `# sets: model.dropout, optimizer.weight_decay, trainer.keep_weights`"),
    edit("a preset without its header", "debug/two_steps.yaml", "# @package _global_\n", "", "debug", "conf/debug/two_steps.yaml", "delete debug")._replace(overrides=("debug=two_steps",)),
)
# fmt: on


def test_the_table_has_at_least_sixty_wrong_configs() -> None:
    assert len(WRONG) >= 60
    assert len({wrong.name for wrong in WRONG}) == len(WRONG)


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.name for wrong in WRONG])
def test_a_wrong_config_is_refused_by_key_file_and_fix(wrong: Wrong, tmp_path: Path) -> None:
    conf = Conf(tmp_path)
    for file, old, new in wrong.edits:
        conf.replace(file, old, new)
    refusal = conf.refusal(*wrong.overrides)
    assert wrong.key in refusal.where
    assert wrong.key in f"{refusal.what} {refusal.where}"
    assert wrong.place in refusal.where
    assert wrong.fix in refusal.fix
    assert wrong.got in refusal.got
    assert refusal.expected
    assert str(tmp_path) not in str(refusal)


@pytest.mark.parametrize("shape", ["thousands", "doubling", "circle"])
def test_defaults_lists_that_name_too_many_files_are_refused_before_they_are_followed(
    tmp_path: Path, shape: str
) -> None:
    conf = Conf(tmp_path)
    group = conf.folder / "many"
    group.mkdir()
    names = {
        "thousands": ["0"] * 3000,
        "doubling": ["1", "1"],
        "circle": ["0"],
    }[shape]
    for number in range(40):
        following = [str(number + 1)] * 2 if shape == "doubling" and number < 39 else []
        named = names if number == 0 else following
        (group / f"{number}.yaml").write_text(
            "defaults:\n" + "".join(f'  - "{n}"\n' for n in named)
        )
    conf.replace("config.yaml", "defaults:\n", 'defaults:\n  - many: "0"\n')
    refusal = conf.refusal()
    assert refusal.what == "the defaults lists name too many files"
    assert refusal.fix == "name each file once"

"""Whatever torch.nn and torch.optim accept goes the whole road with the right numbers, or is
refused by name.

The road: train, killed in the middle of a step, continued by the same command; trained again in one
go, with the same outcome; evaluated again; its predictions made again by `predict`; its model
restored. Where it is cheap the weights are those of a plain loop of PyTorch, bit for bit.
"""

import importlib.util
import itertools
import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, copy_project, warm
from lab import Attempt

from saigen.config.compose import compose
from saigen.digest import digest_file
from saigen.training.optimizer import ELEMENTWISE

ZOO = Path(__file__).parent / "zoo"
STEPS, KILLED_IN, BATCH = 9, 6, 16
COMMON = (
    "task._target_=project.zoo_models.KilledInStep",
    "scheduler=constant",
    f"trainer.batch_size={BATCH}",
    f"trainer.max_steps={STEPS}",
    "trainer.eval_batch_size=128",
    "trainer.max_grad_norm=null",
    "trainer.keep_weights=last",
    "tracking.checkpoint_every_steps=2",
    "tracking.trace_flush_steps=3",
)
TENSORS = "trainer.parameter_layout=tensors"
QUARTERS = "trainer.microbatches=4"

# --------------------------------------------------------------- modules: class or name in the zoo

PLAIN = (  # also equal to a plain loop of PyTorch, bit for bit
    "plain", "Tied", "TiedToEmbedding", "SharedModule", "SharedBuffer", "Frozen", "FrozenHalf",
    "Complex", "ComplexDouble", "Scalar", "Empty", "ChannelsLast", "Transposed", "Sliced",
    "Double", "TwoTypes", "WeightNorm", "SpectralNorm", "OldSpectralNorm", "OwnParametrization",
    "Pruned", "CarriedState", "Lists", "Recomputed", "Hooked", "RenamedInStateDict",
    "LooksBack", "RunningMinimum", "Assigned", "NotPersistent", "Grows", "FromNone", "ToNone",
    "Bools", "Changes", "LateBuffer", "ExtraState", "embedding_padding", "embedding_bag",
    "embedding_scaled", "batch_norm", "batch_norm_cumulative", "batch_norm_untracked", "norms",
    "instance_norm", "embedding_max_norm", "fake_quantize", "minimum_observer",
    "histogram_observer", "traced", "data_parallel", "averaged",
)  # fmt: skip
OTHERS = (  # that draw, round otherwise, or a plain loop refuses
    "Expanded", "Orthogonal", "embedding_sparse", "Lazy", "lstm", "lstm_projected",
    "gru_bidirectional", "rnn_dropout", "multihead", "encoder_layer", "dropout", "compiled_part",
)  # fmt: skip
QUICK = ("Tied", "Grows", "ExtraState")
NEIGHBOURS = "the predictions for a row depend on the other rows of its batch"
CHANGES = "evaluation changes the model's state"
SAID = {  # of these; of others nothing
    "batch_norm_untracked": (NEIGHBOURS,),
    "fake_quantize": (NEIGHBOURS, f"{CHANGES} ('middle.0.activation_post_process.max_val'"),
    "minimum_observer": (f"{CHANGES} ('middle.0.max_val'",),
    "histogram_observer": (f"{CHANGES} ('middle.0.histogram'",),
    "embedding_max_norm": (f"{CHANGES} ('embed.weight'), as observers",),
}

MODULES = [
    *((name, (), name in PLAIN) for name in (*PLAIN, *OTHERS)),
    *(
        (name, (TENSORS,), True)
        for name in ("Tied", "Complex", "ChannelsLast", "Empty", "Scalar", "Halves")
    ),
    *((name, (QUARTERS,), False) for name in ("batch_norm", "Minima", "SpectralNorm", "Pruned")),
]

# ------------------------------------------------- what is refused: overrides, and what it says

DISAGREE = (
    "the microbatches of a step disagree on a buffer",
    "where:    model, 'seen'",
    "set trainer.microbatches=1",
    "microbatch_reduction = {'seen': 'mean'}",
)
CHANGED = "the model changed its parts while it trained"
UNTRAINED = "the loss depends on a parameter that is not the model's: nobody trains it"
HELD = "there is state that a checkpoint cannot hold"
SCRIPT = "a part of the model is a program of TorchScript, which holds its tensors itself"
IN_THE_FIRST_STEP = ("GradientsToNone", "Undeclared", "Bools", "Grows")  # others before it
REFUSED_MODULES = {
    "Thawed": ((), (CHANGED, "trainable first.bias", "with frozen: STEP")),
    "FrozenLater": ((), (CHANGED, "frozen first.bias")),
    "LateParameter": ((), (CHANGED, "trainable late", "in the constructor")),
    "LatePersistentBuffer": ((), (CHANGED, "buffer late")),
    "LazyUnreached": ((), ("a lazy module has no shape after a forward pass", "'nobody.weight'")),
    "SharingMemory": ((), ("share memory without being one", "'copy' and 'first.weight'")),
    "SharingRows": ((), ("share memory without being one", "'first.weight' and 'rows'")),
    "OnMeta": ((), ("cannot hold", "model, 'far.weight'", "on the meta device")),
    "SparseWeights": ((), ("cannot hold", "model, 'far'", "sparse_coo")),
    "OwnKindOfTensor": ((), ("cannot hold", "model, 'far'", "Mine")),
    "NothingToTrain": ((), ("the model has nothing to train", "unfreeze something")),
    "Replaced": ((), ("left the flat memory", "'last.weight'", "change it in place")),
    "GradientsToNone": ((), ("left the flat memory", "zero gradients in place")),
    "ExtraStateNobodyCanHold": (
        (),
        ("cannot hold", "where:    _extra_state.what", "got:      set"),
    ),
    "Undeclared": ((QUARTERS,), DISAGREE),
    "Bools": ((QUARTERS,), DISAGREE),
    "Grows": ((QUARTERS,), ("a buffer changed its form", "'seen'", "(1, torch.float32)")),
    "scripted": ((), (SCRIPT, "where:    model, 'middle.0'", "RecursiveScriptModule of Seq")),
    "jit_traced": ((), (SCRIPT, "where:    model, 'middle.0'", "put the module itself there")),
    "quantized": ((), (HELD, "_packed_params.0", "got:      Tensor, strided, quantized")),
    "HiddenLayers": (
        (),
        (UNTRAINED, "where:    model.layers.0.weight (src/project/zoo_models.py:"),
    ),
    "HiddenLeaf": ((), (UNTRAINED, "model.scale", "got:      a Tensor (12,) that wants")),
    "plain": (
        ("task._target_=project.zoo_models.Centers",),
        (UNTRAINED, "task.centers.weight (src/project/zoo_models.py:", "register it in the model"),
    ),
    "Tied": (
        ("task._target_=project.zoo_models.Counting",),
        ("the loss changes a buffer of the task", "task.norm.running_mean", "evaluation mode"),
    ),
    "MeanOfWhole": ((QUARTERS,), ("no such rule for a buffer", "got:      'mean'", "torch.int64")),
}

# ------------------------------------------------------------ optimizers of the project's own

FLAT_OPTIMIZERS = ("no_decay_for_vectors", "other_rates", "last_only", "sgd_with_momentum")
OPTIMIZERS = (
    *FLAT_OPTIMIZERS, "rate_in_a_tensor", "with_a_hook", "with_a_step_of_its_own", "CountsInGroups",
    "TensorsInGroups", "Rebinds", "OwnAttributes", "Nested", "NumPyState", "StateByName",
    "Aliased", "Lookahead", "ScheduleFree", "Decorated", "Heir",
)  # fmt: skip
HIDDEN = "the loss of the same rows, weights and random numbers is another one the second time"
HIDING = {  # what goes through is not what goes on after a kill, and that is said
    ("model.name=CountsInAttribute",): "'model.calls' changed",
    ("model.name=KeepsHidden",): "'model.hidden' changed",
    ("model.name=OwnGenerator",): "'model.own' changed",
    ("task._target_=project.zoo_models.Annealed",): "'task.passes' changed",
}
MADE_AGAIN = (  # in another worktree, by `rerun`
    *((f"model.name={name}",) for name in ("Tied", "Lazy", "ExtraState", "Grows")),
    ("optimizer.name=no_decay_for_vectors",),  # groups
    *(
        (f"optimizer.name={name}", TENSORS)
        for name in ("CountsInGroups", "Rebinds", "ScheduleFree")
    ),
)
REFUSED_OPTIMIZERS = {
    "Unholdable": (HELD, ".ids", "got:      set"),
    "UnholdableAttribute": (HELD, ".what", "got:      object"),
    "MasterWeights": (HELD, "an entry for a tensor that is not a parameter of the model"),
    "KeepsGradient": ("share memory", "a part of the memory of the gradients", "clone"),
    "KeepsRows": ("two parts of the state share memory", ".rows", "clone one of them"),
    "WantsClosure": ("could not take its step", "AssertionError: this optimizer wants a closure"),
    "NoRate": ("a group without a learning rate", "give the optimizer a learning rate"),
    "OwnRate": ("changes its learning rates or groups itself", "under another key than `lr`"),
    "NewGroup": ("changes its learning rates or groups itself", "make all groups in the beginning"),
    "NotAnOptimizer": ("cannot be stepped here", "got:      NotAnOptimizer"),
}

# ------------------------------------------------------------ every class of torch.optim

CANNOT = "this optimizer cannot be stepped here"
ONLY_MATRICES = "Muon only supports 2D parameters"
TORCH_OPTIM = {  # how it goes under flat, and with tensors: ... is the whole road
    **dict.fromkeys(sorted(ELEMENTWISE), (..., ...)),
    "Adafactor": ("it must see the model's own tensors", ...),
    "Muon": (ONLY_MATRICES, ONLY_MATRICES),
    "LBFGS": ("it must see the model's own tensors", "call optimizer.step(closure)"),
    "SparseAdam": (CANNOT, CANNOT),
}
VARIANTS = {
    "AdamW": ({"fused": True}, {"foreach": True}, {"amsgrad": True}, {"maximize": True}),
    "SGD": ({"fused": True, "momentum": 0.9}, {"nesterov": True, "momentum": 0.9}),
    "Adagrad": ({"initial_accumulator_value": 0.5, "lr_decay": 0.1}, {"fused": True}),
    "NAdam": ({"decoupled_weight_decay": True, "foreach": True},),
    "RMSprop": ({"centered": True, "momentum": 0.5},),
}


class Zoo:
    """A project with the zoo in it, and what is done there."""

    def __init__(self, root: Path, prepared: Path) -> None:
        self.project, self.root, self.count = copy_project(root), root, 0
        for name in (".gitignore", ".dvc/.gitignore"):
            shutil.copyfile(ROOT / name, root / name)
        shutil.copytree(prepared, root / "prepared")
        for kind in ("models", "optimizers"):
            shutil.copyfile(ZOO / f"{kind}.py", root / f"src/project/zoo_{kind}.py")
        self.write("model/zoo", {"_target_": "project.zoo_models.build", "name": "plain"})
        name = "sgd_with_momentum"
        self.write("optimizer/zoo", {"_target_": "project.zoo_optimizers.build", "name": name})

    def commit(self) -> None:
        """Put all of it into git, from which runs are made again."""
        shutil.copytree(ROOT / ".dvc/snapshots", self.root / ".dvc/snapshots")
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
        for command in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-qm", "Begin")):
            done = self.project.run("git", *command)
            assert done.returncode == 0, done.stderr

    def write(self, name: str, values: dict) -> None:
        (self.root / f"conf/{name}.yaml").write_text(json.dumps(values))

    def config(self, *overrides: str):
        every = ("model=zoo", "optimizer=zoo", *COMMON, *overrides)
        return compose(every, self.root / "conf"), every

    def verb(self, *argv: str, composed: Path | None = None, **env: str) -> tuple[int, str]:
        self.count += 1
        log = self.root / f"log-{self.count}"
        pid = warm().start(list(argv), self.root, env, log, composed=composed)
        [code] = Attempt({pid: log}).codes()
        return code, log.read_text()

    def train(self, *overrides: str, **env: str) -> tuple[int, str]:
        composition, every = self.config(*overrides)
        path = self.root / "composed"
        held = {"values": composition.values, "overrides": composition.overrides}
        path.write_text(json.dumps(held))
        return self.verb("train", *every, composed=path, **env)

    def done(self, *argv: str) -> str:
        code, text = self.verb(*argv)
        assert code == 0, text
        return text

    def warnings(self, folder: Path) -> list[str]:
        return json.loads((folder / "record.json").read_text())["metadata"]["training"]["warnings"]

    def newest(self) -> tuple[Path, dict]:
        path = max(self.root.glob("runs/*/record.json"), key=lambda p: p.stat().st_mtime_ns)
        return path.parent, json.loads(path.read_text())

    def resumed(self, *overrides: str) -> tuple[Path, dict]:
        """Train, be killed in the middle of a step, and go on; folder and record of the run."""
        code, text = self.train(*overrides, ZOO_KILLED_IN=str(self.passes(overrides)))
        assert code == -signal.SIGKILL, text
        code, text = self.train(*overrides)
        assert code == 0, text
        folder, record = self.newest()
        assert record["metadata"]["training"]["steps"] == STEPS - 4
        return folder, record

    def walk(self, *overrides: str) -> Path:
        """Go the whole road; returns the run folder."""
        folder, resumed = self.resumed(*overrides)
        shutil.move(folder, self.root / f"resumed-{self.count}")
        code, text = self.train(*overrides)
        assert code == 0, text
        folder, whole = self.newest()
        assert whole["metadata"]["training"]["steps"] == STEPS
        assert whole["outcome"] == resumed["outcome"]
        warnings = whole["metadata"]["training"]["warnings"]
        assert warnings == resumed["metadata"]["training"]["warnings"]  # kept over the kill
        self.done("evaluate", folder.name)
        self.predict(folder, alone=any(NEIGHBOURS in text for text in warnings))
        self.done("restore", folder.name, "--to", f"restored-{self.count}")
        restored = self.root / f"restored-{self.count - 1}/weights.safetensors"
        assert digest_file(restored) == whole["outcome"]["weights"]["sha256"]
        return Path(shutil.move(folder, self.root / f"whole-{self.count}"))

    def predict(self, folder: Path, *, alone: bool) -> None:
        """The recorded predictions come again from all rows of the snapshot, or, where a row
        depends on those beside it, from the evaluated ones alone.
        """
        source, recorded = "data/digits.csv", (folder / "predictions.csv").read_text().splitlines()
        if alone:
            head, *lines = (self.root / source).read_text().splitlines(keepends=True)
            line = {text.split(",")[0]: text for text in lines}
            source = f"evaluated-{self.count}.csv"
            chosen = [line[text.split(",")[0]] for text in recorded[1:]]
            (self.root / source).write_text(head + "".join(chosen))
        self.done("predict", str(folder / "model"), source, "--out", "predicted.csv")
        predicted = (self.root / "predicted.csv").read_text().splitlines()
        assert predicted == recorded if alone else set(recorded) <= set(predicted)

    def passes(self, overrides: tuple[str, ...]) -> int:
        return KILLED_IN * (4 if QUARTERS in overrides else 1)

    def refused(self, *overrides: str, before_any_step: bool = True) -> str:
        env = {"ZOO_KILLED_IN": "1"} if before_any_step else {}  # ends the first backward pass
        code, text = self.train(*overrides, **env)
        assert code == 2, text
        assert "Traceback" not in text
        return text


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, _prepared_once):
    brought("models"), brought("optimizers")  # composing looks at signatures in this process
    yield Zoo(tmp_path_factory.mktemp("zoo") / "project", _prepared_once)
    for name in ("zoo_models", "zoo_optimizers"):
        sys.modules.pop(f"project.{name}", None)


def brought(name: str):
    """A module of the zoo, as the project has it, in this process."""
    full = f"project.zoo_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, ZOO / f"{name}.py")
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


def plain_loop(zoo, model_name: str, optimizer_name: str) -> dict[str, torch.Tensor]:
    """The weights that a loop of plain PyTorch gives; a division by 16 rounds nothing."""
    from saigen.data.order import Order
    from saigen.data.orders import Permuted
    from saigen.streams import Streams

    config = zoo.config()[0].config
    streams = Streams(config.randomness.streams)
    arrays = {n: np.load(zoo.root / f"prepared/train/{n}.npy") for n in ("inputs", "targets")}
    samples = len(arrays["inputs"])
    order = Order(streams, Permuted(samples=samples, arrays=arrays), samples, 0)
    streams.set_globals("init")
    model = brought("models").build(name=model_name)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = brought("optimizers").build(parameters, name=optimizer_name)
    for step in range(STEPS):
        chosen = order.indices(step * BATCH, (step + 1) * BATCH)
        x, y = (torch.from_numpy(arrays[name][chosen]) for name in ("inputs", "targets"))
        streams.set_globals("dropout", step, 0)
        loss = torch.nn.functional.cross_entropy(model(x), y, reduction="sum") / BATCH
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: t for name, t in model.state_dict().items() if isinstance(t, torch.Tensor)}


def same_as_plain(zoo, folder: Path, model: str, optimizer: str) -> None:
    from safetensors.torch import load_file

    expected, found = plain_loop(zoo, model, optimizer), load_file(folder / "model" / WEIGHTS)
    compared = expected.keys() & found.keys()
    assert len(compared) >= 2
    for name in compared:
        wanted = expected[name]
        real = wanted.dtype == torch.complex128  # for which safetensors has no word
        assert torch.equal(found[name], torch.view_as_real(wanted) if real else wanted), name


WEIGHTS = "weights.safetensors"


def rows(table, quick=()):
    """The rows of a table as parameters: a few are quick, of the others each second one is in the
    long lists of `make test-faults`.
    """
    suites = itertools.cycle((pytest.mark.slow, pytest.mark.faults))
    return [
        pytest.param(*row, id="-".join(map(str, row[:2])), marks=())
        if row[0] in quick and row[1] in ((), None)
        else pytest.param(*row, id="-".join(map(str, row[:2])), marks=next(suites))
        for row in table
    ]


def test_the_zoo_is_large():
    assert len(MODULES) + len(REFUSED_MODULES) + len(OPTIMIZERS) + len(REFUSED_OPTIMIZERS) > 100


@pytest.mark.parametrize(("name", "more", "plain"), rows(MODULES, QUICK))
def test_a_module_goes_the_whole_road_with_the_right_numbers(zoo, name, more, plain):
    folder = zoo.walk(f"model.name={name}", *more)
    if plain:
        same_as_plain(zoo, folder, name, "sgd_with_momentum")
    said = zoo.warnings(folder)
    for text, begins in zip(said, SAID.get(name, ()), strict=True):
        assert text.startswith(begins)


@pytest.mark.parametrize(
    ("name", "more", "words"),
    rows([(name, *row) for name, row in REFUSED_MODULES.items()], ("Thawed", "SharingRows")),
)
def test_a_module_that_cannot_go_it_is_refused_by_name(zoo, name, more, words):
    before_any_step = name not in IN_THE_FIRST_STEP
    text = zoo.refused(f"model.name={name}", *more, before_any_step=before_any_step)
    for part in words:
        assert part in text


@pytest.mark.parametrize(
    ("name", "more"), rows([(name, None) for name in OPTIMIZERS], ("CountsInGroups",))
)
def test_an_optimizer_goes_the_whole_road_with_the_right_numbers(zoo, name, more):
    layout = () if name in FLAT_OPTIMIZERS else (TENSORS,)
    folder = zoo.walk(f"optimizer.name={name}", *layout)
    if name not in ("no_decay_for_vectors",):  # the fused kernel rounds a tensor's end differently
        same_as_plain(zoo, folder, "plain", name)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", HIDING, ids=" ".join)
def test_a_loss_that_hangs_on_what_no_checkpoint_keeps_is_said_with_its_attribute(zoo, chosen):
    code, text = zoo.train(*chosen, "trainer.max_steps=2")
    assert code == 0, text
    assert f"warning: {HIDDEN} ({HIDING[chosen]})" in text
    assert zoo.warnings(zoo.newest()[0])[0].startswith(HIDDEN)


@pytest.fixture(scope="module")
def committed(tmp_path_factory, _prepared_once, zoo):
    zoo = Zoo(tmp_path_factory.mktemp("committed") / "project", _prepared_once)
    zoo.commit()
    return zoo


@pytest.mark.slow
@pytest.mark.parametrize("chosen", MADE_AGAIN, ids=" ".join)
def test_an_interrupted_run_is_made_again_from_its_record(committed, chosen):
    folder, record = committed.resumed(*chosen)
    code, text = committed.verb("rerun", "--trust", folder.name)
    assert code == 0, text
    assert "identical: " in text
    assert committed.newest()[1]["outcome"] == record["outcome"]


@pytest.mark.parametrize(("name", "words"), rows(list(REFUSED_OPTIMIZERS.items())))
def test_an_optimizer_that_cannot_go_it_is_refused_by_name(zoo, name, words):
    before_any_step = name in ("UnholdableAttribute", "NoRate", "NotAnOptimizer")
    text = zoo.refused(f"optimizer.name={name}", TENSORS, before_any_step=before_any_step)
    for part in words:
        assert part in text


@pytest.mark.parametrize("name", ["CountsInGroups", "Heir", "with_a_hook"])
def test_an_optimizer_that_may_look_at_shapes_is_refused_under_flat(zoo, name):
    text = zoo.refused(f"optimizer.name={name}")
    assert "nobody knows whether this optimizer treats every element alike" in text
    assert "set trainer.parameter_layout=tensors" in text


def test_every_class_of_torch_optim_is_decided():
    classes = {n for n, c in vars(torch.optim).items() if isinstance(c, type)} - {"Optimizer"}
    assert classes == TORCH_OPTIM.keys()


def stated(name: str, **more) -> dict:
    """A class of torch.optim with all that it takes, as YAML states it."""
    import inspect

    parameters = list(inspect.signature(getattr(torch.optim, name)).parameters.values())[1:]
    values = {p.name: p.default for p in parameters}
    if "lr" in values:
        values["lr"] = 0.01
    values = {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}
    return {"_target_": f"torch.optim.{name}"} | values | more


TORCH_ROWS = [
    (name, layout, ends, {})
    for name, both in TORCH_OPTIM.items()
    for layout, ends in zip(("flat", "tensors"), both, strict=True)
] + [
    (f"{name}{number}", "flat", ..., {"name": name} | more)
    for name, variants in VARIANTS.items()
    for number, more in enumerate(variants)
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layout", "ends", "more"), TORCH_ROWS, ids=["-".join(row[:2]) for row in TORCH_ROWS]
)
def test_a_class_of_torch_optim_goes_the_whole_road_or_is_refused(zoo, name, layout, ends, more):
    more = dict(more)
    zoo.write(f"optimizer/{name}", stated(more.pop("name", name), **more))
    chosen = (f"optimizer={name}", f"trainer.parameter_layout={layout}")
    if ends is ...:
        zoo.walk(*chosen)
    else:
        # whether a loop gives a closure is known when it calls the step
        at_its_step = "closure" in ends
        assert ends in zoo.refused(*chosen, before_any_step=not at_its_step)


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_one_flat_tensor_is_to_an_elementwise_optimizer_what_many_are(name):
    def moved(shapes):
        flat = torch.linspace(-1, 1, sum(map(np.prod, shapes)), dtype=torch.float64)
        parts = [
            p.view(s) for p, s in zip(flat.split([np.prod(s) for s in shapes]), shapes, strict=True)
        ]
        parameters = [torch.nn.Parameter(part.clone()) for part in parts]
        optimizer = getattr(torch.optim, name)(parameters, lr=0.1)
        kept = []
        for step in range(3):
            for p in parameters:
                p.grad = torch.sin(p.detach() * (step + 1))
            optimizer.step()
            state = [
                v for p in parameters for v in optimizer.state[p].values() if torch.is_tensor(v)
            ]
            kept.append([v.data_ptr() for v in state])
        assert kept[0] == kept[1] == kept[2], "the trace looks at them where they were first put"
        return torch.cat([p.detach().view(-1) for p in parameters])

    many, one = moved([(3, 4), (5,), (2, 2, 2)]), moved([(25,)])
    assert torch.allclose(many, one, rtol=1e-12, atol=0)

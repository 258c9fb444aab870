"""Planted differences between two runs, and what `diff` must say of them.

A `Changed` turns the project of run A into that of run B: files patched, overrides, environment
variables, or a record of another machine edited where such a machine is not at hand.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Changed:
    name: str
    layer: str
    cause: str  # must stand in the name of the first suspect
    overrides: tuple[str, ...] = ()
    both: tuple[str, ...] = ()  # overrides of run A, too
    patches: tuple[tuple[str, str, str], ...] = ()
    data: Callable[[list[str]], list[str]] | None = None
    arrange: Callable[[Path], None] | None = None
    says: str = ""  # must stand somewhere in the answer
    place: str = ""  # where the runs must part


DATA = "src/project/data.py"
PREPARE = "src/project/prepare.py"
TASK = "src/project/task.py"
MLP = "src/project/models/mlp.py"
# Wide enough for torch to split a sum over its threads.
WIDE = ("model.hidden=2048", "trainer.max_steps=4")


def evaluated_label(rows: list[str]) -> list[str]:
    identity, label, *pixels = rows[536].split(",")
    assert identity == "digit-0535", "of the test split"
    return [*rows[:536], ",".join([identity, str(9 - int(label)), *pixels]), *rows[537:]]


def behind_a_link(root: Path) -> None:
    (root / "data").rename(root.parent / "shared")
    (root / "data").symlink_to("../shared")


def local_override(root: Path) -> None:
    (root / "conf/local").mkdir(exist_ok=True)
    (root / "conf/local/default.yaml").write_text(
        "# @package _global_\n# sets: optimizer.lr\noptimizer:\n  lr: 0.004  # tried once\n"
    )


def one_label(rows: list[str]) -> list[str]:
    parts = rows[8].split(",")
    parts[1] = str((int(parts[1]) + 1) % 10)
    return [*rows[:8], ",".join(parts), *rows[9:]]


def fourteen_labels(rows: list[str]) -> list[str]:
    changed = list(rows)
    for number in range(100, 114):
        identity, label, *pixels = rows[number].split(",")
        changed[number] = ",".join([identity, str((int(label) + 1) % 10), *pixels])
    return changed


def one_pixel(rows: list[str]) -> list[str]:
    parts = rows[3].split(",")
    parts[30] = "16" if parts[30] != "16" else "0"
    return [*rows[:3], ",".join(parts), *rows[4:]]


def another_order(rows: list[str]) -> list[str]:
    return [rows[0], *reversed(rows[1:])]


def a_row_less(rows: list[str]) -> list[str]:
    return rows[:-1]


def a_row_more(rows: list[str]) -> list[str]:
    return [*rows, "digit-9998," + rows[1].split(",", 1)[1]]


def another_id(rows: list[str]) -> list[str]:
    return [rows[0], "digit-x," + rows[1].split(",", 1)[1], *rows[2:]]


CHANGED = (
    # data
    Changed("a data file with one changed label", "data", "label of 1 row", data=one_label,
            says="digit-0007: "),
    Changed("fourteen changed labels", "data", "label of 14 rows", data=fourteen_labels,
            says="digit-0112: "),
    Changed("one pixel", "data", "pixels of 1 row", data=one_pixel, says="digit-0002: "),
    Changed("another row order", "data", "row order", data=another_order, place="forward"),
    Changed("a row that is missing", "data", "1 row missing in B", data=a_row_less),
    Changed("a row that is new", "data", "1 row new in B", data=a_row_more, says="digit-9998"),
    Changed("a renamed record", "data", "1 row", data=another_id, says="digit-x"),
    Changed("evaluation data edited", "data", "label of 1 row", data=evaluated_label,
            says="METRICS CANNOT BE COMPARED", place="evaluation"),
    Changed("a symlinked data folder, edited behind the link", "data", "label of 14 rows",
            data=fourteen_labels, arrange=behind_a_link, says="digit-0112: "),
    # config
    Changed("an override that DVC did not see", "config", "optimizer.lr", arrange=local_override,
            place="weights"),
    Changed("another learning rate", "config", "optimizer.lr", ("optimizer.lr=0.004",),
            place="weights"),
    Changed("another weight decay", "config", "optimizer.weight_decay",
            ("optimizer.weight_decay=0.02",), place="weights"),
    Changed("another optimizer", "config", "optimizer", ("optimizer=sgd",), place="weights"),
    Changed("a warm-up off by one", "config", "scheduler.warmup_steps",
            ("scheduler.warmup_steps=49",), place="weights"),
    Changed("dropout", "config", "model.dropout", ("model.dropout=0.0",), place="forward"),
    Changed("another width", "config", "model.hidden", ("model.hidden=129",),
            place="initial weights"),
    Changed("label smoothing", "config", "task.label_smoothing", ("task.label_smoothing=0.1",),
            place="forward"),
    Changed("another batch size", "config", "trainer.batch_size",
            ("trainer.batch_size=64",), place="samples"),
    Changed("another number of microbatches", "config", "trainer.microbatches",
            ("trainer.microbatches=4",)),
    Changed("no clipping", "config", "trainer.max_grad_norm",
            ("trainer.max_grad_norm=0.01",), place="gradients"),
    Changed("half precision", "config", "trainer.precision", ("trainer.precision=bfloat16",),
            place="forward"),
    Changed("one step more", "config", "trainer.max_steps",
            ("trainer.max_steps=41",)),
    Changed("a changed fill value", "config", "prepare.preparation.epsilon",
            ("prepare.preparation.epsilon=0.25",), says="prepared/"),
    Changed("another split", "config", "prepare.salt", ("prepare.salt=other",),
            says="METRICS CANNOT BE COMPARED"),
    Changed("another thread count", "config", "hardware.intra_op_threads",
            ("hardware.intra_op_threads=2",), both=WIDE),
    Changed("another instruction set", "config", "reproducibility.instruction_set",
            ("reproducibility.instruction_set=default",), says="switches.instruction_set"),
    Changed("another branch of the BLAS", "config", "reproducibility.mkl_branch",
            ("reproducibility.mkl_branch=COMPATIBLE",)),
    Changed("an unfused optimizer", "config", "optimizer.fused", ("optimizer.fused=false",),
            place="weights"),
    # code
    Changed("another activation", "code", "models/mlp.py:MLP.__init__",
            patches=((MLP, "nn.GELU()", "nn.ReLU()"),), place="forward",
            says="-            nn.GELU(),"),
    Changed("dropout left on at evaluation", "code", "models/mlp.py",
            patches=((MLP, "    def forward(",
                      "    def train(self, mode: bool = True) -> 'MLP':\n"
                      "        return super().train(True)\n\n    def forward("),),
            place="evaluation"),
    Changed("a mean where a sum belongs", "code", "task.py:Classification.loss",
            patches=((TASK, "        return total, len(outputs)",
                      "        return total / 2, len(outputs)"),), place="forward"),
    Changed("another metric", "code", "task.py:Classification.metrics",
            patches=((TASK, "math.fsum(losses) / len(losses)",
                      "math.fsum(losses) / (len(losses) - 1)"),), place="evaluation"),
    Changed("inputs scaled once more", "code", "data.py:Digits.__getitems__",
            patches=((DATA, "{name: array[indices] for",
                      "{name: array[indices] * (2 if array.ndim == 2 else 1) for"),),
            place="forward"),
    Changed("a deviation over one row less", "code", "prepare.py:Standardize.fit",
            patches=((PREPARE, "total * total) / rows", "total * total) / (rows - 1)"),),
            says="prepared/"),
    Changed("a learning-rate scheduler off by one", "code", "training/schedule.py:_warmup",
            patches=(("src/saigen/training/schedule.py", "(step + 1) / warmup_steps",
                      "(step + 2) / warmup_steps"),), place="weights"),
    Changed("an edited instrument: order", "code", "data/order.py",
            patches=(("src/saigen/data/order.py", "_BITS = 8, 6", "_BITS = 10, 6"),),
            place="samples"),
    # randomness
    Changed("another seed for the order", "randomness", "seeds.order",
            ("randomness.streams.order=1",), place="samples"),
    Changed("another seed for the weights", "randomness", "seeds.init",
            ("randomness.streams.init=1",), place="initial weights"),
    Changed("another seed for dropout", "randomness", "seeds.dropout",
            ("randomness.streams.dropout=1",), place="forward"),
)  # fmt: skip


def apply(changed: Changed, project: Any) -> None:
    """Turn the project of run A into that of run B."""
    for patch in changed.patches:
        project.patch(*patch)
    if changed.data:
        path = project.root / "data/digits.csv"
        rows = changed.data(path.read_text().splitlines())
        content = ("\n".join(rows) + "\n").encode()
        path.write_bytes(content)
        told = project.root / "data/provenance.json"
        provenance = json.loads(told.read_text())
        provenance |= {"sha256": hashlib.sha256(content).hexdigest(), "rows": len(rows) - 1}
        told.write_text(json.dumps(provenance))
    if changed.arrange:
        changed.arrange(project.root)


@dataclass(frozen=True)
class Edited:
    """Run B's environment as another machine would have recorded it."""

    name: str
    key: tuple[str, ...]  # inside the environment layer
    value: object
    cause: str


EDITED = (
    Edited("a package one patch newer", ("packages", "numpy"), "2.4.7", "packages.numpy"),
    Edited("another build of torch", ("packages", "torch"), "2.13.0+cu130", "packages.torch"),
    Edited("a CUDA library that is only here", ("packages", "nvidia-cublas-cu13"), "13.1.0",
           "packages.nvidia-cublas-cu13"),
    Edited("another BLAS", ("libraries", "blas"), "OpenBLAS 0.3.29", "libraries.blas"),
    Edited("TF32", ("switches", "allow_tf32"), True, "switches.allow_tf32"),
    Edited("nondeterministic kernels allowed", ("switches", "deterministic_algorithms"), False,
           "switches.deterministic_algorithms"),
    Edited("another instruction set in use", ("switches", "instruction_set"), "SVE256",
           "switches.instruction_set"),
    Edited("another maker of the processor", ("cpu_vendor",), "CentaurHauls", "cpu_vendor"),
    Edited("another libc", ("libc",), "glibc-2.41", "libc"),
    Edited("another Python", ("python",), "3.12.4", "python"),
    Edited("a GPU", ("gpu",), {"model": "NVIDIA H200", "capability": "9.0"}, "gpu"),
    Edited("a variable nobody remembers", ("variables", "NPY_DISABLE_CPU_FEATURES"), "AVX512F",
           "variables.NPY_DISABLE_CPU_FEATURES"),
)  # fmt: skip

"""Time a step of `exact`, trace and checkpoints on, against a bare loop and two frameworks.

    python bench/peers.py [--rounds N] [--case NAME] [--device cuda] [--steps N]

The frameworks are installed into a private folder first (bench/requirements.txt), unless they are
here. All loops run in one process under the switches of `exact` (on a GPU also under those of
`statistical`), one after the other, in another order in each round; a ratio is taken within a
round, so that what else the machine does falls out of it.
"""

import argparse
import functools
import gc
import importlib.util
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LEAST_ROUNDS = 7
# What the default looks at while it trains is left out, on all sides: validation comes once, last.
COMMON = ("trainer.validate_every_epochs=1000000", "trainer.max_epochs=1000000")
TEXT = "experiment=transformer_text"
QUICK, FAST = ("bare PyTorch", "saigen statistical"), ", fast"  # under the switches of statistical


@dataclass(frozen=True)
class Case:
    text: str
    overrides: tuple[str, ...]


CASES = {
    "digits": Case("MLP 64-128-10 (9,610 weights), batch 32", ("trainer.max_steps=1140",)),
    "transformer": Case("transformer (102,285 weights), batch 32", (TEXT, "trainer.max_steps=160")),
    "wide": Case(
        "MLP 64-8192-10 (614,410 weights), batch 32",
        ("model.hidden=8192", "trainer.max_steps=200"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--case", choices=[*CASES, "all"], default="all")
    parser.add_argument("--steps", type=int, help="of each training; the case's own number")
    chosen = parser.parse_args()
    assert chosen.rounds >= LEAST_ROUNDS, f"at least {LEAST_ROUNDS} rounds"
    os.chdir(ROOT)
    from saigen.config.compose import compose
    from saigen.environment import torch_flags as settings

    config = compose((f"hardware.device={chosen.device}",)).config
    settings.start_again_if_needed(config)
    import torch

    if not all(map(importlib.util.find_spec, ("accelerate", "pytorch_lightning"))):
        sys.path.append(private_packages())
    settings.apply(config)
    if chosen.device == "cuda":
        print(torch.cuda.get_device_name(0), end=", ")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; ", end="")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, 1 thread; {versions()}")
    for name in CASES if chosen.case == "all" else [chosen.case]:
        case = CASES[name]
        if chosen.steps:
            case = Case(case.text, (*case.overrides, f"trainer.max_steps={chosen.steps}"))
        print(f"\n{case.text}; median of {chosen.rounds} rounds (least .. most)")
        measure(case, chosen.rounds, chosen.device)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end; again: python {' '.join(sys.argv)}")


def private_packages() -> str:
    done = subprocess.run(
        [ROOT / "bench/install_peers.sh"], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


def measure(case: Case, rounds: int, device: str) -> None:
    """Time all loops of a case in turn and print a line for each."""
    import loops

    from saigen.environment import torch_flags as settings
    from saigen.training.processes import Group

    contenders: dict[str, Any] = {
        "bare PyTorch": loops.plain,
        "saigen exact": functools.partial(loops.saigen, group=Group(0, 1)),
        "Accelerate": functools.partial(loops.accelerate, batches=loops.loader),
        "Accelerate, batches indexed": functools.partial(loops.accelerate, batches=loops.direct),
        "Lightning": functools.partial(loops.lightning, batches=loops.loader),
        "Lightning, batches indexed": functools.partial(loops.lightning, batches=loops.direct),
    }
    if device == "cuda":
        fast = {name + FAST: contenders[name.replace("statistical", "exact")] for name in QUICK}
        contenders = fast | contenders
    names = list(contenders)
    with tempfile.TemporaryDirectory(dir=private()) as folder:
        works = {
            reproducibility: work_of(case, Path(folder, reproducibility), device, reproducibility)
            for reproducibility in ("exact", "statistical")
        }

        def run(name: str) -> loops.Time:
            work = works["statistical" if name.endswith(FAST) else "exact"]
            if device == "cuda":
                settings.apply(work.config)
            found: loops.Time = contenders[name](work)
            return found

        for name in names:  # first calls import and allocate
            run(name)
        times: dict[str, list[loops.Time]] = {name: [] for name in names}
        for turn in range(rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                gc.collect()
                times[name].append(run(name))
    for name in names:
        pairs = list(zip(times[name], times[names[0]], strict=True))
        clock = [mine.wall / bare.wall for mine, bare in pairs]
        processor_time = [mine.processor / bare.processor for mine, bare in pairs]
        print(f"  {name:28} {spread([1e3 * mine.wall for mine, _ in pairs], 3)} ms", end="")
        print(
            f"   clock x {spread(clock, 2)}   processor x {spread(processor_time, 2)}", flush=True
        )


def work_of(
    case: Case, folder: Path, device: str = "cpu", reproducibility: str = "exact"
) -> "loops.Work":  # noqa: F821
    """Compose a case and prepare its data, away from the project's own prepared/."""
    import loops
    import torch
    from torch.nn import functional

    from saigen.config.callables import instantiate
    from saigen.config.compose import compose
    from saigen.data.prepared import make

    folder.mkdir(exist_ok=True)
    chosen = (f"hardware.device={device}", f"reproducibility={reproducibility}")
    config = compose((*case.overrides, *COMMON, *chosen)).config
    prepared = make(config, ROOT, folder / "prepared", lambda _: None)

    def label(model, inputs, targets):  # type: ignore[no-untyped-def]
        return functional.cross_entropy(model(inputs), targets)

    def answer(model, inputs, targets):  # type: ignore[no-untyped-def]
        counted = torch.ones_like(targets, dtype=torch.bool)
        places = task.answer_characters
        counted[:, 1:] = targets[:, :-1] != task.nothing
        scores = model(inputs)[:, -places:]
        return functional.cross_entropy(
            scores.flatten(0, 1), targets.masked_fill(~counted, -1).flatten(), ignore_index=-1
        )

    task = instantiate(config.task)
    return loops.Work(
        config=config,
        prepared=prepared,
        mean_loss=answer if TEXT in case.overrides else label,
        folder=folder,
    )


def private() -> Path:
    """A folder on the disk that runs lie on, so that an fsync costs what it costs."""
    folder = ROOT / ".saigen"
    folder.mkdir(exist_ok=True)
    return folder


def spread(values: list[float], digits: int) -> str:
    middle = statistics.median(values)
    return f"{middle:7.{digits}f} ({min(values):.{digits}f} .. {max(values):.{digits}f})"


def versions() -> str:
    import accelerate
    import pytorch_lightning

    return f"Accelerate {accelerate.__version__}, Lightning {pytorch_lightning.__version__}"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()

"""Under `portable` the processor moves no bit: natively, and as processors of three other makers.

Shown under emulation, and natively on the one processor that runs this. The emulated ones have no
AVX-512; whether the real one has it is said in the record.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT, Project, copy_project
from emulator import NoEmulator, bring_emulator

from saigen.config.compose import compose
from saigen.environment.numerics_probe import moved
from saigen.environment.probe_operations import HOLE
from saigen.environment.torch_flags import environment_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

NATIVE = "native"
MODELS = ("Haswell", "Skylake-Server", "EPYC-Milan", "Dhyana")  # Intel 2013, 2017; AMD 2021; Hygon
SHORT = ("reproducibility=portable", "trainer.max_steps=10")
SMALL = ("model.width=16", "model.hidden=32", "model.blocks=1")
VERBS = (
    ("prepare", SHORT[0]),  # one environment for all, or they start again in turns for ever
    ("train", *SHORT, "model=mlp"),
    ("train", *SHORT, "model=cnn"),
    ("prepare", SHORT[0], "experiment=transformer_text"),
    ("train", *SHORT, "experiment=transformer_text", *SMALL),
)
SONG = """
import json, torch
from saigen.environment.numerics_probe import sing
from saigen.environment.optimizer_step import leave_the_compiler_out
leave_the_compiler_out()
torch.set_num_threads(1)
has = torch.cpu.get_capabilities()
print(json.dumps({"processor": has["cpu_name"], "canary": sing("cpu", portable=False)}))
"""


class Processors:
    """Starts this interpreter on the real processor or on emulated ones, two at a time."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.settings = {
            name: environment_of(compose((f"reproducibility={name}",), ROOT / "conf").config)
            for name in ("exact", "portable")
        }

    def run(self, model: str, project: Project, *words: str, reproducibility: str) -> str:
        """What a process printed that ran on a processor under a reproducibility's settings."""
        set_ = {
            name: text for name, text in self.settings[reproducibility].items() if text is not None
        }
        head = [] if model == NATIVE else [str(self.program), "-cpu", model]
        done = project.run(*head, sys.executable, *words, env=set_, timeout=1200)
        assert done.returncode == 0, f"{model}: {done.stdout}\n{done.stderr[-3000:]}"
        return done.stdout

    def each(self, work, models=(NATIVE, *MODELS)) -> dict:
        """What `work` gives for each processor."""
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(models, pool.map(work, models), strict=True))


@pytest.fixture(scope="module")
def processors() -> Processors:
    try:
        return Processors(bring_emulator(ROOT / ".saigen/qemu"))
    except NoEmulator as reason:
        pytest.skip(f"NOT CHECKED, no processor can be emulated here: {reason}")


def sung(processors: Processors, reproducibility: str, *models: str) -> dict:
    def song(model: str) -> dict:
        return json.loads(
            processors.run(model, Project(ROOT), "-c", SONG, reproducibility=reproducibility)
        )

    return processors.each(song, models)


def test_every_shipped_model_trains_to_the_same_bits_on_every_processor(processors, tmp_path):
    def trained(model: str) -> dict[str, tuple[str, str, str]]:
        project = copy_project(tmp_path / model)
        plan = json.dumps({"verbs": VERBS})
        words = ("-m", "saigen.analysis.child", plan)
        processors.run(model, project, *words, reproducibility="portable")
        records = [json.loads(p.read_text()) for p in project.root.glob("runs/*/record.json")]
        return {
            record["recipe"]["layers"]["config"]["values"]["model"]["_target_"]: (
                record["outcome"]["weights"]["sha256"],
                record["outcome"]["digest"],
                record["recipe"]["digest"],
            )
            for record in records
        }

    found = processors.each(trained)
    assert len(found[NATIVE]) == 3
    for model in MODELS:
        assert found[model] == found[NATIVE], model


def test_under_portable_only_the_square_roots_that_it_refuses_move(processors):
    songs = sung(processors, "portable", NATIVE, *MODELS)
    assert len({song["processor"] for song in songs.values()}) >= len(MODELS)
    here = songs[NATIVE]["canary"]["operations"]
    for model in MODELS:
        there = songs[model]["canary"]["operations"]
        assert {name for name in here if here[name] != there[name]} <= HOLE, model


def test_under_exact_the_canary_names_what_another_processor_moves(processors):
    songs = sung(processors, "exact", "EPYC-Milan", "Haswell")
    words = moved(songs["EPYC-Milan"], songs["Haswell"])
    assert words.endswith("the processor itself, or what runs below it")
    for name in ("matmul 128x256x96", "dot product", "exp", "log"):
        assert name in words

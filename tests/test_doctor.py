"""The doctor says what is here, what differs from the pins, which claims can be kept, the mends."""

import json
import sys
from pathlib import Path

import jsonschema
import pytest

from saigen.analysis.doctor import Diagnosis, diagnose, diagnosis_text
from saigen.analysis.schemas import schema
from saigen.analysis.system_info import Here

SOUND = Here(
    system="Debian GNU/Linux 12 (bookworm), kernel 6.1",
    architecture="Linux x86_64",
    python="3.11.13",
    container="sha256:1234",
    processor="Some Processor",
    processor_flags=["avx", "avx2"],
    processors=4,
    drift=[],
    lock="docker/lock-cuda.txt",
    torch="2.13.0",
    torch_problem="",
    mkl=True,
    gloo=True,
    gpu="NVIDIA H100",
    driver="580.65.06",
    cuda="13.0",
    cuda_usable=True,
    engine="docker 26.1",
    remote="snapshots",
    remote_problem="",
    commit="1" * 40,
    git_problem="",
    uncommitted=0,
    free_bytes=50 << 30,
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SAIGEN_ENVIRONMENT", raising=False)  # in the image the mend is another
    (tmp_path / "Dockerfile").write_text(
        "ARG CUDA_BASE=cuda:13@sha256:12\nARG CPU_BASE=python:3@sha256:34\n"
        "ARG PYTHON_VERSION=3.11.13\n"
    )
    return tmp_path


def changed(**values) -> Here:
    return SOUND.model_copy(update=values)


def test_in_the_image_on_a_machine_with_a_gpu_every_claim_can_be_kept(root):
    found = diagnose(SOUND, root)
    assert found.sound
    assert found.mismatches == []
    assert "as pinned" in diagnosis_text(found)


@pytest.mark.parametrize(
    ("here", "lost", "why", "mend"),
    [
        (changed(drift=["tqdm 4 is not installed"]), {"exact", "portable"}, "not the one that is "
         "locked", "make .venv"),
        (changed(torch="", torch_problem="No module named 'torch'", mkl=False, gloo=False, cuda="",
                 cuda_usable=False),
         {"exact", "portable", "statistical", "processes", "cuda"}, "No module named 'torch'",
         "make .venv"),
        (changed(architecture="Linux aarch64"), {"exact", "portable"}, "this is Linux aarch64",
         "make in-container"),
        (changed(processor_flags=["avx"]), {"portable"}, "no AVX2", "another machine"),
        (changed(mkl=False), {"portable"}, "no MKL that tells its branch", "make .venv"),
        (changed(gloo=False), {"processes"}, "no Gloo", "`lo`"),
        (changed(gpu="", driver="", cuda_usable=False), {"cuda"}, "finds no GPU", "a machine with"),
        (changed(driver="570.1"), {"cuda"}, "driver is 570.1", "580 line or newer"),
        (changed(cuda="", cuda_usable=False), {"cuda"}, "without CUDA", "VARIANT=cuda"),
        (changed(cuda_usable=False), {"cuda"}, "cannot use the GPU", "torch.zeros(1).cuda()"),
        (changed(commit="", git_problem="not a git repository"), {"rerun"},
         "not a git repository", "git init"),
        (changed(remote_problem="it lacks data"), {"rerun"}, "remote snapshots: it lacks data",
         "dvc push"),
        (changed(free_bytes=10**9), {"exact", "portable", "statistical", "rerun"}, "1.0 GB are",
         "dvc gc"),
    ],
)  # fmt: skip
def test_what_is_in_the_way_of_which_claim_is_said_with_its_mend(root, here, lost, why, mend):
    found = diagnose(here, root)
    assert not found.sound
    assert {prospect.claim for prospect in found.capabilities if not prospect.possible} == lost
    for prospect in found.capabilities:
        if not prospect.possible:
            assert why in prospect.why[0]
            assert mend in prospect.mend[0]
    text = diagnosis_text(found)
    assert f"  NO  {min(lost)}" in text
    assert why in text


def test_what_differs_from_the_pins_is_said_with_both_values(root):
    here = changed(container="none", python="3.11.2", drift=["tqdm is 4 instead of 5"], cuda="")
    told = {gap.what: (gap.here, gap.pinned) for gap in diagnose(here, root).mismatches}
    assert told == {
        "system": (SOUND.system, "python:3"),
        "python": ("3.11.2", "3.11.13"),
        "environment": ("tqdm is 4 instead of 5", "docker/lock-cuda.txt"),
    }
    assert "python: 3.11.2; pinned: 3.11.13" in diagnosis_text(diagnose(here, root))


def test_here_and_now_it_answers_with_one_document_and_its_exit_code(project):
    done = project.run(sys.executable, "-m", "saigen", "doctor", "--json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema("doctor-1"))
    assert document.pop("schema") == "saigen-doctor-1"
    found = Diagnosis.model_validate(document)
    assert done.returncode == (0 if found.sound else 1)
    capabilities = {prospect.claim: prospect for prospect in found.capabilities}
    assert capabilities["exact"].possible == (found.here.drift == [] and found.here.torch != "")
    # a copy without git and without the folder that is its remote
    assert not capabilities["rerun"].possible
    assert any("not a git repository" in why for why in capabilities["rerun"].why)
    assert any(
        "snapshot cannot be had from DVC's remote" in why for why in capabilities["rerun"].why
    )

"""The same promises on one CUDA device. Skipped, and said so, where there is none; measured with
`tools/gpu_check.sh` (docs/gpu.md).
"""

import json
import signal

import pytest
import torch
from lab import SHORT, wait_for
from torch.nn import functional as F

from saigen.environment.numerics_probe import sing
from saigen.errors import Refusal
from saigen.training import nondeterminism
from saigen.training.fingerprint import BLOCK, Fingerprint
from saigen.training.processes import _backend
from saigen.training.ranks import Launched

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="there is no CUDA device (tools/gpu_check.sh)"
    ),
]
CUDA = (*SHORT, "hardware=cuda")
MODELS = {
    "mlp": (),
    "cnn": ("model=cnn",),
    "cnn_augmented": ("experiment=cnn_augmented",),
    "transformer": ("experiment=transformer_text",),
}


@pytest.fixture(scope="module")
def expected():
    """The outcome of each model without workers, uninterrupted; made once."""
    made: dict[str, str] = {}

    def of(lab, model: str) -> str:
        if model not in made:
            made[model] = lab.train((*CUDA, *MODELS[model]))["outcome"]["digest"]
        return made[model]

    return of


@pytest.mark.timeout(900)
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("model", MODELS)
def test_workers_and_kills_leave_no_mark(request, expected, model, workers, killed):
    lab = request.getfixturevalue("text_lab" if model == "transformer" else "lab")
    digest = expected(lab, model)
    overrides = (*CUDA, *MODELS[model])
    if killed:
        lab.interrupt(overrides, after=8, rank=0, workers=workers)
    record = lab.train(overrides, workers=workers)
    assert record["outcome"]["digest"] == digest
    assert len(record["metadata"]["continued"]) == killed


@pytest.mark.timeout(900)
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("model", MODELS)
def test_processes_that_share_the_device_leave_no_mark(request, expected, model, processes):
    lab = request.getfixturevalue("text_lab" if model == "transformer" else "lab")
    record = lab.train((*CUDA, *MODELS[model]), processes=processes)
    assert record["outcome"]["digest"] == expected(lab, model)
    assert record["metadata"]["training"]["processes"] == processes


@pytest.mark.parametrize("microbatches", [1, 2, 4])
@pytest.mark.parametrize("model", ["cnn_augmented", "transformer"])
def test_each_number_of_microbatches_gives_its_bits_twice(request, model, microbatches):
    lab = request.getfixturevalue("text_lab" if model == "transformer" else "lab")
    overrides = (*CUDA, *MODELS[model], f"trainer.microbatches={microbatches}")
    assert twice(lab, overrides) == 1


FAST = ("reproducibility.allow_tf32=true", "reproducibility.float32_matmul_precision=high")


@pytest.mark.parametrize(
    "changed",
    [
        FAST,
        ("trainer.precision=bfloat16",),
        ("trainer.precision=bfloat16", "reproducibility.allow_reduced_precision_reduction=true"),
        ("trainer.parameter_layout=tensors",),
        ("tracking.trace_depth=tensor",),
        (
            "reproducibility=statistical",
            "reproducibility.deterministic_algorithms=true",
            "reproducibility.cudnn_benchmark=false",
            "reproducibility.cudnn_deterministic=true",
        ),
    ],
)
@pytest.mark.parametrize("model", ["cnn_augmented", "transformer"])
def test_what_costs_precision_costs_no_bit_from_run_to_run(request, model, changed):
    lab = request.getfixturevalue("text_lab" if model == "transformer" else "lab")
    assert twice(lab, (*CUDA, *MODELS[model], *changed)) == 1


def test_sgd_gives_its_bits_twice(lab):
    assert twice(lab, (*CUDA, "model=cnn", "optimizer=sgd")) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_asked_to_stop_it_saves_and_goes_on_with_the_same_bits(lab, expected, processes):
    digest, changed = expected(lab, "cnn"), (*CUDA, *MODELS["cnn"])
    attempt = lab.start(changed, processes=processes)
    wait_for(lambda: attempt.ended or lab.steps() >= 8, every=0.002)
    attempt.kill(signal.SIGTERM)
    assert attempt.codes() == [143] * processes, attempt.log()
    record = lab.train(changed, processes=processes)
    assert record["outcome"]["digest"] == digest
    assert len(record["metadata"]["continued"]) == 1


@pytest.mark.timeout(900)
def test_a_compiled_model_gives_its_bits_twice(lab):
    assert twice(lab, (*CUDA, "model=cnn", "hardware.compile=true", "trainer.max_steps=10")) == 1


def twice(lab, overrides) -> int:
    """How many outcomes two runs have."""
    records = [lab.train(overrides) for _ in range(2)]
    assert records[0]["run"] != records[1]["run"]
    return len({record["outcome"]["digest"] for record in records})


def test_a_run_that_is_measured_again_gives_what_is_recorded(lab):
    run = lab.train((*CUDA, "model=cnn"))["run"]
    lab.project.saigen("evaluate", run)  # a Failure where a bit differs


def test_more_processes_than_devices_are_refused_where_nobody_tells_that_they_share():
    devices = torch.cuda.device_count()
    with pytest.raises(Refusal) as refused:
        _backend(Launched(devices, devices + 1, devices, None), "cuda")
    assert "there are fewer CUDA devices than processes on this machine" in str(refused.value)
    assert f"below {devices}, the number of devices" in str(refused.value)
    assert _backend(Launched(devices, devices + 1, devices, devices + 1), "cuda") == "gloo"
    assert _backend(Launched(0, devices, 0, devices), "cuda") == "nccl"


def test_the_device_and_its_libraries_are_recorded(lab):
    record = lab.train(CUDA)
    environment = json.dumps(record["recipe"]["layers"]["environment"])
    assert torch.cuda.get_device_name(0) in environment
    assert record["recipe"]["layers"]["environment"]["canary"]["operations"]


def test_the_canary_sings_the_same_twice_and_fast():
    first = sing("cuda", portable=False)
    assert len(first["operations"]) > 60
    assert sing("cuda", portable=False) == first


@pytest.mark.parametrize("signs", [False, True])
def test_the_fingerprint_is_that_of_the_host(signs):
    tensor = torch.randn(2 * BLOCK + 32)
    here = Fingerprint([tensor], salt=5)
    there = Fingerprint([tensor.cuda()], salt=5)
    assert there.read(signs=signs) == here.read(signs=signs)


MLP = "src/project/models/mlp.py"
REFUSED_LAYERS = {  # the layer in place of GELU, its path, the operation, and what may replace it
    "adaptive pooling": (
        "nn.Sequential(nn.Unflatten(1, (2, 8, 8)), nn.AdaptiveAvgPool2d(8), nn.Flatten())",
        "layers.1.1", "adaptive_avg_pool2d_backward_cuda", "a fixed kernel_size and stride",
    ),
    "upsampling": (
        "nn.Sequential(nn.Unflatten(1, (2, 8, 4)), nn.Upsample(size=(8, 8), mode='bicubic'), "
        "nn.AvgPool2d((2, 1)), nn.Flatten())",
        "layers.1.1", "upsample_bicubic2d_backward_out_cuda", "mode='nearest' on the way up",
    ),
    "padding": (
        "nn.Sequential(nn.Unflatten(1, (2, 62)), nn.ReflectionPad1d(1), nn.AvgPool1d(3, 1), "
        "nn.Flatten())",
        "layers.1.1", "reflection_pad1d_backward_out_cuda", "zeros as padding",
    ),
    "median": (
        "Odd()", "layers.1", "median CUDA with indices output", "torch.sort and the index",
    ),
}  # fmt: skip
ODD = """

class Odd(nn.Module):
    def forward(self, inputs):
        return inputs - inputs.median(1, keepdim=True).values
"""


@pytest.mark.parametrize("name", REFUSED_LAYERS)
def test_a_module_without_deterministic_kernel_is_named_by_its_path(prepared_project, name):
    layer, path, operation, replacement = REFUSED_LAYERS[name]
    file = prepared_project.root / MLP
    file.write_text(file.read_text().replace("nn.GELU()", layer) + ODD)
    hidden = "model.hidden=124" if name == "padding" else "model.hidden=128"
    hidden = "model.hidden=64" if name == "upsampling" else hidden
    said = prepared_project.refused("train", *CUDA, hidden)
    assert f"refused: the operation {operation} has no deterministic kernel" in said
    assert f"where:    {MLP}:" in said
    assert f", in module {path!r}" in said
    assert replacement in said


def ones(*shape):
    return torch.ones(shape, device="cuda")


def ctc(x):
    targets = torch.ones(2, 3, dtype=torch.long, device=x.device)
    return F.ctc_loss(x.log_softmax(-1), targets, (64, 64), (3, 3))


PLACES = torch.arange(64) % 16
MATRIX, IMAGE, VOLUME = (8, 64), (2, 4, 16, 16), (2, 4, 8, 8, 8)
# For each replacement that a refusal names: the shape of what goes in, what is refused, and what
# is proposed. One that torch no longer refuses need not be in the table.
REPLACED = {
    "max_unpool": (IMAGE, lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
                   lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
    "upsample": (IMAGE, lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
                 lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
    "grid_sampl": (IMAGE, lambda x: F.grid_sample(x, ones(2, 9, 9, 2) / 3, align_corners=False),
                   lambda x: F.conv2d(x, ones(4, 4, 3, 3))),
    "reflection_pad": (IMAGE, lambda x: F.pad(x[0], (1, 1), mode="reflect"),
                       lambda x: F.pad(x, (1, 1))),
    "pool3d": (VOLUME, lambda x: F.avg_pool3d(x, 2),
               lambda x: F.conv3d(x, ones(4, 4, 2, 2, 2), stride=2)),
    "adaptive_": (IMAGE, lambda x: F.adaptive_avg_pool2d(x, 5), lambda x: F.avg_pool2d(x, 3, 3)),
    "fractional_max_pool": (IMAGE, lambda x: F.fractional_max_pool2d(x, 2, output_ratio=(0.5, 0.5)),
                            lambda x: F.max_pool2d(x, 2)),
    "put_": (MATRIX, lambda x: x.take(PLACES.cuda()), lambda x: x.view(-1)[PLACES.cuda()]),
    "scatter": (MATRIX, lambda x: ones(16).scatter_reduce(0, PLACES.cuda(), x[0].exp(), "prod"),
                lambda x: ones(16).index_add(0, PLACES.cuda(), x[0]).exp()),
    "histc": (MATRIX, lambda x: torch.histc(x.detach(), 4, -2, 2),
              lambda x: torch.bucketize(x.detach(), torch.linspace(-2, 2, 5).cuda())),
    "bincount": (MATRIX, lambda x: torch.bincount(PLACES.cuda(), x[0].detach()),
                 lambda x: (F.one_hot(PLACES.cuda()) * x[0][:, None]).sum(0)),
    "median": (MATRIX, lambda x: x.median(1).values, lambda x: x.sort(1).values[:, 31]),
    "nll_loss2d": (IMAGE, lambda x: F.cross_entropy(x, PLACES.cuda()[:16].repeat(2, 16, 1) % 4),
                   lambda x: F.cross_entropy(x.movedim(1, -1).flatten(0, 2),
                                             PLACES.cuda()[:16].repeat(32) % 4)),
    "ctc_loss": ((64, 2, 8), ctc, lambda x: ctc(x.cpu())),
    "embedding_bag": ((16, 8), lambda x: F.embedding_bag(PLACES.cuda().view(8, 8), x, mode="max"),
                      lambda x: F.embedding(PLACES.cuda().view(8, 8), x).amax(1)),
}  # fmt: skip


@pytest.fixture
def _deterministic():
    torch._C._set_deterministic_algorithms(True)
    yield
    torch._C._set_deterministic_algorithms(False)


def gradient(operation, shape) -> torch.Tensor:
    """Of the sum of squares of what comes out; without one, what comes out."""
    generator = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(shape, device="cuda", generator=generator).requires_grad_()
    out = operation(x)
    if out.requires_grad:
        out.square().sum().backward()
        return x.grad
    return out


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("name", REPLACED)
def test_what_is_refused_gets_a_replacement_that_works(name):
    shape, refused, replacement = REPLACED[name]
    with pytest.raises(RuntimeError, match="does not have a deterministic") as error:
        gradient(refused, shape)
    operation = nondeterminism._REFUSED.match(str(error.value))[1]
    assert next(part for part in nondeterminism._REPLACEMENTS if part in operation) == name
    first = gradient(replacement, shape)
    assert torch.equal(first, gradient(replacement, shape))

"""The typed, frozen form of a composed config: every key, its type, range, unit and meaning.

Below the command line nothing else is passed around: no ``DictConfig``, no string keys. A
`Call` is a node with a ``_target_``; its arguments are checked against the callee's own
signature (`config/callables.py`), so they have no fields here.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
# The loop draws from these and from no other.
STREAMS = ("init", "order", "dropout", "augment", "evaluation")
StreamName = Annotated[str, Field(pattern=f"^({'|'.join(STREAMS)})$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
ColumnName = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]*$")]


def _once(names: list[str]) -> bool:
    return 0 < len(names) == len(set(names))


class Section(BaseModel):
    """A group of keys: strict types, no unknown key, no change after composition."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Call(BaseModel):
    """A callable by its import path, and every argument that YAML states for it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    target: str
    arguments: Mapping[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _from_node(cls, node: Any) -> Any:
        if not isinstance(node, dict) or "_target_" not in node:
            raise ValueError("a mapping with a `_target_` is needed here")
        arguments = {key: value for key, value in node.items() if key != "_target_"}
        return {"target": node["_target_"], "arguments": arguments}

    @model_serializer
    def node(self) -> dict[str, Any]:
        """The node as it stands in YAML."""
        return {"_target_": self.target, **self.arguments}

    def split(self, key: str) -> tuple[Any, "Call"]:
        """An argument (None if there is none), and the call without it."""
        rest = {name: value for name, value in self.arguments.items() if name != key}
        return self.arguments.get(key), Call.model_validate({"_target_": self.target, **rest})


class GroupRule(Section):
    """Which parameters make a group of the optimizer: by name, or by the module that holds them."""

    names: list[str] = Field(description="patterns such as *.bias")
    modules: list[str] = Field(description="types such as torch.nn.LayerNorm")
    frozen: bool | Count = Field(description="not trained at all; a number: before that step")
    options: Mapping[str, Any] = Field(description="what differs for them, such as weight_decay")


class Data(Section):
    """Which snapshot, and how a sample is read from what was prepared."""

    name: str = Field(description="what the snapshot is called in records")
    snapshot: str = Field(description="the frozen copy that data.dvc tracks, from the root")
    provenance: str = Field(description="when, from where and how it was taken, and its digest")
    train_dataset: Call = Field(description="reads a sample for training")
    evaluation_dataset: Call = Field(description="reads a sample for validation and evaluation")
    order: Call = Field(description="which training sample stands at which position of an epoch")
    fields: list[str] | None = Field(
        description="names of what a sample that is a tuple holds; null: samples are mappings"
    )
    collate: Call | None = Field(description="makes a batch of samples; null: stacks their arrays")

    @model_validator(mode="after")
    def _names_of_their_own(self) -> Self:
        if self.fields is not None and not (all(self.fields) and _once(self.fields)):
            raise ValueError(f"fields must be at least one, each once: {self.fields}")
        return self


class Fractions(Section):
    """The share of all records in each split."""

    train: Fraction = Field(description="share of records to train on")
    validation: Fraction = Field(description="share of records that pick the weights")
    test: Fraction = Field(description="share of records that are measured once, at the end")

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train, validation and test must sum to 1, not to {total:g}")
        return self


class Prepare(Section):
    """How the snapshot is split and turned into arrays."""

    salt: str = Field(description="another salt draws another split")
    fractions: Fractions = Field(description="share of records in each split")
    split: Call = Field(description="which records are in which split")
    preparation: Call = Field(description="reads, fits on the training split, transforms")


class GradScaler(Section):
    """How the loss is scaled for float16, in the words of torch.amp.GradScaler."""

    init_scale: Positive = Field(description="what the loss is multiplied by at first")
    growth_factor: Annotated[float, Field(gt=1)] = Field(description="by which the scale grows")
    backoff_factor: Fraction = Field(description="by which it shrinks at a gradient not finite")
    growth_interval: Count = Field(description="steps without one before it grows")


class Trainer(Section):
    """How long, in which batches, and which weights are kept."""

    max_epochs: Count = Field(description="passes over the training split")
    max_steps: Count | None = Field(description="stop after this many steps; null: no limit")
    batch_size: Count | Literal["all"] = Field(
        description="examples behind one update, over all processes; all: an epoch's"
    )
    last_batch: Literal["drop", "keep", "fill"] = Field(
        description="what an epoch ends with: whole batches only, the rest as a smaller one, or "
        "the rest filled up from the epoch's beginning"
    )
    microbatches: Count = Field(description="fixed slices of the batch")
    eval_batch_size: Count = Field(description="examples behind one evaluation pass")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        description="of the forward pass; float16 needs grad_scaler"
    )
    grad_scaler: GradScaler | None = Field(description="of the loss, for float16; null: none")
    max_grad_norm: Positive | None = Field(description="longest gradient; null: any")
    parameter_layout: Literal["flat", "tensors"] = Field(
        description="what the optimizer sees: one buffer, or one tensor a parameter"
    )
    validate_every_epochs: Count | None = Field(
        description="how often validation is measured; null: by validate_every_steps"
    )
    validate_every_steps: Count | None = Field(
        description="how often validation is measured; null: by validate_every_epochs"
    )
    monitor: str = Field(description="the validation metric that picks the weights")
    monitor_mode: Literal["max", "min"] = Field(description="which way the metric improves")
    nonfinite_metrics: Literal["record", "refuse"] = Field(
        description="when a metric is NaN or infinite; it is never the best"
    )
    keep_weights: Literal["best", "last"] = Field(
        description="the weights of the best validation (ties: the earliest), or the last"
    )
    stop_after_validations: Count | None = Field(
        description="stop after this many validations without improvement; null: never"
    )
    stop_at_value: Finite | None = Field(
        description="stop once the monitored metric reaches it; null: at no value"
    )
    loss_components: list[ColumnName] = Field(
        description="sums that the loss names besides: columns of history.csv"
    )
    loop: str = Field(description="the training loop, a function of config and run")

    @model_validator(mode="after")
    def _components_of_their_own(self) -> Self:
        if self.loss_components and not _once(self.loss_components):
            raise ValueError(f"loss_components must be names, each once: {self.loss_components}")
        return self

    @model_validator(mode="after")
    def _scaler_for_float16(self) -> Self:
        if (self.precision == "float16") != (self.grad_scaler is not None):
            raise ValueError(
                "precision and grad_scaler: float16 needs a scaler, and nothing else has one"
            )
        return self

    @model_validator(mode="after")
    def _one_validation_interval(self) -> Self:
        if (self.validate_every_epochs is None) == (self.validate_every_steps is None):
            raise ValueError(
                "validate_every_epochs and validate_every_steps: one of them must be a number, "
                "the other null"
            )
        return self

    @model_validator(mode="after")
    def _equal_microbatches(self) -> Self:
        if self.batch_size != "all" and self.batch_size % self.microbatches:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of "
                f"microbatches ({self.microbatches}): their shape is fixed"
            )
        return self


class Randomness(Section):
    """One seed a stream; `saigen.streams` says what a stream is."""

    seed: Seed = Field(description="the seed that streams take unless they have their own")
    streams: Mapping[StreamName, Seed] = Field(description="the seed of each stream")

    @model_validator(mode="after")
    def _instrument_streams_present(self) -> Self:
        if missing := [name for name in STREAMS if name not in self.streams]:
            raise ValueError(f"streams.{missing[0]} has no seed")
        return self


class Reproducibility(Section):
    """What "the same" means for this project, and the switches that make it so."""

    name: Literal["exact", "statistical", "portable"] = Field(description="kind of sameness")
    deterministic_algorithms: bool = Field(description="torch refuses nondeterministic kernels")
    fill_uninitialized_memory: bool = Field(description="fill fresh tensors with NaN; costly")
    cudnn_benchmark: bool = Field(description="pick convolution kernels by racing them")
    cudnn_deterministic: bool = Field(description="only deterministic cuDNN kernels")
    allow_tf32: bool = Field(description="10-bit mantissas in float32 products on CUDA")
    allow_reduced_precision_reduction: bool = Field(description="16-bit sums on CUDA")
    float32_matmul_precision: Literal["highest", "high", "medium"] = Field(
        description="of float32 matrix products"
    )
    cublas_workspace: str = Field(description="CUBLAS_WORKSPACE_CONFIG")
    python_hash_seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(description="PYTHONHASHSEED")
    instruction_set: Literal["native", "default", "avx2", "avx512"] = Field(
        description="ATEN_CPU_CAPABILITY; native: unset"
    )
    mkl_branch: str = Field(description="MKL_CBWR; native: unset")
    onednn_instruction_set: Literal[
        "native", "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE",
        "AVX512_CORE_VNNI", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX",
        "AVX512_CORE_AMX_FP16",
    ] = Field(description="ONEDNN_MAX_CPU_ISA; native: unset")  # fmt: skip
    reduction: Literal["tree", "allreduce"] = Field(description="how gradients are summed")
    environment_drift: Literal["refuse", "warn"] = Field(
        description="when what is installed is not what is locked; warn: train, and record it"
    )


class Hardware(Section):
    """Where it runs. Threads and device move bits; processes and workers do not."""

    device: Literal["cpu", "cuda"] = Field(description="where tensors live")
    intra_op_threads: Count = Field(description="threads inside one operation")
    inter_op_threads: Count = Field(description="threads between operations")
    compile: bool = Field(description="torch.compile the model")
    processes: Count = Field(description="processes that share one batch")
    loader_workers: NonNegative = Field(description="processes that read samples")
    process_timeout_seconds: Positive = Field(description="how long processes wait for each other")


class Tracking(Section):
    """What is written while it runs. Nothing here can move a bit."""

    progress_every_seconds: Positive = Field(description="seconds between progress lines")
    history_every_steps: Count = Field(description="steps between rows of history.csv")
    checkpoint_every_steps: Count = Field(description="steps between checkpoints")
    trace_flush_steps: Count = Field(description="steps between writes of the trace")
    trace_depth: Literal["step", "tensor"] = Field(
        description="fingerprints of the whole model, or of each parameter and its gradient too"
    )
    leak_watch: Literal["count", "locate"] = Field(
        description="draws outside a stream: count them, or find the first one's line (slow)"
    )
    checkpoints_kept: Count = Field(description="how many of the newest checkpoints stay")


class Comparison(Section):
    """What `saigen compare` holds two groups of runs to: chosen before they are made."""

    metric: str = Field(description="of the test split")
    mode: Literal["max", "min"] = Field(description="which way the metric improves")
    margin: Positive = Field(description="smallest difference that matters, in the metric's unit")
    seeds: Annotated[int, Field(ge=2)] = Field(description="fewest seeds in a group of runs")
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(description="of the interval")
    interval_covers: Literal["seeds", "seeds_and_examples"] = Field(
        description="seeds: on these test examples; or on others like them as well"
    )


class Inputs(Section):
    """What the project reads besides the snapshot. Its contents are in the data layer."""

    files: list[str] = Field(description="paths from the project's folder")
    folders: list[str] = Field(description="the same, with every file in them")
    variables: list[str] = Field(description="names of environment variables")
    undeclared: Literal["warn", "refuse"] = Field(
        description="when the project reads what stands nowhere; warn: say it, and record it"
    )


class Config(Section):
    """One composed config: all groups."""

    data: Data = Field(description="which snapshot, and how a sample is read")
    inputs: Inputs = Field(description="what is read besides the snapshot")
    prepare: Prepare = Field(description="from snapshot to arrays")
    task: Call = Field(description="loss, predictions, metrics")
    model: Call = Field(description="the network")
    optimizer: Call = Field(description="how weights move")
    scheduler: Call = Field(description="what multiplies the learning rate at each step")
    trainer: Trainer = Field(description="how long, in which batches, what is kept")
    randomness: Randomness = Field(description="one seed a stream")
    reproducibility: Reproducibility = Field(description='what "the same" means')
    hardware: Hardware = Field(description="device, threads, processes, workers")
    tracking: Tracking = Field(description="what is written while it runs")
    comparison: Comparison = Field(description="what two groups of runs are held to")


# Keys that leave no mark on the bits. They are recorded with the metadata and enter no
# recipe digest: how often a run was saved, shown or shared is not part of what it is.
METADATA = (
    "inputs",
    "tracking",
    "comparison",
    "hardware.processes",
    "hardware.loader_workers",
    "hardware.process_timeout_seconds",
    "reproducibility.environment_drift",
)

# Keys that a later version of the template brought: which version, and the value that keeps what
# was before. A config that lacks one is refused with that value. 0.1.0 is the first version.
NEWER_KEYS: dict[str, tuple[str, str]] = {}

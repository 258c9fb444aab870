"""What the portable reproducibility promises nothing of, refused by name.

Equal bits across x86-64 processors were measured under emulation for two profiles (that of
conf/reproducibility/portable.yaml, and one without AVX). MKL's float32 square root is outside both:
no setting makes it equal, and every optimizer that takes it outside a fused kernel inherits that.
"""

from saigen.config.origins import Where
from saigen.config.schema import Config
from saigen.errors import Refusal

# instruction_set, mkl_branch, onednn_instruction_set
_PROFILES = (("avx2", "COMPATIBLE", "AVX2"), ("default", "COMPATIBLE", "SSE41"))
_KEYS = ("instruction_set", "mkl_branch", "onednn_instruction_set")
_SAFE_IF_FUSED = ("Adam", "AdamW", "Adagrad")
_NEVER_SAFE = ("RMSprop", "NAdam", "RAdam", "Adadelta", "Adafactor", "SparseAdam")


def refuse_unportable(config: Config, where: Where) -> None:
    """Raise Refusal where a config asks for `portable` and for what it cannot hold."""
    if config.reproducibility.name != "portable":
        return
    _refuse_profile(config, where)
    _refuse_optimizer(config, where)
    for key, value, wanted, why in (
        ("hardware.device", config.hardware.device, "cpu", "it is about processors"),
        ("hardware.compile", config.hardware.compile, False, "a compiler builds for this one"),
    ):
        if value != wanted:
            raise Refusal(
                "the portable reproducibility does not hold here",
                where=where(key),
                expected=f"{str(wanted).lower()}: {why}",
                got=str(value).lower(),
                fix=f"{key}={str(wanted).lower()}, or reproducibility=exact",
            )


def _refuse_profile(config: Config, where: Where) -> None:
    chosen = tuple(getattr(config.reproducibility, key) for key in _KEYS)
    wrong = [[k for k, a, b in zip(_KEYS, p, chosen, strict=True) if a != b] for p in _PROFILES]
    if [] not in wrong:
        profiles = " or ".join(", ".join(profile) for profile in _PROFILES)
        raise Refusal(
            "these instruction sets do not give the same bits on every processor",
            where=where(f"reproducibility.{min(wrong, key=len)[0]}"),
            expected=f"{profiles} ({', '.join(_KEYS)})",
            got=", ".join(chosen),
            fix="take conf/reproducibility/portable.yaml as it is, or reproducibility=exact",
        )


def _refuse_optimizer(config: Config, where: Where) -> None:
    library, _, name = config.optimizer.target.rpartition(".")
    fused = config.optimizer.arguments.get("fused") is True
    key, expected = "optimizer._target_", "SGD, or a fused Adam, AdamW or Adagrad"
    fix = "optimizer=adamw or optimizer=sgd, or reproducibility=exact"
    if name in _SAFE_IF_FUSED:
        key, expected = "optimizer.fused", f"true: the fused {name} rounds its square root itself"
        fix = "optimizer.fused=true optimizer.foreach=false, or reproducibility=exact"
    unsafe = name in _NEVER_SAFE or (name in _SAFE_IF_FUSED and not fused)
    if unsafe and f"{library}.".startswith("torch.optim."):
        raise Refusal(
            f"{name} takes float32 square roots that differ between makers of processors",
            where=where(key),
            expected=expected,
            got=f"{config.optimizer.target}{'' if fused else ', not fused'}",
            fix=fix,
        )

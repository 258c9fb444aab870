"""What a run was started with: modules from odd places, and what libraries read in C.

Looked at when the run is over, for then every module is there.
"""

import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from saigen.environment.installed_files import NAME as SEAL
from saigen.errors import Refusal
from saigen.observing import hook, observed
from saigen.observing.observed import note
from saigen.observing.secrets import shown
from saigen.project_code import is_project

# Variables that libraries read in C. Those that a recipe or the instrument sets are given.
_PREFIXES = ("OMP_", "MKL_", "ONEDNN_", "DNNL_", "KMP_", "GOMP_", "OPENBLAS_", "ATEN_", "TORCH_",
             "PYTORCH_", "CUDA_", "CUBLAS_", "CUDNN_", "NCCL_", "NPY_", "LD_", "GLIBC_",
             "MALLOC_")  # fmt: skip
_FLAGS = ("optimize", "dev_mode", "int_max_str_digits", "bytes_warning", "warn_default_encoding")
_MAINS = ("__main__", "__mp_main__")
_PLAIN_FLAGS = {"int_max_str_digits": 4300}


def note_variables(given: Iterable[str]) -> None:
    """Note the variables that libraries read in C, without those that are `given`."""
    known = set(given)
    for name, value in sorted(os.environ.items()):
        if name.startswith(_PREFIXES) and name not in known:
            note("variable", name, shown(name, value), None)


def note_flags() -> None:
    """Note how the interpreter was started, where that is not as usual."""
    for name in _FLAGS:
        value = int(getattr(sys.flags, name, 0))
        if value not in (_PLAIN_FLAGS.get(name, 0), -1):
            note("answer", f"sys.flags.{name}", str(value), None)
    if options := [option for option in sys.warnoptions if option]:
        note("answer", "sys.warnoptions", " ".join(options), None)


def note_float_modes() -> None:
    """Note a mode of the processor's arithmetic that is not as usual: a library built with fast
    math, or a project, sets it for all that comes behind.
    """
    least, tiny = sys.float_info.min, sys.float_info.epsilon / 16
    if least / 2 == 0.0:
        note("answer", "flush to zero", "on", None)
    if not 1.0 + tiny == 1.0 - tiny == 1.0:
        note("answer", "rounding", "not to nearest", None)


def system_libraries() -> dict[str, str]:
    """The digest of each shared library that is loaded and that no package brought, by name."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    paths = {line.split(maxsplit=5)[5] for line in lines if ".so" in line}
    packages = (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"))
    system = sorted(path for path in paths if not path.startswith(packages))
    return {Path(path).name: hook.digest_of(path) for path in system}


def note_modules() -> None:
    """Note each module, and each .pth file, that neither the recipe nor the lock knows."""
    known, packages = _installed_files()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and os.path.isabs(file) and name not in _MAINS:  # noqa: PTH117
            path = os.path.abspath(file)  # noqa: PTH100 - links are not followed
            if known and path.startswith(packages + os.sep):
                if _is_listed(path[len(packages) + 1 :], known):
                    continue
                note("module", observed.shown_path(path), hook.digest_of(path), None)
            else:
                hook.note_module(path, None)
    for added in Path(packages).glob("*.pth"):
        text = added.read_text(encoding="utf-8", errors="replace")
        runs = any(line.startswith(("import ", "import\t")) for line in text.splitlines())
        if runs and known and added.name not in known:
            note("module", observed.shown_path(str(added)), hook.digest_of(str(added)), None)


def _is_listed(name: str, known: frozenset[str]) -> bool:
    """Whether a distribution that is installed lists a module's file, or another of its folder."""
    head, slash, _ = name.partition("/")
    return name in known or bool(slash and head in known)


def compile_anew() -> None:
    """Let Python compile the project's modules at each start: it keeps byte code by second and
    size, so that what it keeps may be of another text than the recipe names.
    """
    plain = SourceFileLoader.path_stats
    if getattr(plain, "saigen", False):
        return

    def stats(self: SourceFileLoader, path: str) -> Mapping[str, Any]:
        if is_project(path):
            raise OSError("byte code of the project is not used")  # then it is compiled
        return plain(self, path)

    stats.saigen = True  # type: ignore[attr-defined]
    SourceFileLoader.path_stats = stats  # type: ignore[method-assign]


def refuse_foreign_source(root: Path) -> None:
    """Raise Refusal where a module that this project has below src/ was imported from elsewhere:
    the recipe would name source that did not run.
    """
    source = (root / "src").resolve()
    own = {path.stem for path in source.glob("[!.]*") if path.is_dir() or path.suffix == ".py"}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] not in own or not isinstance(file, str):
            continue
        if name.startswith("saigen."):  # as the package
            continue
        if not Path(file).resolve().is_relative_to(source) and not _is_linked(file, root):
            raise Refusal(
                "what runs is not this project's source",
                where=f"module {name}",
                expected=f"a file below {source}",
                got=file,
                fix="start it as `.venv/bin/saigen` of this project, with nothing of another in "
                "PYTHONPATH: `unset PYTHONPATH`",
            )


def _is_linked(file: str, root: Path) -> bool:
    """Whether a file lies in a folder that is linked into src/."""
    return os.path.abspath(file).startswith(f"{os.path.abspath(root)}/src/")  # noqa: PTH100


@cache
def _installed_files() -> tuple[frozenset[str], str]:
    """The files of all distributions, and the folders they lie in; empty where no seal says so."""
    packages = sysconfig.get_path("purelib")
    for place in (Path(sys.prefix), Path.home()):
        try:
            _, files, _ = json.loads((place / SEAL).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return frozenset(files) | {
            name.partition("/")[0] for name in files if "/" in name
        }, packages
    return frozenset(), packages

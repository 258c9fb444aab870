"""Starts verbs as real processes in a few milliseconds: imports once, forks for each.

A process of its own, so that nothing of the test runner (threads, an autograd engine, variables)
is forked, and started as `saigen train` would start itself again, so that no verb has to. It
imports what a training imports and no more, for a record says what was imported.

Reads one JSON object a line: argv (or the plan of saigen.analysis.child), cwd, env,
log and where errors go, whether saigen is imported anew, from cwd, and a file with the composed
config, if there is one to hand over; answers with the child's pid.
"""

import ctypes
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod"}  # audited
SOURCE = Path(__file__).parent.parent / "src"


class Zygote:
    """The test's side."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment | {"PYTHONPATH": str(SOURCE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        argv: list[str],
        cwd: Path,
        env: dict[str, str],
        log: Path,
        *,
        errors: Path | None = None,
        plan=None,
        anew=False,
        composed: Path | None = None,
        hurt: dict[str, int] | None = None,
    ) -> int:
        """Fork a verb; returns its pid. Its code comes to log.code when it ends.

        `hurt`: `kill_at` a number of changes of files, `file_bytes` a file may have at most, or
        `bound` by the rights of files, which a root is not.
        """
        request = {"argv": argv, "cwd": str(cwd), "env": env, "log": str(log)}
        request |= {
            "errors": str(errors or log),
            "plan": plan,
            "anew": anew,
            "composed": composed and str(composed),
            "hurt": hurt,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the zygote."""
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()


def _child(request: dict) -> None:
    for descriptor, name in ((1, "log"), (2, "errors")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(request[name], flags, 0o644), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    if request["hurt"] is not None:
        _hurt(**request["hurt"])
    source = Path(request["cwd"]) / "src"  # the project's own code
    os.environ.update({"PYTHONPATH": str(source)} | request["env"])
    if more := request["env"].get("TEST_MEMORY_BYTES"):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + int(more), resource.RLIM_INFINITY))
    if request["composed"]:
        os.environ["SAIGEN_COMPOSED"] = str(os.open(request["composed"], os.O_RDONLY))
    plan, argv = request["plan"], request["argv"]
    command = ["saigen.analysis.child", json.dumps(plan)] if plan else ["saigen", *argv]
    sys.orig_argv[:] = [sys.executable, "-m", *command]
    sys.argv[:] = [str(source / "saigen/__main__.py"), *argv]
    path = [str(source) if entry == str(SOURCE) else entry for entry in sys.path[1:]]
    sys.path[:] = [request["cwd"], *path]
    for name in [name for name in sys.modules if name.partition(".")[0] == "saigen"]:
        if request["anew"]:
            del sys.modules[name]
        elif file := sys.modules[name].__file__:  # a record says which of the files here it took
            sys.modules[name].__file__ = str(source / Path(file).relative_to(SOURCE))
    os._exit(_run(plan, argv))


def _hurt(*, kill_at: int = 0, file_bytes: int = 0, bound: int = 0) -> None:
    """Lead a process group; be killed just before the change of a file with a number, let no file
    grow beyond a size, as on a full disk, or have no rights but those of the files' owner.
    """
    os.setsid()
    if bound:
        _give_up_rights()
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
    changes = itertools.count(1)

    def watch(event: str, arguments: tuple) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and next(changes) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if kill_at:
        sys.addaudithook(watch)


def _give_up_rights() -> None:
    """Let the rights of files bind also a root: as capabilities(7) has it, without
    CAP_DAC_OVERRIDE, here and in what is started from here. No other user would do: he could not
    reach a root's temporary folder, nor this environment, which is why all may be read still.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the higher ones
    assert libc.capget(header, sets) == 0
    libc.prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, which a root alone may
    for at in range(3):
        sets[at] &= ~(1 << 1)
    assert libc.capset(header, sets) == 0


def _run(plan: dict | None, argv: list[str]) -> int:
    try:
        if plan:
            from saigen.analysis.child import main
        else:
            from saigen.cli import main
        code = main(plan or argv)
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _serve() -> None:
    import hydra.utils  # noqa: F401
    import torch

    import saigen.cli
    import saigen.pipeline
    import saigen.training.loop  # noqa: F401

    torch.set_num_threads(1)
    codes: dict[int, Path] = {}

    def reap(*_: object) -> None:
        # the signal may come again in here: then the inner call finds what the outer one looked for
        while codes:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            codes.pop(pid).write_text(str(os.waitstatus_to_exitcode(status)))

    signal.signal(signal.SIGCHLD, reap)
    while line := sys.stdin.readline():
        request = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            _child(request)
        codes[pid] = Path(request["log"] + ".code")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        print(pid, flush=True)


if __name__ == "__main__":
    _serve()

"""A project, a run of somebody else, and what lies around both, watched."""

import json
import os
import re
import shutil
from pathlib import Path

from conftest import Project, warm
from lab import Attempt

PATIENCE = 120  # s: a hang, on any machine under any load
MEMORY = 3 << 30  # bytes that a verb may take beyond what a warm interpreter has
OUTPUT = 4 << 20  # bytes that a verb may print
CODES = {0, 1, 2, 3}
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Place:
    """`mine` is the project at work in, `theirs` another one with the run that is altered."""

    def __init__(self, base: Path, mine: Project, theirs: Project) -> None:
        self.base, self.mine, self.theirs = base, mine, theirs
        (base / "outside").mkdir()
        (base / "outside/secret").write_text("nobody's business")
        self.run = next((theirs.root / "runs").glob("*-1"))
        self.log = base.parent / "logs"
        self.log.mkdir()
        self.count = 0

    def faults(self, argv: list[str], *, cwd: Path | None = None, writes: str = "") -> list[str]:
        """Start a verb; what is wrong with how it ended. `writes`: what it may touch."""
        before = self._state(writes)
        self.count += 1
        log = self.log / str(self.count)
        errors = self.log / f"{self.count}-errors"
        env = {"TEST_MEMORY_BYTES": str(MEMORY)}
        pid = warm().start(argv, cwd or self.mine.root, env, log, errors=errors)
        attempt = Attempt({pid: log})
        try:
            (code,) = attempt.codes(PATIENCE)
        except AssertionError:
            os.kill(pid, 9)
            return [f"{argv}: no end within {PATIENCE} s"]
        said, told = log.read_bytes(), errors.read_bytes()
        wrong = [] if code in CODES else [f"exit code {code}"]
        wrong += (
            ["a traceback"] if b"Traceback" in told or b"Error:" in told.split(b"\n")[-2:] else []
        )
        wrong += [f"{len(said) + len(told)} bytes"] if len(said) + len(told) > OUTPUT else []
        text = (said + told).decode(errors="replace")
        wrong += [f"the terminal gets {found[0]!r}" for found in [_COMMANDS.search(text)] if found]
        if "--json" in argv and code != 2 and said:
            try:
                json.loads(said)
            except ValueError:
                wrong.append("no JSON")
        wrong += (
            ["no refusal"] if code == 2 and b"  fix:  " not in told and b"usage" not in told else []
        )
        after = self._state(writes)
        touched = [
            path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        ]
        wrong += [f"touched {path}" for path in sorted(touched)[:3]]
        for path in (log, errors, Path(f"{log}.code")):
            path.unlink(missing_ok=True)
        tail = told.decode(errors="replace")[-900:]
        return [f"{' '.join(argv)}: {one}\n{tail}" for one in wrong]

    def _state(self, writes: str) -> dict[str, tuple]:
        """Every file around, but for caches and what the verb may write."""
        allowed = (str(self.mine.root / ".saigen"), str(self.theirs.root / ".saigen"))
        allowed += (str(self.base / writes),) if writes else ()
        found = {}
        for folder, names, files in os.walk(self.base):
            names[:] = [n for n in names if n not in ("src", "conf", "docker", "__pycache__")]
            for name in files:
                path = f"{folder}/{name}"
                if not path.startswith(allowed):
                    stat = os.lstat(path)
                    found[path] = (stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ino)
        return found


def make(base: Path, copy, prepared: Path) -> Place:
    """Two projects, of which each has trained for two steps."""
    made = []
    for name, rate in (("mine", "0.003"), ("theirs", "0.004")):
        project = copy(base / name)
        shutil.copytree(prepared, project.root / "prepared")
        project.saigen("train", "debug=two_steps", f"optimizer.lr={rate}")
        made.append(project)
    return Place(base, *made)

"""A hyperparameter's value stands in YAML. This finds those that stand in Python instead.

    python -m saigen.recipe.callables.hidden_defaults src/project src/saigen/training

It reads the syntax tree of every file and names each

- parameter, or field of a class, that has a default;
- `.get(key, default)`, `.setdefault`, `.pop(key, default)`, `getattr` with a default;
- `value or 3`, and `3 if value is None else value`;
- layer or function of torch.nn that is left to a default of the library's that is a fraction, such
  as the momentum of a normalization: an upgrade could change it in silence;
- number that may stand for a choice: any but -1, 0, 1, 2 and a half, and those too where they
  are handed to a layer or a function of torch.nn.

Indexes, exponents, shifts, hexadecimal bit patterns, messages and the arguments that only say
which axis or how many (`dim=1`) are no choices. What is left and is none either says why, on its
line or on the one above::

    SIDE = 8  # saigen: constant, because the snapshot's images are 8 pixels wide
"""

import ast
import io
import re
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path

from saigen.recipe.callables.python_values import Reader

_ESCAPE = re.compile(r"#\s*saigen:\s*\w+, because\s+(.*)")
_LEAST_WORDS = 3
_FIX = "give it a key in conf/ and pass it in, or add `# saigen: constant, because ...`"


@dataclass(frozen=True)
class Finding:
    """One place where Python holds a value that YAML should."""

    file: str
    line: int
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}\n    fix: {self.fix}"


def check_folder(folder: Path) -> list[Finding]:
    """Every finding in the Python files below a folder, or in one file."""
    files = [folder] if folder.is_file() else sorted(folder.rglob("[!.]*.py"))
    return [found for file in files for found in check_source(file.read_text("utf-8"), str(file))]


def check_source(source: str, file: str) -> list[Finding]:
    """Every finding in one source text without an excuse, and every excuse without a finding."""
    tree = ast.parse(source, file)
    reasons, lines = _escapes(source), source.splitlines()
    used: set[int] = set()
    findings = []
    for line, statement, what in Reader(source, tree).found():
        above = [n for n in (line - 1, statement - 1) if lines[n - 1].lstrip().startswith("#")]
        excuse = next((n for n in (line, statement, *above) if n in reasons), None)
        if excuse is None:
            findings.append(Finding(file, line, what, _FIX))
        else:
            used.add(excuse)
    for line, reason in reasons.items():
        if len(reason.split()) < _LEAST_WORDS:
            what = f"the escape gives no reason: {reason!r}"
            findings.append(Finding(file, line, what, "say in words why this is no hyperparameter"))
        elif line not in used:
            what = "the escape excuses nothing"
            findings.append(Finding(file, line, what, "delete the comment"))
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.line)


def _escapes(source: str) -> dict[int, str]:
    """The reason that each escape gives, by its line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = (
        (t.start[0], _ESCAPE.search(t.string)) for t in tokens if t.type == tokenize.COMMENT
    )
    return {line: found.group(1) for line, found in comments if found}


def main(folders: list[str]) -> int:
    """Print every finding below the folders; exit code 1 if there are any."""
    findings = [found for folder in folders for found in check_folder(Path(folder))]
    for found in findings:
        print(found)
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

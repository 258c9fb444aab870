"""Differences of the code: which function changed, its patch, and whether a run could feel it."""

import ast
import difflib
from collections.abc import Iterator
from pathlib import PurePosixPath

from saigen.analysis.difference import (
    BITS,
    EXPERIMENT,
    NOTHING,
    PHASES,
    Difference,
    Kind,
)
from saigen.analysis.run import ABSENT, Run
from saigen.analysis.values import RULES
from saigen.runs.listing import leaves

_LINES = 3000
_ROLES = ("data", "prepare", "task", "model", "optimizer", "scheduler")


def code(a: Run, b: Run) -> Iterator[Difference]:
    """Every function (or module body) whose source differs, with its part of the patch."""
    left, right = a.felt_source, b.felt_source
    felt = a.imported("files") | b.imported("files")
    for path in sorted(left.keys() | right.keys()):
        old, new = left.get(path), right.get(path)
        if old == new:
            continue
        roles = roles_of(a, path)
        kind: Kind = BITS
        reason = "a run imported it"
        if felt and path not in felt and "prepare" not in roles:
            kind, reason = NOTHING, "neither run imported it"
        elif roles:
            kind, reason = EXPERIMENT, f"it holds the run's {' and '.join(sorted(roles))}"
        felt_by = {phase for role in roles for phase in RULES[f"config {role}"][2]}
        shows = [phase for phase in PHASES if not roles or phase in felt_by]
        contents = [a.content(old, path), b.content(new, path)]
        texts = [(content or b"").decode(errors="replace") for content in contents]
        if (old and contents[0] is None) or (new and contents[1] is None):
            hunks = {"": ["the source of both runs is needed to name the function, and one was "
                          "not kept"]}  # fmt: skip
        else:
            hunks = _by_function(texts, path)
            if old and new and _meaning(texts[0]) == _meaning(texts[1]):
                kind, reason = NOTHING, "only comments, docstrings or layout differ"
        for function, lines in hunks.items():
            yield Difference(
                layer="code", name=f"{path}:{function}" if function else path, a=old or ABSENT,
                b=new or ABSENT, kind=kind, reason=reason, details=lines, shows=shows,
            )  # fmt: skip


def roles_of(run: Run, path: str) -> set[str]:
    """Which groups of the config name something in this file."""
    module = ".".join(PurePosixPath(path).with_suffix("").parts[1:])
    return {
        role
        for role in _ROLES
        for key, target in leaves(run.config.get(role)).items()
        if key.endswith("_target_") and str(target).rpartition(".")[0] == module
    }


def _by_function(texts: list[str], path: str) -> dict[str, list[str]]:
    """The patch of a file, hunk by hunk, under the innermost function that each is in."""
    old, new = (text.splitlines() for text in texts)
    trees = [_tree(text) for text in texts]
    found: dict[str, list[str]] = {}
    long = max(len(old), len(new)) > _LINES  # quadratic, if lines that are frequent count
    for tag, a0, a1, b0, b1 in difflib.SequenceMatcher(None, old, new, long).get_opcodes():
        if tag != "equal":
            tree, line = (trees[1], b0) if b1 > b0 else (trees[0], a0)
            hunk = found.setdefault(_around(tree, line + 1), [])
            hunk.append(f"@@ {path}:{b0 + 1} @@")
            hunk += [f"-{text}" for text in old[a0:a1]] + [f"+{text}" for text in new[b0:b1]]
    return found


def _around(tree: ast.AST | None, line: int) -> str:
    """Qualified name of the innermost function or class around a line; empty outside of all."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = ast.walk(tree) if tree else ()  # breadth first: the outer comes before the inner
    return ".".join(
        node.name
        for node in nodes
        if isinstance(node, definitions) and node.lineno <= line <= (node.end_lineno or 0)
    )


def _tree(text: str) -> ast.Module | None:
    """The program; None if it is none."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _meaning(text: str) -> str:
    """The program without comments, docstrings and layout; the text itself if it is none."""
    if (tree := _tree(text)) is None:
        return text
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                value.value = ""
    try:
        return ast.dump(tree)
    except RecursionError:
        return text

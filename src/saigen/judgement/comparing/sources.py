"""Differences of the code: which function changed, its patch, and whether a run could feel it."""

import ast
import difflib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from saigen.judgement.comparing.difference import (
    ABSENT,
    BITS,
    EXPERIMENT,
    FROM_FORWARD,
    NOTHING,
    PLACES,
    Difference,
    Kind,
    Place,
)
from saigen.judgement.run import Run

_FROM: dict[str, tuple[Place, ...]] = {
    "data": ("samples", "forward", "selection", "evaluation"),
    "prepare": ("prepared",),
    "task": (*FROM_FORWARD, "selection"),
    "model": ("initial weights", *FROM_FORWARD),
    "optimizer": ("weights",),
    "scheduler": ("weights",),
}
_MEASURING = ("metrics", "predictions")


def code(a: Run, b: Run) -> Iterator[Difference]:
    """Every function (or module body) whose source differs, with its part of the patch."""
    left, right = a.layer("code")["files"], b.layer("code")["files"]
    felt = _felt(a) | _felt(b)
    for path in sorted(left.keys() | right.keys()):
        if left.get(path) == right.get(path):
            continue
        old, new = a.content(left.get(path), path), b.content(right.get(path), path)
        told = {"layer": "code", "a": left.get(path, ABSENT), "b": right.get(path, ABSENT)}
        roles = _roles(a, path)
        told["kind"], told["reason"] = _kind(roles)
        if felt and path not in felt and "prepare" not in roles:
            told |= {"kind": NOTHING, "reason": "neither run imported it"}
        if (path in left and old is None) or (path in right and new is None):
            lost = "the source of both runs is needed to name the function, and one was not kept"
            yield Difference(**told, name=path, details=[lost])
        else:
            yield from _file(path, old, new, told, roles)


def _file(
    path: str, old: bytes | None, new: bytes | None, told: dict[str, Any], roles: set[str]
) -> Iterator[Difference]:
    shows = [p for p in PLACES if not roles or any(p in _FROM[role] for role in roles)]
    texts = [(content or b"").decode(errors="replace") for content in (old, new)]
    if old is not None and new is not None and _meaning(texts[0]) == _meaning(texts[1]):
        told |= {"kind": NOTHING, "reason": "only comments, docstrings or layout differ"}
        yield Difference(**told, name=path, shows=[], details=list(_hunks(texts, path)))
        return
    for function, hunks in _by_function(texts, path).items():
        measuring = function.rpartition(".")[2] in _MEASURING
        yield Difference(
            **told, name=f"{path}:{function}" if function else path, details=hunks,
            shows=["selection", "evaluation"] if measuring and "task" in roles else shows,
        )  # fmt: skip


def _kind(roles: set[str]) -> tuple[Kind, str]:
    if roles:
        return EXPERIMENT, f"it holds the run's {' and '.join(sorted(roles))}"
    return BITS, "a run imported it"


def _roles(run: Run, path: str) -> set[str]:
    """Which groups of the config name something in this file."""
    module = ".".join(PurePosixPath(path).with_suffix("").parts[1:])
    data = run.config["data"]
    nodes = {
        "data": [data.get("train_dataset"), data.get("evaluation_dataset")],
        "prepare": [run.config["prepare"].get("preparation")],
        **{name: [run.config.get(name)] for name in ("task", "model", "optimizer", "scheduler")},
    }  # fmt: skip
    return {
        role
        for role, targets in nodes.items()
        for node in targets
        if isinstance(node, dict) and str(node.get("_target_")).rpartition(".")[0] == module
    }


def _felt(run: Run) -> set[str]:
    return set(run.record["circumstances"].get("imported", {}).get("files", ()))


def _meaning(text: str) -> str:
    """The program without comments, docstrings and layout; the text itself if it is none."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return text
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                value.value = ""
    return ast.dump(tree)


def _hunks(texts: list[str], path: str) -> Iterator[str]:
    lines = [text.splitlines() for text in texts]
    yield from difflib.unified_diff(lines[0], lines[1], f"a/{path}", f"b/{path}", lineterm="", n=2)


def _by_function(texts: list[str], path: str) -> dict[str, list[str]]:
    """The patch of a file, hunk by hunk, under the innermost function that each is in."""
    lines = [text.splitlines() for text in texts]
    spans = [_spans(text) for text in texts]
    found: dict[str, list[str]] = {}
    groups = difflib.SequenceMatcher(None, lines[0], lines[1], autojunk=False)
    for group in groups.get_grouped_opcodes(0):
        a0, a1, b0, b1 = group[0][1], group[-1][2], group[0][3], group[-1][4]
        side, line = (1, b0) if b1 > b0 else (0, a0)
        function = _innermost(spans[side], line + 1)
        hunk = [f"@@ {path}:{b0 + 1} @@"]
        hunk += [f"-{text}" for text in lines[0][a0:a1]] + [f"+{text}" for text in lines[1][b0:b1]]
        found.setdefault(function, []).extend(hunk)
    return found


def _spans(text: str) -> list[tuple[int, int, str]]:
    """First line, last line and qualified name of every function and class."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    found: list[tuple[int, int, str]] = []

    def visit(node: ast.AST, head: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = head
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{head}.{child.name}" if head else child.name
                found.append((child.lineno, child.end_lineno or child.lineno, name))
            visit(child, name)

    visit(tree, "")
    return found


def _innermost(spans: list[tuple[int, int, str]], line: int) -> str:
    around = [span for span in spans if span[0] <= line <= span[1]]
    return min(around, key=lambda span: span[1] - span[0], default=(0, 0, ""))[2]

"""Callables that a config names: every parameter stated, nothing else called.

A library's default is a hyperparameter that nobody wrote down, and that an upgrade may change.
So each parameter of each `_target_` stands in YAML, or in `SUPPLIED` with the reason why it
cannot.

Instantiation is our own: what was checked here are plain values, and Hydra's `instantiate` would
wrap them into configs again, add keys of its own (`_partial_`, `_convert_`, `_recursive_`) that
change what is called, and guard by a list of forbidden names where we have one of allowed ones.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from saigen.config.allowlist import allowed_modules, resolve
from saigen.config.argument_names import refuse_two_units, unread
from saigen.config.keys import leaves, walk
from saigen.config.parameter_types import accepts, unbounded, words
from saigen.config.schema import Call
from saigen.config.signatures import Parameter, Signature, signatures
from saigen.errors import Refusal
from saigen.project_code import line_of

TARGET = "_target_"
ARGS = "_args_"

# key of the node -> name of the parameter -> why YAML cannot state it
SUPPLIED: dict[str, dict[str, str]] = {
    "optimizer": {"params": "the weights exist once the model is built"},
    "scheduler": {
        "step": "it is called with every step",
        "total_steps": "it follows from the data and the trainer's limits",
    },
    "data.train_dataset": {"arrays": "the prepared training split is mapped from disk"},
    "data.evaluation_dataset": {"arrays": "the prepared split is mapped from disk"},
    "data.order": {
        "samples": "the training dataset tells its length",
        "arrays": "the prepared training split is mapped from disk",
    },
    "prepare.split": {
        "ids": "the preparation reads them",
        "columns": "the preparation reads them",
        "salt": "it is prepare.salt",
        "fractions": "they are prepare.fractions",
    },
    "data.collate": {"samples": "it is called with the samples of every batch"},
}

# key of the node -> what stands in it and is read here (training/groups.py), not by the callable
OURS = {"optimizer": ("parameter_groups",)}

Where = Callable[[str], str]


def targets(values: Any) -> list[str]:
    """What the nodes of a config call, nested ones too."""
    return [str(value) for key, value in leaves(values) if key.rpartition(".")[2] == TARGET]


def instantiate(call: Call, **runtime: Any) -> Any:
    """Call the target with the arguments of YAML and those that only exist at run time.

    Nested nodes with a `_target_` are called first. Raises Refusal if a target is not allowed, or
    refuses its arguments.
    """
    try:
        return function(call)(**runtime)
    except Refusal:
        raise
    except Exception as error:
        name = type(error).__name__
        raise Refusal(
            f"{call.target} cannot be built: {name}",
            where=line_of(error) or f"the node with `_target_: {call.target}` in conf/",
            expected="arguments that it takes",
            got=str(error).strip() or name,
            fix="change its arguments in conf/, or mend the line; SAIGEN_TRACEBACK=1 shows the way",
        ) from error


def function(call: Call) -> Callable[..., Any]:
    """The target with the arguments of YAML bound, to be called again and again."""
    return _bound(call.target, call.arguments, allowed_modules(Path.cwd()))


def _bound(
    target: str, arguments: Mapping[str, Any], allowed: tuple[str, ...]
) -> Callable[..., Any]:
    built = {key: _built(value, allowed) for key, value in arguments.items() if key != TARGET}
    positional = built.pop(ARGS, [])
    return functools.partial(resolve(target, allowed, TARGET), *positional, **built)


def _built(value: Any, allowed: tuple[str, ...]) -> Any:
    if isinstance(value, list | tuple):
        return [_built(item, allowed) for item in value]
    if not isinstance(value, Mapping):
        return value
    if TARGET in value:
        return _bound(value[TARGET], value, allowed)()
    return {key: _built(item, allowed) for key, item in value.items()}


def check_calls(values: Mapping[str, Any], where: Where, root: Path) -> None:
    """Raise Refusal on the first callable that is not allowed or not wholly stated.

    `where` tells file and line of a key. All targets are checked before one is imported.
    """
    nodes = {k: v for k, v in walk(values) if isinstance(v, Mapping) and TARGET in v}
    targets = [(f"{key}.{TARGET}", node[TARGET]) for key, node in nodes.items()]
    try:
        found = signatures(targets, root)
    except Refusal as refusal:
        refusal.where = where(refusal.where)
        raise
    for key, node in nodes.items():
        _check(key, node, found[node[TARGET]], where)


def _check(key: str, node: Mapping[str, Any], signature: Signature, where: Where) -> None:
    own = (TARGET, ARGS, *OURS.get(key, ()))
    given = {name: value for name, value in node.items() if name not in own}
    target, named, supplied = signature.target, signature.named(), SUPPLIED.get(key, {})
    for open_end in signature.of_kind("VAR_KEYWORD"):
        raise Refusal(
            f"{target} takes **{open_end.name}, so nobody can tell whether all is stated",
            where=where(f"{key}.{TARGET}"),
            expected="a callable that names every parameter",
            got=f"{target}(..., **{open_end.name})",
            fix=f"write a function in src/project that calls {target} and names each parameter",
        )
    _check_places(key, node.get(ARGS), signature, where)
    for name in (name for name in given if name not in named or name in supplied):
        refusal = unread(
            f"{key}.{name}", given[name], [n for n in named if n not in supplied], where, target
        )
        if name in supplied:
            refusal.got = f"supplied at run time: {supplied[name]}"
            refusal.fix = f"delete {key}.{name}"
        elif name.startswith("_") and name.endswith("_"):
            refusal.got = f"{name}, a key of Hydra's instantiate, which is not used here"
            refusal.fix = f"delete {key}.{name}; what it does belongs in a function in src/project"
        raise refusal
    if lost := [name for name in supplied if name not in named]:
        raise Refusal(
            f"{target} takes no {lost[0]!r}, which {key} is called with",
            where=where(f"{key}.{TARGET}"),
            expected=f"a parameter {lost[0]!r}: {supplied[lost[0]]}",
            got=f"parameters {', '.join(named) or 'none'}",
            fix=f"add the parameter, or name another callable for {key}",
        )
    if missing := [p for name, p in named.items() if name not in given and name not in supplied]:
        raise _missing(key, missing, target, where)
    refuse_two_units(key, given, where)
    for name, value in given.items():
        kind = named[name].type
        if not accepts(kind, value):
            fits = accepts(unbounded(kind), value)
            raise Refusal(
                f"{key}.{name} is {'out of range' if fits else 'of the wrong kind'} for {target}",
                where=where(f"{key}.{name}"),
                expected=words(kind),
                got=repr(value),
                fix=f"give {key}.{name} such a value: {words(kind)}",
            )


def _check_places(key: str, given: Any, signature: Signature, where: Where) -> None:
    """Arguments without a name: stated under `_args_`, as many as there are places."""
    fixed, rest = signature.of_kind("POSITIONAL_ONLY"), signature.of_kind("VAR_POSITIONAL")
    if not fixed and not rest and given is None:
        return
    names = ", ".join(f"{p.name}{f' = {p.shown}' if p.shown else ''}" for p in (*fixed, *rest))
    count = len(given) if names and isinstance(given, list) else -1
    if count == len(fixed) or (rest and count > len(fixed)):
        return
    raise Refusal(
        f"{signature.target} and {key}.{ARGS} do not agree on the arguments without a name",
        where=where(f"{key}.{ARGS}"),
        expected=f"a list with a value for each of: {names}" if names else f"no {ARGS}",
        got="nothing" if given is None else repr(given),
        fix=f"write `{ARGS}: [...]` under {key}" if names else "state each argument by its name",
    )


def _missing(key: str, missing: list[Parameter], target: str, where: Where) -> Refusal:
    lines = [f"{p.name}: {p.default if p.default is not None else '...'}" for p in missing]
    inherited = [f"{p.name} = {p.shown}" for p in missing if p.shown]
    needed = [f"{p.name} (no default)" for p in missing if not p.shown]
    return Refusal(
        f"{key}.{missing[0].name} is not stated: {target} would choose in silence",
        where=where(f"{key}.{missing[0].name}"),
        expected=f"every parameter of {target} in YAML",
        got=f"nothing for {', '.join(inherited + needed)}",
        fix=f"add under {key}:\n" + "\n".join(f"    {line}" for line in lines),
    )

"""Callables that a config names: every parameter stated, nothing else called.

A library's default is a hyperparameter that nobody wrote down, and that an upgrade may change.
So each parameter of each `_target_` stands in YAML, or in `SUPPLIED` with the reason why it
cannot.

Instantiation is our own: what was checked here are plain values, and Hydra's `instantiate` would
wrap them into configs again, add keys of its own (`_partial_`, `_convert_`, `_recursive_`) that
change what is called, and guard by a list of forbidden names where we have one of allowed ones.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from saigen.recipe.callables.allowlist import allowed_modules, resolve
from saigen.recipe.callables.parameter_types import accepts, words
from saigen.recipe.callables.signatures import Parameter, Signature, signatures
from saigen.recipe.composer.names import nearest, refuse_range, refuse_two_units
from saigen.recipe.schema import Call
from saigen.refusal import Refusal

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
}

Where = Callable[[str], str]


def instantiate(call: Call, **runtime: Any) -> Any:
    """Call the target with the arguments of YAML and those that only exist at run time.

    Nested nodes with a `_target_` are called first. Raises Refusal if a target is not allowed.
    """
    return function(call)(**runtime)


def function(call: Call) -> Callable[..., Any]:
    """The target with the arguments of YAML bound, to be called again and again."""
    allowed = allowed_modules(Path.cwd())
    arguments = {key: _built(value, allowed) for key, value in call.arguments.items()}
    places = arguments.pop(ARGS, [])
    return functools.partial(resolve(call.target, allowed, TARGET), *places, **arguments)


def _built(value: Any, allowed: tuple[str, ...]) -> Any:
    if isinstance(value, list | tuple):
        return [_built(item, allowed) for item in value]
    if not isinstance(value, Mapping):
        return value
    built = {key: _built(item, allowed) for key, item in value.items() if key != TARGET}
    if TARGET not in value:
        return built
    places = built.pop(ARGS, [])
    return resolve(value[TARGET], allowed, TARGET)(*places, **built)


def check_calls(values: Mapping[str, Any], where: Where, root: Path) -> None:
    """Raise Refusal on the first callable that is not allowed or not wholly stated.

    `where` tells file and line of a key. All targets are checked before one is imported.
    """
    nodes = dict(find_calls(values))
    targets = [(f"{key}.{TARGET}", node[TARGET]) for key, node in nodes.items()]
    try:
        found = signatures(targets, root)
    except Refusal as refusal:
        refusal.where = where(refusal.where)
        raise
    for key, node in nodes.items():
        _check(key, node, found[node[TARGET]], where)


def find_calls(value: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node with a `_target_`, by its full key, outer ones first."""
    if isinstance(value, Mapping):
        if TARGET in value:
            yield key, dict(value)
        for name, item in value.items():
            yield from find_calls(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from find_calls(item, f"{key}.{index}")


def _check(key: str, node: dict[str, Any], signature: Signature, where: Where) -> None:
    given = {name: value for name, value in node.items() if name not in (TARGET, ARGS)}
    named = signature.named()
    supplied = SUPPLIED.get(key, {})
    _refuse_open_end(key, signature, where)
    _check_places(key, node, signature, where)
    if wrong := [name for name in given if name not in named or name in supplied]:
        raise _unknown(f"{key}.{wrong[0]}", wrong[0], signature, supplied, where)
    if lost := [name for name in supplied if name not in named]:
        raise Refusal(
            f"{signature.target} takes no {lost[0]!r}, which {key} is called with",
            where=where(f"{key}.{TARGET}"),
            expected=f"a parameter {lost[0]!r}: {supplied[lost[0]]}",
            got=f"parameters {', '.join(named) or 'none'}",
            fix=f"add the parameter, or name another callable for {key}",
        )
    if missing := [p for name, p in named.items() if name not in given and name not in supplied]:
        raise _missing(key, missing, signature, where)
    refuse_two_units(key, given, where)
    for name, value in given.items():
        _check_value(f"{key}.{name}", value, named[name], signature, where)


def _check_value(
    key: str, value: Any, parameter: Parameter, signature: Signature, where: Where
) -> None:
    if not accepts(parameter.type, value):
        raise Refusal(
            f"{key} is of the wrong kind for {signature.target}",
            where=where(key),
            expected=words(parameter.type),
            got=repr(value),
            fix=f"give {key} a value of that kind",
        )
    refuse_range(key, value, where)


def _check_places(key: str, node: dict[str, Any], signature: Signature, where: Where) -> None:
    """Arguments without a name: stated under `_args_`, as many as there are places."""
    fixed, rest = signature.of_kind("POSITIONAL_ONLY"), signature.of_kind("VAR_POSITIONAL")
    given = node.get(ARGS)
    if not fixed and not rest and given is None:
        return
    names = ", ".join(f"{p.name}{f' = {p.shown}' if p.shown else ''}" for p in (*fixed, *rest))
    good = isinstance(given, list) and (fixed or rest) and len(given) >= len(fixed)
    if good and isinstance(given, list) and (rest or len(given) == len(fixed)):
        return
    raise Refusal(
        f"{signature.target} and {key}.{ARGS} do not agree on the arguments without a name",
        where=where(f"{key}.{ARGS}"),
        expected=f"a list with a value for each of: {names}" if names else f"no {ARGS}",
        got="nothing" if given is None else repr(given),
        fix=f"write `{ARGS}: [...]` under {key}" if names else "state each argument by its name",
    )


def _refuse_open_end(key: str, signature: Signature, where: Where) -> None:
    if not (open_end := signature.of_kind("VAR_KEYWORD")):
        return
    target, name = signature.target, open_end[0].name
    raise Refusal(
        f"{target} takes **{name}, so nobody can tell whether all is stated",
        where=where(f"{key}.{TARGET}"),
        expected="a callable that names every parameter",
        got=f"{target}(..., **{name})",
        fix=f"write a function in src/project that calls {target} and names each parameter",
    )


def _unknown(
    key: str, name: str, signature: Signature, supplied: Mapping[str, str], where: Where
) -> Refusal:
    known = [known for known in signature.named() if known not in supplied]
    if name in supplied:
        got, fix = f"supplied at run time: {supplied[name]}", f"delete {key}"
    elif name.startswith("_") and name.endswith("_"):
        got = f"{name}, a key of Hydra's instantiate, which is not used here"
        fix = f"delete {key}; what it does belongs into a function in src/project"
    else:
        near = nearest(name, known)
        got, fix = name, f"write {near!r} instead" if near else f"delete {key}"
    return Refusal(
        f"{key} is read by nothing: {signature.target} has no such parameter to state",
        where=where(key),
        expected=f"one of {', '.join(known)}" if known else "no parameter",
        got=got,
        fix=fix,
    )


def _missing(key: str, missing: list[Parameter], signature: Signature, where: Where) -> Refusal:
    lines = [f"{p.name}: {p.default if p.default is not None else '...'}" for p in missing]
    inherited = [f"{p.name} = {p.shown}" for p in missing if not p.required]
    needed = [f"{p.name} (no default)" for p in missing if p.required]
    return Refusal(
        f"{key}.{missing[0].name} is not stated: {signature.target} would choose in silence",
        where=where(f"{key}.{missing[0].name}"),
        expected=f"every parameter of {signature.target} in YAML",
        got=f"nothing for {', '.join(inherited + needed)}",
        fix=f"add under {key}:\n" + "\n".join(f"    {line}" for line in lines),
    )

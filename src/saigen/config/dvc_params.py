"""params.yaml: who may write it, and how the stages of dvc.yaml trust it.

Three write it. The stage `compose` under `dvc repro`; DVC itself, which composes in every
experiment (`dvc exp run`, with -S, --queue or --temp) before a stage runs; and by mistake a
person. So the stage keeps what an experiment brought if it is a composition of conf/. Under
`dvc repro` it composes anew: overrides of the last experiment stay in force, said aloud, except
where conf/ was edited below one. A file that no composition wrote is refused.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from saigen.config import dvc_notes as notes
from saigen.config.compose import CONF, PARAMS, Composition, compose, read_composed
from saigen.config.derive import derive, in_hydras_words
from saigen.config.dvc_notes import Note
from saigen.config.keys import differences
from saigen.config.layers import composed_values
from saigen.config.origins import Origins
from saigen.config.sources import read_sources, unreadable
from saigen.documents import read_bytes, reason
from saigen.errors import Refusal
from saigen.files import write_whole
from saigen.yaml_text import LOADER, YAML_BYTES, refuse_bomb

Say = Callable[[str], None]


def compose_stage(root: Path, say: Say) -> Composition:
    """Stage `compose`: params.yaml holds what conf/ and the overrides in force compose.

    Raises Refusal on a config that is refused, and on a params.yaml that was edited by hand.
    """
    with notes.composing(root):
        return _keep(root, say) if os.environ.get("DVC_EXP_NAME") else _compose_anew(root, say)


def _compose_anew(root: Path, say: Say) -> Composition:
    path, asked = root / PARAMS, tuple[str, ...]()
    if path.is_file():
        text = _text(root)
        if note := notes.note_of(root, notes.md5(text)):
            asked = _still_in_force(note, root, say)
        elif text != (plain := compose((), root / CONF)).yaml:
            _refuse_edit(root, text, plain)
            # nobody knows which overrides were in force: say what is given up
            for key, (old, new) in differences(_parsed(text), plain.values).items():
                say(f"CHANGED: {key}: {in_hydras_words(old)} -> {in_hydras_words(new)}")
    return _write(root, asked)


def write(root: Path, asked: tuple[str, ...]) -> Composition:
    """Compose and write params.yaml, whatever it held. Returns the composition."""
    with notes.composing(root):
        return _write(root, asked)


def _write(root: Path, asked: tuple[str, ...]) -> Composition:
    composition = compose(asked, root / CONF)
    write_whole(root / PARAMS, composition.yaml.encode())
    return _noted(root, composition, asked)


def composed(root: Path) -> Composition:
    """What the other stages run on: params.yaml, as the stage `compose` left it.

    Raises Refusal if it was edited since, or is not what conf/ composes any more.
    """
    composition = read_composed(root / PARAMS)
    text = _text(root)
    note = notes.note_of(root, notes.md5(text))
    if note is None:
        _refuse_edit(root, text, composition)
        return _derived(root, composition, compose((), root / CONF))
    now = composed_values(note.overrides, root / CONF, local=False)
    for key, (new, held) in differences(now, composition.values).items():
        raise Refusal(
            "params.yaml is older than conf/",
            where=f"{key} ({PARAMS})",
            expected=f"{in_hydras_words(new)}, as conf/ composes now",
            got=in_hydras_words(held),
            fix="run `dvc repro`, which composes first",
        )
    return replace(composition, overrides=note.overrides)


def _keep(root: Path, say: Say) -> Composition:
    """In an experiment: what DVC composed stays, once it is known to be a composition."""
    last = notes.note_of(root, notes.locked(root))
    plain = compose((), root / CONF)  # conf/ is sound: DVC resolves what we refuse to
    try:
        composition = _derived(root, _composition_of_conf(root), plain)
    except Refusal:
        # leave the workspace as it was before DVC wrote into it
        write_whole(root / PARAMS, (last.yaml if last else plain.yaml).encode())
        raise
    gone = [text for text in last.overrides if text not in composition.overrides] if last else []
    if gone:
        say(f"DROPPED from the last composition: {' '.join(gone)}")
    say(f"overrides in force: {' '.join(composition.overrides) or 'none'}")
    return composition


def _derived(root: Path, found: Composition, plain: Composition) -> Composition:
    """A composition with the overrides that give its values, noted."""
    overrides = derive(found.values, root / CONF)
    # what conf/local gives, nobody asked for
    asked = tuple(text for text in overrides if text not in plain.overrides)
    return _noted(root, replace(found, overrides=overrides), asked)


def _composition_of_conf(root: Path) -> Composition:
    """What params.yaml holds. Raises Refusal if it is not to the byte what conf/ composes."""
    found, text = read_composed(root / PARAMS), _text(root)
    values = composed_values(derive(found.values, root / CONF), root / CONF, local=False)
    if replace(found, values=values).yaml == text:
        return found
    changed = differences(values, found.values)
    raise Refusal(
        "params.yaml is no composition of conf/",
        where=f"{next(iter(changed), 'its text')} ({PARAMS})",
        expected="what `dvc exp run` composes when `dvc config hydra.enabled` is true",
        got=f"{len(changed)} values that no override gives" if changed else "another layout",
        fix="run `saigen compose --write`; change values in conf/ or with -S key=value",
    )


def _still_in_force(note: Note, root: Path, say: Say) -> tuple[str, ...]:
    """The overrides of the last composition, without those that would hide an edit of conf/."""
    now = notes.covered(note.asked, root / CONF)
    kept = tuple(text for text, old in note.asked.items() if now[text] == old)
    for text, old in note.asked.items():
        if text not in kept:
            change = f"{in_hydras_words(old)} -> {in_hydras_words(now[text])}"
            say(f"DROPPED: {text}, because conf/ was edited there: {change}")
    if kept:
        say(f"overrides in force since the last experiment: {' '.join(kept)}")
        say("  to drop them: saigen compose --write")
    return kept


def _refuse_edit(root: Path, text: str, plain: Composition) -> None:
    """Raise Refusal if dvc.lock holds another params.yaml, or none and this is not `plain`."""
    lock = notes.locked(root)
    if lock == notes.md5(text) or (lock is None and plain.yaml == text):
        return
    last = notes.note_of(root, lock)
    expected = _parsed(last.yaml) if last else compose((), root / CONF).values
    changed = differences(expected, _parsed(text))
    key, (there, here) = next(iter(changed.items()), ("its text", ("", "")))
    others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    origins = Origins(root / CONF, read_sources(root / CONF), last.overrides if last else ())
    origin = origins.where(key).removeprefix(key).strip()
    raise Refusal(
        f"params.yaml was edited by hand: {key}{others}",
        where=f"{key} ({PARAMS})",
        expected=f"{in_hydras_words(there)}, {origin.strip('()')}",
        got=in_hydras_words(here),
        fix=f"undo it with `saigen compose --write`; then edit {origin}, "
        f"or run `dvc exp run -S {key}={in_hydras_words(here)}`",
    )


def _noted(root: Path, composition: Composition, asked: tuple[str, ...]) -> Composition:
    covers = notes.covered(asked, root / CONF)
    notes.take(root, Note(composition.yaml, composition.overrides, covers))
    return composition


def _parsed(text: str) -> Any:
    """The values of a params.yaml; none at all if it is not even YAML."""
    import yaml

    try:
        refuse_bomb(text)
        return yaml.load(text, Loader=LOADER)
    except (yaml.YAMLError, ValueError):
        return None


def _text(root: Path) -> str:
    """The text of params.yaml. Raises Refusal if it is none."""
    try:
        return read_bytes(root / PARAMS, YAML_BYTES).decode()
    except (OSError, ValueError) as error:
        raise unreadable(str(PARAMS), reason(error)) from error

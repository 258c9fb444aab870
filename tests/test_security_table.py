"""SECURITY.md says of every verb what it trusts, and names tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text()


def test_every_verb_has_its_row(capsys):
    from saigen import cli, command_line

    actions = command_line.parser(cli._VERBS)._subparsers._group_actions[0].choices
    rows = re.findall(r"^\| `saigen ([\w-]+)` \|", TEXT, re.M)
    assert sorted(rows) == sorted(actions)


def test_every_test_that_it_names_is_there():
    named = set(re.findall(r"`(tests/[\w/.]+)`", TEXT))
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []

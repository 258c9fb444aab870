"""Refuse, and say why: the one shape of every error a user may see."""

from collections.abc import Callable
from typing import Any

from saigen.secret_scan import redact, redact_value

_END = "\n"


class Refusal(Exception):
    """Something is wrong and nothing was done: what, where, expected, got, and the fix.

    Every refusal ends a verb with exit code 2. ``str`` gives the lines a person reads::

        refused: learning rate is not a number
          where:    optimizer.lr (conf/optimizer/adamw.yaml:4)
          expected: a positive float
          got:      'fast'
          fix:      write e.g. `lr: 0.001`
    """

    def __init__(self, what: str, *, where: str, expected: str, got: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.fix = fix

    def __str__(self) -> str:
        rows = (("where", self.where), ("expected", self.expected), ("got", self.got))
        lines = [f"refused: {self.what.replace(_END, ' ')}"]
        # a text of several lines is set in, so that nothing in it looks like a line of ours
        lines += [f"  {name + ':':<10}{text.replace(_END, _END + 12 * ' ')}" for name, text in rows]
        # what was got may hold a password
        return redact("\n".join([*lines, f"  fix:      {self.fix}"]))


class Failure(Refusal):
    """A run that had started cannot go on (NaN in the loss, a dead rank): exit code 1."""

    def __str__(self) -> str:
        return super().__str__().replace("refused:", "failed:", 1)


def refuse_secrets(value: Any, where: Callable[[str], str], holder: str) -> None:
    """Refuse a value that is about to be written, by the key of each secret in it.

    `holder`: what would hold it, as "the config".
    """
    if found := redact_value(value)[1]:
        key = found[0].rpartition(" (")[0] if found[0].endswith(")") else found[0]
        raise Refusal(
            f"{holder} holds what looks like a secret, and is written into every record",
            where=where(key.partition(" (")[0]),
            expected="no password, key or token",
            got=", ".join(found),
            fix="let your code read it from an environment variable; what is no secret can be "
            "spelt so that it does not look like one (hexadecimal digits do not)",
        )

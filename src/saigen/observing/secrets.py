"""Values that may be shown, and a keyed digest in place of one that may be a secret.

The key lies in the project's `.saigen/`, which git ignores: two runs of one clone can be compared,
and nobody else can guess a password from a record.
"""

import hashlib
import hmac
import os
import re
import secrets
from contextlib import suppress
from functools import cache
from pathlib import Path

from saigen.digest import digest_bytes
from saigen.observing import observed
from saigen.secret_scan import redact_value

KEY = Path(".saigen/observed.key")
_SECRET = re.compile(r"pass|pwd|secret|token|key|cred|auth|cookie|session|private|login|dsn", re.I)
_SHOWN_CHARACTERS = 120
HIDDEN = "a secret, keyed digest"


def is_secret(name: str, value: str) -> bool:
    """Whether a variable may hold a secret, by its name or by what it holds."""
    return bool(_SECRET.search(name) or redact_value(value, name)[1])


def shown(name: str, value: str) -> str:
    """A variable's value where it may be shown; of a secret or a long one a digest."""
    if is_secret(name, value):
        key = _key(observed.root())
        mark = hmac.new(key, f"{name}\0{value}".encode(errors="replace"), hashlib.sha256)
        return f"{HIDDEN} {digest_bytes(key)[:8]} {mark.hexdigest()[:16]}"
    if len(value) > _SHOWN_CHARACTERS or not value.isprintable():
        return digest_bytes(value.encode(errors="surrogateescape"))
    return value


@cache
def _key(root: Path) -> bytes:
    path = root / KEY
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
        if key := path.read_bytes():
            return key
    return secrets.token_bytes(32)

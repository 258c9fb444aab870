"""Digests: one canonical form for values, one hash for bytes (SHA-256)."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 1 << 20


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no white space, shortest floats, no NaN.

    Raises ValueError on NaN or infinity and TypeError on anything JSON has no word for.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest_value(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of a value."""
    return digest_bytes(canonical_json(value).encode())


def digest_bytes(data: bytes) -> str:
    """SHA-256 (64 hex digits) of bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file's content, read in blocks of 1 MiB."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            state.update(block)
    return state.hexdigest()


def digest_tree(digests: Mapping[str, str]) -> str:
    """The digest of named digests, as in a Merkle tree: two trees differ where a child does."""
    return digest_value(dict(digests))

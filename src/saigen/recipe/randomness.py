"""The randomness layer: which numbers the streams give."""

from saigen.recipe.layer import Layer
from saigen.recipe.schema import Agreement, Randomness


def capture(randomness: Randomness, agreement: Agreement, scheme: str) -> Layer:
    """Seeds by stream, the scheme that turns them into numbers, and the interpreter's hash seed."""
    return Layer(
        "randomness",
        {
            "scheme": scheme,
            "seeds": dict(sorted(randomness.streams.items())),
            "python_hash_seed": agreement.python_hash_seed,
        },
    )

"""How a sample is read from the prepared arrays, which stay on disk and are mapped into memory."""

from collections.abc import Mapping, Sequence

import numpy as np

Sample = dict[str, np.ndarray]


class Rows:
    """Rows as they were prepared. A batch is read at once, which is the fast path."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.arrays["inputs"])

    def __getitems__(self, indices: Sequence[int]) -> Sample:
        """`inputs` (B, features) float32 and `targets` (B,)."""
        return {name: array[indices] for name, array in self.arrays.items()}

"""How a sample is read from the prepared arrays, which stay on disk and are mapped into memory."""

from collections.abc import Mapping, Sequence

import numpy as np

SIDE = 8  # the snapshot's images are 8 pixels wide and high

Sample = dict[str, np.ndarray]


class Digits:
    """Images as they were prepared. A batch is read at once, which is the fast path."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.arrays["inputs"])

    def __getitems__(self, indices: Sequence[int]) -> Sample:
        """`inputs` (B, 64) float32 and `targets` (B,) int64."""
        return {name: array[indices] for name, array in self.arrays.items()}


class ShiftedDigits:
    """Images moved by up to `max_shift_pixels` along each axis; what leaves the frame is lost.

    Samples that need chance are read one at a time: `generator` is keyed by epoch and sample,
    so neither the number of loader workers nor the place in the batch matters.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], *, max_shift_pixels: int) -> None:
        self.arrays = arrays
        self.max_shift_pixels = max_shift_pixels

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.arrays["inputs"])

    def __getitem__(self, index: int, generator: np.random.Generator) -> Sample:
        """`inputs` (64,) float32 and `targets` () int64."""
        image = self.arrays["inputs"][index].reshape(SIDE, SIDE)
        far = self.max_shift_pixels
        down, right = generator.integers(-far, far + 1, size=2)
        frame = np.pad(image, far, mode="edge")[far + down :, far + right :][:SIDE, :SIDE]
        return {"inputs": frame.reshape(-1), "targets": self.arrays["targets"][index]}


class Texts:
    """Tokens as they were prepared. A batch is read at once."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        """How many texts there are."""
        return len(self.arrays["inputs"])

    def __getitems__(self, indices: Sequence[int]) -> Sample:
        """`inputs` (B, characters) and `targets` (B, answer characters), int64."""
        return {name: array[indices] for name, array in self.arrays.items()}

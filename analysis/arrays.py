"""The array type of the package, and what a table is to a law."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Columns(Protocol):
    """Columns by name: a mapping or a DataFrame."""

    def keys(self) -> Iterable[str]:
        """Their names."""

    def __getitem__(self, name: str, /) -> ArrayLike:
        """One column, of shape (n,)."""

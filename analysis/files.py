"""What analysis writes: JSON without NaN, whole or not at all, and pages of which one section is made anew."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.files import write_atomic


def json_ready(value: Any) -> Any:
    """`value` with NumPy scalars and arrays as plain Python, and NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if isinstance(value, np.ndarray):
        return json_ready(value.tolist())
    if isinstance(value, np.generic):
        return json_ready(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def json_text(value: Any) -> str:
    """`value` as JSON on one line, as verbs print it; NaN and infinities as null."""
    return json.dumps(json_ready(value), allow_nan=False)


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all.

    Parameters
    ----------
    path : Path
        The file; one that is there is replaced.
    content : object
        What `json_ready` takes; NaN and infinities are written as null.

    Raises
    ------
    StoreError
        The disk refuses.
    """
    write_atomic(path, json.dumps(json_ready(content), indent=1, allow_nan=False) + "\n")


def sections_of(text: str) -> dict[str, str]:
    """The sections of a Markdown page.

    Parameters
    ----------
    text : str
        The page.

    Returns
    -------
    dict of str
        By the words of their headings, `## NAME`, each with its heading and without the blank lines at its end.
    """
    parts = re.split(r"^(?=## )", text, flags=re.M)[1:]
    return {part.splitlines()[0].removeprefix("## ").strip(): part.rstrip() for part in parts}

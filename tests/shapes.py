"""Types and shapes of models' functions, checked whenever a test calls one: beartype by the annotations, jaxtyping by
the letters in names.

A parameter that is called `x_BTD` and annotated as a tensor has three dimensions, and a letter means one size within
a call.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from beartype import BeartypeConf, beartype
from jaxtyping import Shaped
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., object])
TYPES = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""Checks types; a whole number may stand for any number, as type checkers have it."""
SUFFIX = re.compile(r"_([A-Z1]+)$")


def checked(function: Function) -> Function:
    """Check a function's arguments and result at every call.

    Parameters
    ----------
    function : callable
        Of a module that jaxtyping's import hook loads.
    """
    if getattr(function, "__qualname__", "").endswith("Config.__init__"):
        return function  # a config refuses what it cannot be made of in sentences of its own
    hints = getattr(function, "__annotations__", {})
    for name, hint in list(hints.items()):
        letters = SUFFIX.search(name)
        if letters and hint in ("Tensor", Tensor):
            hints[name] = Shaped[Tensor, " ".join(letters[1])]
        elif letters and hint in ("Tensor | None", Tensor | None):
            hints[name] = Shaped[Tensor, " ".join(letters[1])] | None
    return TYPES(function)

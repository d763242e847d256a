"""Whether a corpus holds the tokens that a run asks for. Torch-free, so that `plan` can ask."""

from __future__ import annotations

import math

from experiments.data.config import DataConfig


def budget_problem(data: DataConfig, num_train_tokens: int, tokens: int) -> str | None:
    """Say what is wrong with a token budget.

    Parameters
    ----------
    data : DataConfig
        The corpus, and how many passes over it are declared.
    num_train_tokens : int
        Training tokens of one pass.
    tokens : int
        The budget.

    Returns
    -------
    str or None
        One sentence with both numbers and the ways out; None where nothing is wrong.
    """
    available = data.max_epochs * num_train_tokens
    if tokens <= available:
        return None
    epochs = math.ceil(tokens / num_train_tokens)
    passes = "1 epoch" if data.max_epochs == 1 else f"{data.max_epochs} epochs"
    return (
        f"a run needs {tokens} tokens and corpus {data.corpus!r} has {available} training tokens in {passes}; "
        f"lower the budget, take a larger corpus, or declare the repetition with max_epochs: {epochs}"
    )

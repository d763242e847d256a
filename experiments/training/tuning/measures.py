"""Measures of labels, by torchmetrics."""

from __future__ import annotations

from torch import Tensor


def label_measures(said: Tensor, true: Tensor, num_labels: int) -> dict[str, float]:
    """Accuracy, macro-F1 and Matthews correlation.

    Parameters
    ----------
    said, true : Tensor, shape (n,)
        Labels by their places.
    num_labels : int
        How many there are.

    Returns
    -------
    dict of str to float
        accuracy, macro_f1 and mcc.
    """
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_f1_score,
        multiclass_matthews_corrcoef,
    )

    return {
        "accuracy": float(multiclass_accuracy(said, true, num_labels, average="micro")),
        "macro_f1": float(multiclass_f1_score(said, true, num_labels, average="macro")),
        "mcc": float(multiclass_matthews_corrcoef(said, true, num_labels)),
    }

"""Measures of labels by torchmetrics, and of texts by sacrebleu and rouge-score."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from experiments.training.tuning.bootstrap import DRAWS, mean_interval

LEAD = re.compile(r"(?<=[.!?])\s")
"""Where a sentence ends."""
CJK = re.compile(r"[\u4e00-\u9fff]")
"""A Chinese character."""


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


def text_measures(said: Sequence[str], true: Sequence[str], sources: Sequence[str]) -> dict[str, Any]:
    """BLEU and chrF2 by sacrebleu with their signatures, ROUGE by rouge-score, and two baselines that learn nothing.

    Parameters
    ----------
    said, true : sequence of str
        What was written, and what should be.
    sources : sequence of str
        What it was written from.

    Returns
    -------
    dict of str to object
        bleu, chrf (0 to 100, with intervals of 1,000 draws and signatures), rouge1, rouge2, rougeL (F as fractions,
        with intervals); copy_bleu and copy_chrf of the source itself, and lead_rougeL of its first sentence.
    """
    found: dict[str, Any] = {}
    for name, (score, low, high, signature) in _sacrebleu(said, true, draws=DRAWS).items():
        found |= {name: score, f"{name}_lo": low, f"{name}_hi": high, f"{name}_signature": signature}
    for name, values in _rouge(said, true).items():
        low_F, high_F = mean_interval(values)
        found |= {name: float(values.mean()), f"{name}_lo": low_F, f"{name}_hi": high_F}
    for name, (score, *_) in _sacrebleu(sources, true).items():
        found[f"copy_{name}"] = score
    leads = [LEAD.split(source.strip(), maxsplit=1)[0] for source in sources]
    return found | {"lead_rougeL": float(_rouge(leads, true)["rougeL"].mean())}


def _sacrebleu(
    said: Sequence[str], true: Sequence[str], draws: int = 1
) -> dict[str, tuple[float, float | None, float | None, str]]:
    """(score, ends of its interval, signature) of BLEU and chrF2."""
    from sacrebleu.metrics import BLEU, CHRF

    cjk = sum(bool(CJK.search(one)) for one in true) > len(true) / 2  # words without blanks between them
    found = {}
    for name, metric in (("bleu", BLEU(tokenize="zh") if cjk else BLEU()), ("chrf", CHRF())):
        score = metric.corpus_score(list(said), [list(true)], n_bootstrap=draws)
        signature = metric.get_signature().format()
        told = json.loads(score.format(width=6, signature=signature, is_json=True))
        middle, reach = told.get("confidence_mean"), told.get("confidence_var")
        ends = (None, None) if middle is None else (middle - reach, middle + reach)
        found[name] = (float(score.score), *ends, signature)
    return found


def _rouge(said: Sequence[str], true: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """F of each text by ROUGE-1, ROUGE-2 and ROUGE-L."""
    from rouge_score.rouge_scorer import RougeScorer

    names = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(names, use_stemmer=True)
    scores = [scorer.score(one, other) for one, other in zip(true, said, strict=True)]
    return {name: np.array([score[name].fmeasure for score in scores]) for name in names}

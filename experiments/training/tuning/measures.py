"""Measures of labels by torchmetrics, and of texts by sacrebleu and rouge-score."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from experiments.training.tuning.bootstrap import DRAWS, draws, ends, mean_interval

if TYPE_CHECKING:
    from sacrebleu.metrics import BLEU, CHRF

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
        with intervals); copy_bleu and copy_chrf of the source itself, and lead_rougeL of its first sentence;
        bleu_over_copy and rougeL_over_lead, the gains over these with intervals that are paired: both are scored on
        the same draws of examples.
    """
    found: dict[str, Any] = {}
    for name, (score, low, high, signature) in _sacrebleu(said, true, num_draws=DRAWS).items():
        found |= {name: score, f"{name}_lo": low, f"{name}_hi": high, f"{name}_signature": signature}
    rouge = _rouge(said, true)
    for name, values in rouge.items():
        found |= _with_ends(name, float(values.mean()), mean_interval(values))
    for name, (score, *_) in _sacrebleu(sources, true).items():
        found[f"copy_{name}"] = score
    found |= _with_ends("bleu_over_copy", *_bleu_gain(said, sources, true))
    leads = [LEAD.split(source.strip(), maxsplit=1)[0] for source in sources]
    lead = _rouge(leads, true)["rougeL"]
    gains = rouge["rougeL"] - lead
    return found | {
        "lead_rougeL": float(lead.mean()),
        **_with_ends("rougeL_over_lead", float(gains.mean()), mean_interval(gains)),
    }


def _with_ends(name: str, value: float, interval: tuple[float | None, float | None]) -> dict[str, float | None]:
    return {name: value, f"{name}_lo": interval[0], f"{name}_hi": interval[1]}


def _bleu(true: Sequence[str], *, effective_order: bool = False) -> BLEU:
    """BLEU that cuts words as suits the true texts."""
    from sacrebleu.metrics import BLEU

    cjk = sum(bool(CJK.search(one)) for one in true) > len(true) / 2  # words without blanks between them
    return BLEU(tokenize="zh" if cjk else None, effective_order=effective_order)


def _chrf() -> CHRF:
    """chrF2 whose scores of draws can be averaged.

    Those of sacrebleu 2.6 are numpy's float32, or Python's 0.0 where a draw matches nothing; the mean of a mixture is
    an error there.
    """
    from sacrebleu.metrics import CHRF
    from sacrebleu.metrics.chrf import CHRFScore

    class Chrf(CHRF):
        def _compute_score_from_stats(self, stats: list[int]) -> CHRFScore:
            found = super()._compute_score_from_stats(stats)
            found.score = float(found.score)
            return found

    return Chrf()


def _bleu_gain(said: Sequence[str], other: Sequence[str], true: Sequence[str]) -> tuple[float, tuple[float, float]]:
    """How much more BLEU some texts have than others, and its interval over draws of examples (Koehn 2004)."""
    metric = _bleu(true, effective_order=True)  # of single texts only their counts are used, whatever the order
    samples = np.vstack([np.arange(len(true)), draws(len(true))])
    scores = []
    for texts in (said, other):
        each = [metric.sentence_score(text, [one]) for text, one in zip(texts, true, strict=True)]
        counts = np.array([[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in each])
        scores.append(np.array([_bleu_of(counts[sample].sum(0)) for sample in samples]))
    gains = scores[0] - scores[1]
    return float(gains[0]), ends(gains[1:])


def _bleu_of(counts: NDArray[np.int64]) -> float:
    """BLEU of the summed counts of texts: matches and n-grams of each order, and both lengths."""
    from sacrebleu.metrics import BLEU

    *ngrams, said, true = counts.tolist()
    half = len(ngrams) // 2
    return float(BLEU.compute_bleu(ngrams[:half], ngrams[half:], said, true, smooth_method="exp").score)


def _sacrebleu(
    said: Sequence[str], true: Sequence[str], num_draws: int = 1
) -> dict[str, tuple[float, float | None, float | None, str]]:
    """(score, ends of its interval, signature) of BLEU and chrF2."""
    found = {}
    for name, metric in (("bleu", _bleu(true)), ("chrf", _chrf())):
        score = metric.corpus_score(list(said), [list(true)], n_bootstrap=num_draws)
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

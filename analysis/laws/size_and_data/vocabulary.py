"""Vocabulary (Tao et al. 2024): size without the vocabulary, vocabulary and data, one power each."""

from __future__ import annotations

from analysis.laws.sums import SumOfPowers, power_parameters

_TERMS = (("A1", "params", "alpha1"), ("A2", "vocab", "alpha2"), ("B", "tokens", "beta"))

VOCABULARY = SumOfPowers(
    name="vocabulary",
    formula="L = E + A1 / params**alpha1 + A2 / vocab**alpha2 + B / tokens**beta",
    inputs=("params", "vocab", "tokens"),
    terms=_TERMS,
    parameters=power_parameters(_TERMS, count=9, offset="floor, minus the paper's E"),
    source="Tao et al. 2024, arXiv 2407.13623, approach 3",
    domain="params without the vocabulary's; vocab is the number of entries, or of their parameters as in the paper; "
    "tokens may be characters, so that vocabularies are compared on the same text",
    units="loss normalised by unigrams, which is negative: fit with --residuals raw; or nats per character",
)

"""Every finding, in the order of a page; a new one is a file of this room and a line here."""

from __future__ import annotations

from dataclasses import replace

from analysis.findings.arm_laws import arm_laws
from analysis.findings.arms import arms
from analysis.findings.base import Finding
from analysis.findings.counting import counting
from analysis.findings.known_truth import known_truth
from analysis.findings.rates import rates
from analysis.findings.repetition import repetition
from analysis.findings.shape import shape
from analysis.study.study import Study

MAKERS = (known_truth, repetition, shape, rates, arms, arm_laws)
"""Each gives a finding, or None where a study has no data for it; `counting` leads a page that none of them leads."""


def findings(study: Study) -> list[Finding]:
    """What the design of a study asks for beyond the law.

    Parameters
    ----------
    study : Study
        What the report shows.

    Returns
    -------
    list of Finding
        Those the study was made for first.
    """
    found = [finding for finding in (make(study) for make in MAKERS) if finding is not None]
    counted = counting(study)
    if counted is not None:
        found.append(replace(counted, leads=counted.leads and not found))
    return found

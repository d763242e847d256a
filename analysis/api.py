"""The public face of the analysis: what a notebook needs, by name. Nothing inside the package imports it."""

from __future__ import annotations

from analysis.figures.fit import plot_fit
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law, profile_law
from analysis.frontiers.compare import compare_approaches
from analysis.frontiers.envelope import fit_envelope
from analysis.frontiers.isoflop import fit_isoflop
from analysis.frontiers.parametric import parametric_frontier
from analysis.runs.table import load_tables
from analysis.selection.select import select_law

__all__ = [
    "Fit",
    "compare_approaches",
    "fit_envelope",
    "fit_isoflop",
    "fit_law",
    "load_tables",
    "parametric_frontier",
    "plot_fit",
    "profile_law",
    "select_law",
]

"""Numbers that papers print, each with its source; nothing is computed here."""

from __future__ import annotations

import math

from analysis.estimate import Estimate

PUBLISHED_EXPONENTS = (
    ("Hoffmann 2022, approach 1", Estimate(value=0.50, lo=0.488, hi=0.502, level=0.80)),
    ("Hoffmann 2022, approach 2", Estimate(value=0.49, lo=0.462, hi=0.534, level=0.80)),
    ("Hoffmann 2022, approach 3", Estimate(value=0.46, lo=0.454, hi=0.455, level=0.80)),
    ("Kaplan 2020", Estimate(value=0.73, reason="the paper gives none")),
)
"""a of N_opt ~ C^a: Hoffmann et al. 2022, table 2 (10th and 90th percentiles in brackets); Kaplan et al. 2020,
figure 14."""


PUBLISHED_SLOPES = {
    "params": (("Kaplan", 0.73), ("Hoffmann", 0.50)),
    "tokens": (("Kaplan", 0.27), ("Hoffmann", 0.50)),
}
"""Exponents of N_opt and of D_opt that figures show: Kaplan et al. 2020, figure 14 (N ~ C^0.73, D ~ C^0.27);
Hoffmann et al. 2022, approach 1 (both 0.50)."""


HOFFMANN_2022 = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
"""Hoffmann et al. 2022, arXiv 2203.15556, equation 10: approach 3."""


BESIROGLU_2024 = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
"""Besiroglu et al. 2024, arXiv 2404.10102: re-fit of the points read off Hoffmann et al.'s figure 4."""


BESIROGLU_SE = {"A": 124.5, "B": 1293.0, "E": 0.0257, "alpha": 0.0154, "beta": 0.0206, "a": 0.020}
"""The same paper: standard errors over PUBLISHED_DRAWS bootstrap draws."""


PUBLISHED_DRAWS = 4000


KAPLAN_2020 = {"alpha_N": 0.076, "alpha_D": 0.103, "N_c": 6.4e13, "D_c": 1.8e13}
"""Kaplan et al. 2020, arXiv 2001.08361: the joint law, sizes without embeddings."""


MUENNIGHOFF_2023 = {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.353, "beta": 0.353, "R_D": 15.4, "R_N": 5.3}
"""Muennighoff et al. 2023, arXiv 2305.16264: the law of repeated data on C4."""


EPOCH_OBJECTIVE = 1.018274018e-3
"""Least sum of Huber (1e-3) log residuals of Hoffmann's law on the 240 points."""


ISOFLOP_OBJECTIVES = {
    "ml_scalefit__massivetext__chinchilla": 13.089,
    "llama_3__raw_loss": 2.276,
    "marin_202603__dclm__llama_2": 22.837,
}
"""Czech et al. 2026, arXiv 2603.22339: mean Huber (1e-3) of raw losses, times 1e6."""


CZECH_INTERCEPTS = {(0.34, 0.28): -0.578092, (0.465, 0.155): -1.459957}
"""The same: what a parabola finds, by (alpha, beta); the true intercepts are -0.555357 and -1.345791."""


LLAMA_3_EXPONENTS = (0.463, 0.537)
"""The same: a and b of the Llama 3 points by a parabola for each budget."""


GEMSTONES = {
    "hot": (1.98161e-3, 0.29287, 0.71287, math.exp(0.76226)),
    "cool_begin": (1.95153e-3, 0.31170, 0.68004, math.exp(0.77728)),
    "lr_ablation_hot": (1.97286e-3, 0.32547, 0.65126, math.exp(0.79112)),
}
"""McLeish et al. 2025, arXiv 2502.06857: objective, alpha, beta and E of the law in parameters and tokens."""


GEMSTONES_SHAPE = {
    ("lr_ablation_hot", 1e-3): 1.0089106e-3,
    ("hot", 1e-4): 1.11878e-4,
    ("lr_ablation_hot", 1e-4): 1.102575e-4,
}
"""The same authors' repository: objective of the law in width, depth, parameters and tokens, by set and Huber delta."""


GADRE = {
    "C4": ("c4_original", {"E": 1.51, "eta": 0.121, "a": 141.0, "b": 190.0}),
    "RefinedWeb": ("rw_original", {"E": 1.73, "eta": 0.127, "a": 157.0, "b": 246.0}),
}
"""Gadre et al. 2024, arXiv 2403.08540: the law of over-training by data set, with the data set's name in the runs."""


GADRE_RUNS = (
    "(tok_mult == 20 and model_name in ['d=96_l=8_h=4', 'd=512_l=8_h=4', 'd=576_l=24_h=8', 'd=1024_l=24_h=8']) "
    "or (tok_mult == 320 and model_name == 'd=96_l=8_h=4')"
)
"""The five runs that they fit: four sizes at 20 tokens per parameter, and the smallest at 320."""


PEARCE_SONG = (0.7805, 0.7388)
"""Pearce and Song 2024, arXiv 2406.12907: exponent without embeddings under Besiroglu's and Hoffmann's coefficients."""

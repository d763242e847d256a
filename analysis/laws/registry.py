"""Laws by name. A new law is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from analysis.errors import UserError
from analysis.laws.base import Law
from analysis.laws.compression.distillation import DISTILLATION
from analysis.laws.compression.precision import PRECISION
from analysis.laws.experts.joint import MOE_JOINT
from analysis.laws.experts.leverage import LEVERAGE
from analysis.laws.experts.routed import MOE_ROUTED
from analysis.laws.experts.sparsity import MOE_SPARSITY, UPCYCLED
from analysis.laws.mixtures.additive import MIXING_JOINT, MIXING_POWER, mixing_joint, mixing_power
from analysis.laws.mixtures.exponential import MIXING, mixing
from analysis.laws.one_input.bnsl import BNSL, bnsl
from analysis.laws.one_input.bounded import BOUNDED, BOUNDED_SIZE
from analysis.laws.one_input.m4 import M4_LAW
from analysis.laws.one_input.power import M3, POWER, SHIFTED
from analysis.laws.other_targets.batch import BATCH_TRADEOFF, CRITICAL_BATCH, LR_BATCH, OPTIMUM_POWER
from analysis.laws.other_targets.direct import DIRECT, DIRECT_SIZE
from analysis.laws.other_targets.downstream import EXPONENTIAL, SIGMOID
from analysis.laws.schedules.multipower import MULTIPOWER
from analysis.laws.schedules.tissue import TISSUE
from analysis.laws.size_and_data.farseer import FARSEER
from analysis.laws.size_and_data.gadre import GADRE
from analysis.laws.size_and_data.gemstones import GEMSTONES, GEMSTONES_SHAPE
from analysis.laws.size_and_data.hernandez import HERNANDEZ
from analysis.laws.size_and_data.hoffmann import HOFFMANN, HOFFMANN_BREAK
from analysis.laws.size_and_data.kaplan import KAPLAN, SKALING
from analysis.laws.size_and_data.muennighoff import MUENNIGHOFF
from analysis.laws.size_and_data.overfitting import OVERFITTING, SATURATING
from analysis.laws.size_and_data.parallel import PARALLEL
from analysis.laws.size_and_data.rate_batch import RATE_BATCH
from analysis.laws.size_and_data.vocabulary import VOCABULARY
from analysis.laws.size_and_data.zhang import ZHANG
from models.config.checks import did_you_mean

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        POWER,
        SHIFTED,
        M3,
        M4_LAW,
        BOUNDED,
        BOUNDED_SIZE,
        BNSL,
        HOFFMANN,
        HOFFMANN_BREAK,
        KAPLAN,
        SKALING,
        FARSEER,
        GEMSTONES,
        GEMSTONES_SHAPE,
        MUENNIGHOFF,
        OVERFITTING,
        SATURATING,
        GADRE,
        VOCABULARY,
        ZHANG,
        HERNANDEZ,
        PARALLEL,
        RATE_BATCH,
        MOE_ROUTED,
        MOE_JOINT,
        MOE_SPARSITY,
        UPCYCLED,
        LEVERAGE,
        MIXING,
        MIXING_POWER,
        MIXING_JOINT,
        PRECISION,
        DISTILLATION,
        MULTIPOWER,
        TISSUE,
        LR_BATCH,
        OPTIMUM_POWER,
        CRITICAL_BATCH,
        BATCH_TRADEOFF,
        DIRECT,
        DIRECT_SIZE,
        EXPONENTIAL,
        SIGMOID,
    )
}
AUTO = "auto"
"""What stands in place of a law's name where a weighted set of laws is wanted."""
MAKERS: dict[str, tuple[str, Callable[..., Law]]] = {
    "bnsl": ("breaks", bnsl),
    "mixing": ("domains", mixing),
    "mixing-power": ("domains", mixing_power),
    "mixing-joint": ("domains", mixing_joint),
}
"""Laws that take an option, its name, and the function of it that makes the law; LAWS holds each at its default."""


ALIASES = {"chinchilla": "hoffmann"}
"""Other names of laws, as people know them; a test holds those of experiments/config/report_laws.py equal."""


def get_law(name: str, **options: int) -> Law:
    """The law called `name`.

    Some take an option: `get_law("bnsl", breaks=2)`, or `"bnsl:2"` by name alone.

    Parameters
    ----------
    name : str
        Its name, with a short option behind a colon where it takes one.
    **options : int
        Options of a law that takes some.

    Returns
    -------
    Law
        The law.

    Raises
    ------
    UserError
        For an unknown name, with those that there are, and for an option that the law does not take.
    """
    name, _, short = name.partition(":")
    name = ALIASES.get(name, name)
    if name not in LAWS:
        near = did_you_mean(name, LAWS)
        raise UserError(f"no law is called {name!r}; {f'{near} ' if near else ''}`isoflop laws` lists all laws")
    if short:
        if name not in MAKERS or not short.isdecimal():
            raise UserError(
                f"cannot read the law {name}:{short}; write bnsl:2 for two breaks, mixing:5 for five domains"
            )
        options = {MAKERS[name][0]: int(short)}
    if not options:
        return LAWS[name]
    if name not in MAKERS or set(options) != {MAKERS[name][0]}:
        raise UserError(f"{name} takes no option {', '.join(options)}; leave it out")
    return MAKERS[name][1](**options)

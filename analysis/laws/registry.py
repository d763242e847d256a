"""Laws by name. A new law is one file and one line here."""

from __future__ import annotations

from analysis.errors import UserError
from analysis.laws.base import Law
from analysis.laws.farseer import FARSEER
from analysis.laws.gemstones import GEMSTONES, GEMSTONES_SHAPE
from analysis.laws.hoffmann import HOFFMANN
from analysis.laws.kaplan import KAPLAN, SKALING
from analysis.laws.power import POWER, SHIFTED

LAWS: dict[str, Law] = {
    law.name: law for law in (POWER, SHIFTED, HOFFMANN, KAPLAN, SKALING, FARSEER, GEMSTONES, GEMSTONES_SHAPE)
}


def get_law(name: str) -> Law:
    """The law called `name`; an unknown name is an error that lists what there is."""
    if name not in LAWS:
        raise UserError(f"no law is called {name!r}; there are {', '.join(LAWS)}")
    return LAWS[name]

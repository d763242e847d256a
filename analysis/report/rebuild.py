"""A committed report made again from its records, and what differs.

A report's provenance holds the command that made it. Where its table lies beside it, that command can be run again on
any machine: without torch, without the store.
"""

from __future__ import annotations

import json
import math
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import UserError

TOLERANCE = 1e-6
"""Numbers that differ by less than this, relative to the larger, are equal to rounding: processors round apart."""
NOTHING = 1e-12
"""Numbers that differ by less than this are equal, such as a decrease that is nothing but rounding."""
VERBS = ("report", "arms")
"""What makes reports that can be made again."""
COMPARED = ("arms.csv", "best_rates.csv", "fit.json", "heldout.json", "registered.json", "summary.json")
"""Files that are compared beside the tables; page, figures and checklist follow from the same numbers, and name the
commit as well."""


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """One report, made again."""

    folder: Path
    """The committed report."""
    same: int
    """Files that are equal byte for byte."""
    rounded: tuple[str, ...]
    """Files that are equal to rounding."""
    different: tuple[str, ...]
    """What differs beyond rounding, a line each: file, place, committed and new value."""


def command_of(folder: Path) -> list[str]:
    """The words after `isoflop` that made a report, with its own folder as it is named now.

    Parameters
    ----------
    folder : Path
        A report.

    Returns
    -------
    list of str
        `report TABLE ... --out FOLDER`, where tables lie in the folder.

    Raises
    ------
    UserError
        When the folder holds no report, or the table that it was made from is not beside it.
    """
    file = folder / "provenance.json"
    try:
        origin = json.loads(file.read_text(encoding="utf-8"))
        words = shlex.split(origin["commands"][-1])
        start = next(place for place, word in enumerate(words) if word in VERBS)
    except FileNotFoundError:
        raise UserError(f"{folder} holds no provenance.json; give the folder of a report") from None
    except (ValueError, KeyError, TypeError, IndexError, StopIteration) as error:
        raise UserError(f"{file} does not say how the report was made ({error}); make it again") from error
    out: list[str] = []
    for place, word in enumerate(words[start:]):
        beside = folder / Path(word).name
        if place and words[start + place - 1] == "--out":
            out.append(str(folder))
        elif Path(word).suffix in {".parquet", ".csv", ".jsonl"} and not word.startswith("-"):
            if not beside.exists():
                raise UserError(f"{folder} was made from {word}, which is not beside it; write it there by `archive`")
            out.append(str(beside))
        else:
            out.append(word)
    if not any(word.endswith((".parquet", ".csv")) for word in out):
        raise UserError(
            f"{folder} was made from a store; write its records beside it: isoflop archive SWEEP --out FILE"
        )
    return out


def rebuild(folder: Path, make: Callable[[Sequence[str]], int], *, write: bool, pages: bool = False) -> Rebuilt:
    """Make a report again, and compare it with what is there.

    Parameters
    ----------
    folder : Path
        The committed report.
    make : callable
        Runs the words of a command; 0 when all went well.
    write : bool
        Whether the committed files are replaced where they differ.
    pages : bool
        Whether they are also replaced where no number differs: page and figures may.

    Returns
    -------
    Rebuilt
        What is the same and what is not.

    Raises
    ------
    UserError
        When it cannot be made.
    """
    words = command_of(folder)
    with tempfile.TemporaryDirectory() as scratch:
        new = Path(scratch) / folder.name
        words[words.index("--out") + 1] = str(new)
        if make([*words, "--no-figures"] if words[0] == "report" else words) != 0:
            raise UserError(f"{folder} could not be made again by `isoflop {shlex.join(words)}`")
        found = _compared(folder, new)
        stale = set(_files(folder)) - set(_files(new))
    if write and (pages or found.rounded or found.different):
        words[words.index("--out") + 1] = str(folder)
        make(words)
        for name in stale:
            (folder / name).unlink()
    return found


def _compared(folder: Path, new: Path) -> Rebuilt:
    """Tables and JSON files of two folders."""
    same, rounded, different = 0, [], []
    for name in sorted(set(_files(folder)) | set(_files(new))):
        old_file, new_file = folder / name, new / name
        if not old_file.exists() or not new_file.exists():
            different.append(f"{name}: only in the {'new' if new_file.exists() else 'committed'} report")
        elif old_file.read_bytes() == new_file.read_bytes():
            same += 1
        else:
            lines = list(_differences(old_file.read_text(encoding="utf-8"), new_file.read_text(encoding="utf-8")))
            different += [f"{name}: {line}" for line in lines]
            rounded += [] if lines else [name]
    return Rebuilt(folder=folder, same=same, rounded=tuple(rounded), different=tuple(different))


def _files(folder: Path) -> list[str]:
    tables = [f"tables/{path.name}" for path in (folder / "tables").glob("*.csv")]
    return [*tables, *(name for name in COMPARED if (folder / name).exists())]


def _differences(old: str, new: str) -> Iterator[str]:
    """Cells or values that differ beyond rounding, the first few."""
    before, after = (text.replace(",", " , ").replace(":", " : ").split() for text in (old, new))
    if len(before) != len(after):
        yield f"{len(before)} values before, {len(after)} now"
        return
    shown = 0
    for place, (a, b) in enumerate(zip(before, after, strict=True)):
        if a != b and not _equal_numbers(a, b):
            yield f"value {place}: {a} before, {b} now"
            shown += 1
            if shown == 5:
                return


def _equal_numbers(a: str, b: str) -> bool:
    try:
        return math.isclose(float(a), float(b), rel_tol=TOLERANCE, abs_tol=NOTHING)
    except ValueError:
        return False

"""`isoflop rebuild REPORT...`: committed reports made again from the records beside them; says what differs."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import UserError
from analysis.verbs.deciding import arms as arms_verb
from analysis.verbs.reporting import report as report_verb
from experiments.files import write_atomic

if TYPE_CHECKING:
    from analysis.report.rebuild import Rebuilt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    parser.add_argument("reports", nargs="+", type=Path, help="folders of reports, such as reports/quickstart")
    parser.add_argument("--index", type=Path, metavar="FILE", help="write the gallery of these reports, one HTML page")
    parser.add_argument("--only-index", action="store_true", help="write the gallery alone, of the reports as they are")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 when a number differs")
    parser.add_argument(
        "--pages", action="store_true", help="write pages and figures again where no number differs, too"
    )
    parser.add_argument("--jobs", type=int, metavar="K", help="reports made at a time (default: one a core)")


def run(args: argparse.Namespace) -> int:
    """Make each report again, and say how it compares with what was there."""
    jobs = os.cpu_count() or 1 if args.jobs is None else args.jobs
    if args.pages and args.check:
        raise UserError("--pages writes, and --check writes nothing; give one of them")
    if jobs < 1:
        raise UserError(f"--jobs is {jobs}; use 1 or more")
    if args.only_index:
        if args.index is None or args.pages:
            raise UserError("--only-index writes the gallery alone; name its file with --index, and leave --pages out")
        return _index(args)
    status = 0
    for folder, found in zip(args.reports, _rebuilt(args, jobs), strict=True):
        what = f"{found.same} files equal byte for byte"
        if found.rounded:
            what += f", {', '.join(found.rounded)} to rounding"
        print(f"{folder}: {what if not found.different else 'differs'}")
        for line in found.different:
            print(f"  {line}")
        if found.different and args.check:
            status = 1
    return max(status, _index(args)) if args.index else status


def _rebuilt(args: argparse.Namespace, jobs: int) -> Iterator[Rebuilt]:
    """What came of each report, in order; several are made at a time, each in a process of its own."""
    from analysis.report.rebuild import rebuild

    folders: list[Path] = args.reports
    one = partial(rebuild, make=_make, write=not args.check, pages=args.pages)
    if min(jobs, len(folders)) == 1:
        yield from map(one, folders)
        return
    with ProcessPoolExecutor(min(jobs, len(folders)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(one, folders)


def _index(args: argparse.Namespace) -> int:
    """Write the gallery, or compare it with what is there."""
    from analysis.catalogue.gallery import gallery

    page = gallery(args.reports, args.index)
    same = args.index.exists() and args.index.read_text(encoding="utf-8") == page
    if not args.check and not same:
        write_atomic(args.index, page)
    print(f"{args.index}: {'equal byte for byte' if same else 'differs' if args.check else 'written'}")
    return int(args.check and not same)


def _make(words: Sequence[str]) -> int:
    """Run the verb `report` or `arms` with these words, without its output."""
    verb = arms_verb if words[0] == "arms" else report_verb
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return verb.run(parser.parse_args(list(words[1:])))

"""The one way from a command line to a verb, for `isoflop` and for `python -m` of each package.

Owns how verbs are listed, which module is imported (only that of the verb asked for), and what becomes of errors: one
sentence on standard error and exit status 2. It must not know what any verb does. Standard library only.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import UserError

MISSPELT = 0.8
"""Similarity, as `difflib` measures it, from which an unknown option is taken for a misspelt one. No field at
the top of a sweep file is as similar to an option."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
OVERRIDES = """Every field of the sweep file can be overridden by its dotted name, with a value in YAML:
--design.budgets='[1e11, 2e11]'  --recipe.learning_rate=0.01  --seeds='[0, 1]'  --data.context=256
`isoflop help config` lists all fields."""
"""What the help of verbs that take overrides ends with."""
REFUSED = 2
"""Exit status after bad input."""


class _Once(argparse._StoreAction):
    """Stores the value of an option, and refuses a second text instead of dropping the first.

    Of numbers the last one counts, as shells and scripts have it that append to a command.
    """

    given = False

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the value; see `argparse.Action`."""
        if self.given and self.option_strings and self.type is None:
            raise argparse.ArgumentError(self, "it is given twice; give it once")
        self.given = True
        super().__call__(parser, namespace, values, option_string)


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One verb of a command line."""

    module: str
    """Dotted name of the module with `add_arguments(parser)` and `run(args) -> int`."""
    summary: str
    """What it does, in one line."""
    takes_overrides: bool = False
    """Whether unknown options are kept in `args.overrides` instead of being refused."""
    if_stopped: str = "stopped"
    """What Ctrl-C leaves behind, in one line."""


def main(
    argv: Sequence[str] | None, *, program: str, description: str, groups: Mapping[str, Mapping[str, Verb]]
) -> int:
    """Parse a command line, run its verb and return the exit status.

    Parameters
    ----------
    argv : sequence of str, or None
        The words after the program's name; None takes those of this process.
    program : str
        The program's name in messages.
    description : str
        First lines of the help.
    groups : mapping of str to mapping of str to Verb
        Verbs by name, by the heading under which the help lists them.

    Returns
    -------
    int
        The verb's own status; 2 after bad input; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    verbs = {name: verb for group in groups.values() for name, verb in group.items()}
    chosen = next((word for word in words if not word.startswith("-")), None)
    stopped = verbs[chosen].if_stopped if chosen in verbs else "stopped"
    try:
        args = _parse(words, _parser(program, description, groups, chosen), verbs)
        return int(args.run(args))
    except KeyboardInterrupt:
        print(f"{stopped}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except UnicodeDecodeError as error:
        print(
            f"error: a file is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8", file=sys.stderr
        )
    except OSError as error:
        print(f"error: {os_error_sentence(error)}", file=sys.stderr)
    return REFUSED


def os_error_sentence(error: OSError) -> str:
    """What an error of the operating system says, as a sentence that names the file.

    Parameters
    ----------
    error : OSError
        The error, with or without a file name.

    Returns
    -------
    str
        Such as `runs.csv: no such file or directory`.
    """
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{error.filename}: {reason}" if error.filename is not None else reason


def own_command() -> list[str]:
    """Give the first words of a command that runs a verb in a process of its own.

    They name the file of the one door: Python then looks for the packages beside that file, and neither in the working
    folder nor by a path that the shell has set.
    """
    return [sys.executable, str(Path(__file__).resolve().parents[1] / "isoflop.py")]


def next_step(*words: object) -> str:
    """Give the line that ends a verb's output: the command to run next, quoted as a shell reads it.

    Parameters
    ----------
    words : object
        The words after `isoflop`; a path below the working folder is written from there.

    Returns
    -------
    str
        Such as `next: isoflop plan mine.yaml`.
    """
    here = Path.cwd()
    shown = [word.relative_to(here) if isinstance(word, Path) and word.is_relative_to(here) else word for word in words]
    return f"next: {shlex.join(['isoflop', *map(str, shown)])}"


def _parser(
    program: str, description: str, groups: Mapping[str, Mapping[str, Verb]], chosen: str | None
) -> argparse.ArgumentParser:
    """A parser that knows every verb by name, and the options of the chosen one."""
    width = max(len(name) for group in groups.values() for name in group)
    lines = [
        line
        for heading, group in groups.items()
        for line in (f"\n{heading}:", *(f"  {name:<{width}}  {verb.summary}" for name, verb in group.items()))
    ]
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog="\n".join(lines).lstrip("\n") + f"\n\n`{program} VERB --help` lists the options of a verb.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB", help="one of the verbs below")
    for group in groups.values():
        for name, verb in group.items():
            subparser = subparsers.add_parser(
                name, description=verb.summary, formatter_class=argparse.RawDescriptionHelpFormatter
            )
            for action in (None, "store"):
                subparser.register("action", action, _Once)
            if verb.takes_overrides:
                subparser.epilog = OVERRIDES
            if name == chosen:
                module = importlib.import_module(verb.module)
                module.add_arguments(subparser)
                subparser.set_defaults(run=module.run, known_options=tuple(subparser._option_string_actions))
    return parser


def _parse(words: list[str], parser: argparse.ArgumentParser, verbs: Mapping[str, Verb]) -> argparse.Namespace:
    args, rest = parser.parse_known_args(words)
    if rest and not verbs[args.verb].takes_overrides:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    for word in rest:
        _refuse_misspelt(word, args.known_options)
    args.overrides = rest
    return args


def _refuse_misspelt(word: str, known: Sequence[str]) -> None:
    """Refuse an override that is a misspelt option, such as --devce for --device."""
    name = word.partition("=")[0]
    single = name.startswith("--") and "." not in name
    close = difflib.get_close_matches(name, known, n=1, cutoff=MISSPELT) if single else []
    if close:
        raise UserError(f"unknown option {name}; did you mean {close[0]}?")

"""YAML text to plain data and back: version 1.2, so that 1e18 is a number and `no` is text; a key may stand once.

Every YAML file of the suite is read and written here. It must not know what a file means. Neither torch nor numpy is
imported, and ruamel.yaml only by what needs it: `status` reads no YAML.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError

if TYPE_CHECKING:
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.nodes import ScalarNode


MAX_VALUES = 100_000
"""Values that a document may stand for."""


def parse_yaml(text: str, *, where: str) -> Any:
    """Read YAML text.

    Parameters
    ----------
    text : str
        The document.
    where : str
        The file or option, for messages.

    Returns
    -------
    object
        Mappings, lists and scalars; None for an empty document.

    Raises
    ------
    UserError
        When the text is no YAML, a key stands twice, or it stands for too many values; the sentence names the place.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(text)
        if _is_larger(content, MAX_VALUES):
            raise UserError(
                f"{where} stands for more than {MAX_VALUES:,} values, as aliases that multiply do; write it out, or "
                "give less"
            )
        return content
    except RecursionError as error:
        raise UserError(f"{where} is nested too deeply; give mappings and lists of a few levels") from error
    except DuplicateKeyError as error:
        raise UserError(f"{where}{_line(error)}: {_first(error.problem)}; leave one of them out") from error
    except YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{where}{_line(error)} is not YAML: {_first(problem)}; fix that line") from error
    except ValueError as error:  # a date such as 2020-13-40
        raise UserError(f"{where} is not YAML: {error}; put such a value in quotes") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to object
        What it holds.

    Raises
    ------
    UserError
        When there is no such file, it cannot be read, is not UTF-8, is no YAML, or holds something else than a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = sorted(str(file) for file in path.parent.glob("*.yaml"))
        hint = f"there are {', '.join(known)}" if known else "correct the path"
        raise UserError(f"there is no sweep file {path}; {hint}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise UserError(f"{path} cannot be read: {reason}; give a sweep file (YAML)") from error
    raw = parse_yaml(text, where=str(path))
    if not isinstance(raw, dict):
        raise UserError(f"{path} does not hold a mapping; start it with `name: ...`")
    return raw


def dump_yaml(raw: Mapping[str, Any]) -> str:
    """Write plain data as YAML: blocks for mappings of mappings, one line for the innermost ones.

    Parameters
    ----------
    raw : mapping of str to object
        Mappings, lists and scalars; the order of the keys is kept.

    Returns
    -------
    str
        Text that `parse_yaml` reads back to the same data.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import SafeRepresenter

    class Representer(SafeRepresenter):
        """Writes 1.0e+18 where YAML 1.2 is content with 1e+18, so that readers of YAML 1.1 see a number too."""

        def represent_float(self, data: float) -> ScalarNode:
            text = repr(data)
            if "e" not in text or "." in text:
                return super().represent_float(data)
            return self.represent_scalar("tag:yaml.org,2002:float", text.replace("e", ".0e", 1))

    Representer.add_representer(float, Representer.represent_float)
    writer = YAML(typ="safe", pure=True)
    writer.Representer = Representer
    writer.default_flow_style = None
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its stub knows the initial None alone
    writer.width = 110
    stream = io.StringIO()
    writer.dump(dict(raw), stream)
    return stream.getvalue()


def _is_larger(content: Any, most: int) -> bool:
    """Whether data hold more than so many values, each alias counted as what it stands for."""
    left, count = [content], 0
    while left:
        item = left.pop()
        count += 1
        if count > most:
            return True
        if isinstance(item, Mapping):
            left += item.values()
        elif isinstance(item, (list, tuple)):
            left += item
    return False


def _line(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f", line {mark.line + 1}"


def _first(problem: str | None) -> str:
    return str(problem).partition("\n")[0]

"""Every field of a sweep file with its type, default and meaning, read off the dataclasses themselves.

Owns the reference that `isoflop help config` prints, its page in docs/, and the JSON schema for editors. It must not
know YAML, or what any field does.
"""

from __future__ import annotations

import ast
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from experiments.config.sweep import RESERVED_MODEL_FIELDS, SweepConfig
from experiments.config.tuning.sweep import FinetuneSweep
from models.config.finetuning import METHODS
from models.config.transformer import TransformerConfig

SCALARS: dict[type, str] = {int: "integer", float: "number", str: "string", bool: "boolean"}
"""JSON schema's names."""


@dataclass(frozen=True, kw_only=True)
class FieldNote:
    """One field of the file."""

    path: str
    """Dotted place in the file; `[]` stands for each element of a list."""
    kind: str
    """What may stand there, in words."""
    default: str
    """The default as YAML has it; "required" where there is none."""
    text: str
    """What it means."""


def sweep_fields() -> list[FieldNote]:
    """Describe every field of a sweep file, in the order of the schema.

    Returns
    -------
    list of FieldNote
        The blocks' own fields first, then those inside them.
    """
    return list(_notes(SweepConfig, ""))


def find_fields(word: str, *, tuning: bool = False) -> list[FieldNote]:
    """Find the fields whose path contains a word.

    Parameters
    ----------
    word : str
        Such as `recipe`, `design.budgets` or `width`; an empty word finds all.
    tuning : bool
        Whether they are those of a fine-tuning sweep.
    """
    notes = _notes(FinetuneSweep, "") if tuning else sweep_fields()
    return [note for note in notes if word in note.path]


def markdown(*, tuning: bool = False) -> str:
    """Write the reference as a page of tables, a block each; that of a fine-tuning sweep where `tuning` says so."""
    topic, name = ("finetune", "fine-tuning sweep") if tuning else ("config", "sweep file")
    blocks: dict[str, list[FieldNote]] = {}
    for note in find_fields("", tuning=tuning):
        blocks.setdefault(note.path.rpartition(".")[0], []).append(note)
    lines = [
        f"# Fields of a {name}",
        "",
        f"Made from the code by `isoflop help {topic} --markdown`. `isoflop help {topic} WORD` prints the fields whose",
        f"name contains a word; `isoflop help {topic} --json-schema` writes a schema for the checks of editors.",
        "A field of a block is written inside it (`design: {kind: ladder}`) and overridden by its dotted name",
        "(`isoflop run mine.yaml --design.kind=ladder`).",
    ]
    for block, notes in blocks.items():
        lines += ["", f"## {block or 'The file'}", "", "| field | what | default | meaning |", "|---|---|---|---|"]
        lines += [f"| `{n.path}` | {_cell(n.kind)} | {_cell(n.default)} | {_cell(n.text)} |" for n in notes]
    return "\n".join(lines) + "\n"


def json_schema(*, tuning: bool = False) -> dict[str, Any]:
    """Build a JSON schema (draft 2020-12) of the sweep file, for the completion and checks of editors.

    Parameters
    ----------
    tuning : bool
        Whether it is that of a fine-tuning sweep, whose methods may be names alone.

    Returns
    -------
    dict of str to object
        Plain data.
    """
    schema = _schema(FinetuneSweep if tuning else SweepConfig)
    if tuning:
        methods = schema["properties"]["design"]["properties"]["methods"]
        methods["items"] = {"anyOf": [{"enum": list(METHODS)}, methods["items"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "isoflop sweep", **schema}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _notes(cls: type, prefix: str) -> Iterator[FieldNote]:
    hints, inner = get_type_hints(cls), []
    for item in _fields(cls):
        path, hint = f"{prefix}{item.name}", hints[item.name]
        yield FieldNote(path=path, kind=_words(hint), default=_default(item), text=_texts(cls).get(item.name, ""))
        block = _block(hint)
        if block is not None:
            inner.append((block, f"{path}[]." if get_origin(hint) is tuple else f"{path}."))
        elif path == "model":
            inner.append((TransformerConfig, "model."))
    for block, place in inner:
        yield from _notes(block, place)


def _fields(cls: type) -> list[Field[Any]]:
    """The fields that a file may set."""
    hidden = RESERVED_MODEL_FIELDS if cls is TransformerConfig else {"content_hash", "tokenizer_hash"}
    return [item for item in fields(cls) if item.name not in hidden]


@cache
def _texts(cls: type) -> Mapping[str, str]:
    """Field name -> the docstring under it, with those of base classes."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not is_dataclass(base):
            continue
        (definition,) = ast.parse(inspect.cleandoc(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for node, after in zip(definition.body, definition.body[1:], strict=False):
            match node, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = inspect.cleandoc(text).replace("\n", " ")
    return found


def _default(item: Field[Any]) -> str:
    if item.default is not MISSING:
        return _yaml(item.default)
    if item.default_factory is MISSING:
        return "required"
    made = item.default_factory()
    return "its own fields' defaults" if is_dataclass(made) else _yaml(made)


def _yaml(value: Any) -> str:
    """A default as YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value) if value != {} else "{}"


def _block(hint: Any) -> type | None:
    """The dataclass in a hint, or in the elements of a tuple's."""
    if isinstance(hint, type) and is_dataclass(hint):
        return hint
    return next((found for part in get_args(hint) if (found := _block(part)) is not None), None)


def _words(hint: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(_yaml(part) for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _words(part) for part in parts)
    if origin is tuple:
        if parts[-1] is Ellipsis:
            return f"list of {_words(parts[0])}"
        return f"[{', '.join(_words(part) for part in parts)}]"
    if is_dataclass(hint):
        return "block"
    return SCALARS.get(hint, "mapping")


def _schema(hint: Any) -> dict[str, Any]:
    origin, parts = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint)
        properties = {
            item.name: _schema(hints[item.name]) | {"description": _texts(hint).get(item.name, "")}
            for item in _fields(hint)
        }
        if hint is SweepConfig:
            properties["model"] = _schema(TransformerConfig) | {"required": [], "description": _texts(hint)["model"]}
        needed = [n.name for n in _fields(hint) if n.default is MISSING and n.default_factory is MISSING]
        return {"type": "object", "additionalProperties": False, "properties": properties, "required": needed}
    if origin is Literal:
        return {"enum": list(parts)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if part is type(None) else _schema(part) for part in parts]}
    if origin is tuple and parts[-1] is Ellipsis:
        return {"type": "array", "items": _schema(parts[0])}
    if origin is tuple:
        return {"type": "array", "prefixItems": [_schema(part) for part in parts], "items": False}
    return {"type": SCALARS[hint]} if hint in SCALARS else {}

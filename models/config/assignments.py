"""FIELD=VALUE of a command line -> a field of TransformerConfig and its value; torch-free."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from models.config.transformer import TransformerConfig
from models.errors import UserError


def parse_assignment(text: str) -> tuple[str, Any]:
    """Return the field and the value of FIELD=VALUE; values are JSON, or a plain word."""
    field, separator, value = text.partition("=")
    fields = [item.name for item in dataclasses.fields(TransformerConfig)]
    if not separator or field not in fields:
        raise UserError(f"--set {text!r} names no field; give FIELD=VALUE with one of {', '.join(fields)}")
    try:
        return field, json.loads(value)
    except json.JSONDecodeError:
        return field, value

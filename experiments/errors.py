"""The error that a user of `experiments` is meant to read: the one of the whole suite."""

from __future__ import annotations

from models.errors import UserError as UserError

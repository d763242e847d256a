"""There is one error for people, whatever package raises it."""

from __future__ import annotations

import analysis.errors
import experiments.errors
import models.errors
from experiments.files import StoreError
from experiments.records import RecordError


def test_the_three_packages_raise_one_class() -> None:
    assert experiments.errors.UserError is models.errors.UserError
    assert analysis.errors.UserError is models.errors.UserError


def test_the_errors_of_files_and_records_are_caught_with_it() -> None:
    assert issubclass(StoreError, models.errors.UserError)
    assert issubclass(RecordError, models.errors.UserError)

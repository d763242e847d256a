"""The reference of the sweep file says what the code says: on its page, on the terminal and to editors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import isoflop
from experiments.config.reference import json_schema, markdown, sweep_fields
from experiments.config.yaml_text import read_yaml

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_of_the_sweep_file_is_made_from_the_code() -> None:
    page = (ROOT / "docs" / "sweep_file.md").read_text(encoding="utf-8")
    assert page == markdown(), "run `isoflop help config --markdown > docs/sweep_file.md`"


def test_every_field_has_a_meaning_and_a_path_of_its_own() -> None:
    notes = sweep_fields()
    assert len({note.path for note in notes}) == len(notes) > 50
    assert [note.path for note in notes if not note.text] == []


def test_a_word_finds_its_fields_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert isoflop.main(["help", "config", "decay_fraction"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("schedule.decay_fraction")
    assert isoflop.main(["help", "config", "colour"]) == 2
    assert "colour" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted((ROOT / "experiments" / "sweeps").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_sweep_holds_to_the_schema(file: Path) -> None:
    schema = json_schema(tuning="\npretrained:" in file.read_text())
    json.dumps(schema)

    def check(value: object, allowed: dict[str, object], where: str) -> None:
        if isinstance(value, dict) and "properties" in allowed:
            properties = allowed["properties"]
            assert isinstance(properties, dict)
            assert set(value) <= set(properties), where
            for name, part in value.items():
                check(part, properties[name], f"{where}.{name}")
        if isinstance(value, list) and "items" in allowed and allowed["items"]:
            for part in value:
                check(part, allowed["items"], f"{where}[]")  # type: ignore[arg-type]

    check(read_yaml(file), schema, file.stem)

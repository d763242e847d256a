"""Data sets of Hugging Face: the package, one sentence for what cannot be had, and the rows of a labelled one.

A folder on this machine (files of any kind that `datasets` reads, or what its `save_to_disk` wrote) needs no network.
It must not know tasks or tokenizers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError

SAVED = ("dataset_dict.json", "dataset_info.json")
"""Files by which a folder of `save_to_disk` is known."""
LABELLED_SPLITS = ("test", "train", "validation")
"""Splits that are read, test first; others (unlabelled ones, of some data sets) are not."""
UNLABELLED = -1
"""What stands for a class that is not told."""


def import_datasets() -> Any:
    """The package datasets, or one sentence that says how to get it."""
    try:
        import datasets
    except ImportError as error:
        raise UserError("hf:NAME needs the package datasets; install it with: pip install 'isoflop[data]'") from error
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what is wrong is said once, by `not_had`
    return datasets


def not_had(where: str, error: Exception) -> UserError:
    """One sentence for a data set that the package did not bring.

    Parameters
    ----------
    where : str
        What was asked for.
    error : Exception
        What the package said.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(
        f"data set {where!r} could not be had ({reason}); check its name, split and the network, "
        f"or give local files as jsonl:PATH or parquet:PATH"
    )


def labelled_rows(where: str) -> list[tuple[dict[str, Any], str | None]]:
    """Rows of a labelled data set, classes by their names.

    Parameters
    ----------
    where : str
        A folder, or NAME or NAME:CONFIG of the hub.

    Returns
    -------
    list of tuple of (dict, str or None)
        A row by column, and "test" or "train" where the data set has a labelled test split; None leaves the split to
        a hash. A split whose classes are not told is left out.

    Raises
    ------
    UserError
        When the package is missing, or the data set cannot be had.
    """
    datasets = import_datasets()
    folder = Path(where).expanduser()
    name, _, config = where.partition(":")
    try:
        if any((folder / file).is_file() for file in SAVED):
            found = datasets.load_from_disk(str(folder))
        elif folder.is_dir():
            found = datasets.load_dataset(str(folder))
        else:
            found = datasets.load_dataset(name, config or None)
    except (OSError, ValueError, RuntimeError) as error:
        raise not_had(where, error) from error
    splits: Mapping[str, Any] = found if isinstance(found, Mapping) else {"train": found}
    labelled = [name for name in LABELLED_SPLITS if name in splits and not _is_unlabelled(splits[name])]
    others = "train" if "test" in labelled else None
    return [(row, "test" if name == "test" else others) for name in labelled for row in _named(splits[name])]


def _is_unlabelled(split: Any) -> bool:
    """Whether a column of classes tells none."""
    classes = [name for name, feature in split.features.items() if hasattr(feature, "int2str")]
    return any(set(split[name]) == {UNLABELLED} for name in classes)


def _named(split: Any) -> list[dict[str, Any]]:
    """Rows in which names stand for the numbers of classes, alone or in lists."""
    alone = {name: feature for name, feature in split.features.items() if hasattr(feature, "int2str")}
    inner: dict[str, Any] = {name: getattr(feature, "feature", None) for name, feature in split.features.items()}
    lists = {name: feature for name, feature in inner.items() if hasattr(feature, "int2str")}
    rows = []
    for row in split:
        words: dict[str, Any] = dict(row)
        for name, feature in alone.items():
            words[name] = None if row[name] in (None, UNLABELLED) else feature.int2str(row[name])
        for name, feature in lists.items():
            words[name] = [feature.int2str(number) for number in row[name]]
        rows.append(words)
    return rows

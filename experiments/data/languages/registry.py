"""From a data config to the language that it names; a new language is one line here."""

from __future__ import annotations

from collections.abc import Callable

from experiments.data.config import DataConfig
from experiments.data.languages.base import Language
from experiments.data.languages.markov import MarkovLanguage
from experiments.data.languages.random_hierarchy import RandomHierarchyLanguage
from experiments.data.languages.zipf_memory import ZipfMemoryLanguage

LANGUAGES: dict[str, Callable[..., Language]] = {
    "markov": MarkovLanguage,
    "random-hierarchy": RandomHierarchyLanguage,
    "zipf-memory": ZipfMemoryLanguage,
}
"""Class of each language; its parameters are the corpus options less num_tokens."""


def build_language(data: DataConfig) -> Language:
    """Build the language of a config.

    Parameters
    ----------
    data : DataConfig
        A config of a synthetic language.

    Returns
    -------
    Language
        Ready to generate and to score.

    Raises
    ------
    UserError
        When its options contradict one another.
    """
    options = {name: value for name, value in data.options.items() if name != "num_tokens"}
    return LANGUAGES[data.info.name](**options)

"""The tokenizer of a Hugging Face checkpoint, with ids as its model knows them, and the marks that stand around texts.

It must not know tasks or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.tokenizers.bpe import import_tokenizers
from experiments.data.tokenizers.tokenizer import BOS, EOD, PAD, SEP
from experiments.errors import UserError

BEGINS = ("[CLS]", "<s>", "<|endoftext|>", "</s>")
"""Names of the mark before a text, of BERT, Llama, GPT-2 and MPT, T5."""
ENDS = ("[SEP]", "</s>", "<|endoftext|>")
"""Names of the mark after a text or between two."""
PADS = ("[PAD]", "<pad>")
"""Names of padding; without one the mark after a text pads, for nothing reads it."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Ids that stand around and between texts."""

    begin: int
    """Before a text."""
    separator: int
    """Between two texts."""
    end: int | None
    """After a text that a model reads; None: nothing stands there."""
    start: int
    """What the decoder of an encoder-decoder reads first."""
    stop: int
    """What a model writes when it has finished."""
    pad: int
    """Fills short rows; never read."""


OWN = Marks(begin=EOD, separator=SEP, end=None, start=BOS, stop=EOD, pad=PAD)
"""Marks of models that this suite pre-trains."""


class CheckpointTokenizer:
    """The tokenizer.json of a checkpoint folder.

    Parameters
    ----------
    folder : Path
        The checkpoint.

    Raises
    ------
    UserError
        When there is no tokenizer.json, the package tokenizers is not there, or it cannot read the file.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise UserError(f"{folder} holds no tokenizer.json; save the checkpoint with its fast tokenizer")
        try:
            self._own: Any = import_tokenizers().Tokenizer.from_file(str(file))
        except UserError:
            raise
        except Exception as error:  # the package raises bare Exception
            raise UserError(f"{file} cannot be read by the package tokenizers ({error}); write it again") from error
        self._own.no_truncation()
        self._own.no_padding()
        self.vocab_size: int = self._own.get_vocab_size(with_added_tokens=True)

    def encode(self, documents: Sequence[bytes]) -> list[NDArray[np.integer]]:
        """Ids of each document, int64, without marks."""
        texts = [document.decode("utf-8") for document in documents]
        return [np.array(one.ids, dtype=np.int64) for one in self._own.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> bytes:
        """The text that the ids stand for, as its decoder writes it; marks stand for none."""
        return str(self._own.decode([int(i) for i in ids])).encode()

    def find(self, names: Sequence[str]) -> int | None:
        """Id of the first of several tokens that it has."""
        found = (self._own.token_to_id(name) for name in names)
        return next((int(one) for one in found if one is not None), None)

    def marks(self) -> Marks:
        """The marks of its vocabulary; UserError when it has none that we know."""
        begin, end, pad = self.find(BEGINS), self.find(ENDS), self.find(PADS)
        if begin is None or end is None:
            raise UserError(
                f"the tokenizer has none of {', '.join(dict.fromkeys((*BEGINS, *ENDS)))}, with which texts begin and "
                f"end; give a checkpoint that has one"
            )
        pad = end if pad is None else pad
        return Marks(begin=begin, separator=end, end=end, start=pad, stop=end, pad=pad)

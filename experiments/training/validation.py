"""The validation loss of a model: sums per document over a fixed held-out set, and their mean with its standard error.

It must not know training, stores or sweeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from experiments.config.run import RunConfig
from experiments.data.corpus import TokenCorpus
from experiments.distributed.ranks import ALONE, Ranks

EVAL_BATCH_TOKENS = 8192
"""Tokens per validation batch; fixed, because sums may depend on it in the last digit."""


def evaluate(
    module: Any, config: RunConfig, corpus: TokenCorpus, fabric: Fabric, ranks: Ranks = ALONE
) -> tuple[np.ndarray, np.ndarray]:
    """Summed nats and token counts per validation document.

    Parameters
    ----------
    module : LightningModule
        The model on its device, in evaluation mode.
    config : RunConfig
        The run.
    corpus : TokenCorpus
        Its tokens.
    fabric : Fabric
        Device and precision.
    ranks : Ranks
        Who takes part: the batches are shared out, and the sums added up on every rank.

    Returns
    -------
    sums, counts : array, shape (number of validation documents,)
        Nats and predicted tokens of each document.
    """
    device, documents = fabric.device, corpus.num_val_documents
    sums = torch.zeros(documents, dtype=torch.float64, device=device)
    counts = np.zeros(documents, dtype=np.int64)
    with torch.no_grad(), fabric.autocast():
        for (tokens, document_ids, mask), counted in ranks.shard_items(_batches(config, corpus)):
            on_device = torch.from_numpy(tokens).to(device)
            losses, predicted = module.losses_and_mask(on_device)
            if not counted:
                continue
            kept = predicted.cpu() & torch.from_numpy(mask)
            ids = torch.from_numpy(document_ids).expand(losses.shape)[kept]
            sums.index_add_(0, ids.to(device), losses[kept.to(device)].double())
            counts += np.bincount(ids.numpy(), minlength=documents)
    return ranks.total(sums.cpu().numpy()), ranks.total(counts)


def _batches(config: RunConfig, corpus: TokenCorpus) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The validation batches that an objective is asked about: (tokens, document of each target, which may count).

    Where targets are not the tokens one by one, a sequence has one document and counts as a whole: (B, 1).
    """
    for tokens, document_ids, mask in corpus.val_batches(max(1, EVAL_BATCH_TOKENS // config.data.context)):
        if config.objective.name == "causal":
            yield tokens, document_ids, mask
            continue
        whole = mask.all(axis=1)  # what is taken out is drawn per sequence, so that only whole ones mean the same
        if whole.any():
            yield tokens[whole], document_ids[whole, :1], mask[whole, :1]

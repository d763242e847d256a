"""What tuning did to the body: its pre-training validation loss afterwards, on the documents of its own record."""

from __future__ import annotations

from experiments.config.run import RunConfig
from experiments.data.corpus import TokenCorpus, clustered_mean
from experiments.distributed.runtime import Runtime
from experiments.training.validation import evaluate
from models.modules.transformer import Transformer
from models.trainable import TrainableTransformer


def pretraining_loss(body: Transformer, config: RunConfig, corpus: TokenCorpus, fabric: Runtime) -> float:
    """Measure the pre-training validation loss of a body as it is.

    Parameters
    ----------
    body : Transformer
        With its method; it is left in evaluation mode.
    config : RunConfig
        The pre-trained run.
    corpus : TokenCorpus
        Its tokens.
    fabric : Runtime
        Device and precision.

    Returns
    -------
    float
        Nats per token, over the same documents as the record of the run.
    """
    lit = TrainableTransformer(
        model=config.model,
        optimizer=config.optimizer,
        schedule=config.schedule,
        objective=config.objective,
        total_tokens=config.tokens,
        batch_tokens=config.batch_tokens,
        seed=config.seed,
    )
    lit.model = body.eval()
    loss, _ = clustered_mean(*evaluate(lit, config, corpus, fabric))
    return loss

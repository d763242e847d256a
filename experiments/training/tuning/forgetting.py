"""What tuning did to the body: its pre-training validation loss afterwards, on the documents of its own record."""

from __future__ import annotations

from lightning.fabric import Fabric

from experiments.config.run import RunConfig
from experiments.data.corpus import TokenCorpus, clustered_mean
from experiments.training.validation import evaluate
from models.lit import LitTransformer
from models.modules.transformer import Transformer


def pretraining_loss(body: Transformer, config: RunConfig, corpus: TokenCorpus, fabric: Fabric) -> float:
    """Measure the pre-training validation loss of a body as it is.

    Parameters
    ----------
    body : Transformer
        With its method; it is left in evaluation mode.
    config : RunConfig
        The pre-trained run.
    corpus : TokenCorpus
        Its tokens.
    fabric : Fabric
        Device and precision.

    Returns
    -------
    float
        Nats per token, over the same documents as the record of the run.
    """
    lit = LitTransformer(
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

"""The model of a fine-tuning run: the body with its method, and what of it is saved. It must not know loops."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from experiments.config.tuning.run import FinetuneRun
from models.modules.finetuning import prepare
from models.modules.transformer import Transformer


def make_body(run: FinetuneRun, weights: Mapping[str, Tensor]) -> Transformer:
    """Make the body of a run with its method, before the first step.

    Parameters
    ----------
    run : FinetuneRun
        Says the method and the seeds.
    weights : mapping of str to Tensor
        The pre-trained weights; from scratch they are not read.

    Returns
    -------
    Transformer
        Whose parameters learn where the method says so.
    """
    body = Transformer(run.model, seed=run.seed)
    if run.method.name != "scratch":
        body.load_state_dict(dict(weights))
    return prepare(body, run.method, seed=run.seed)


def learned(model: nn.Module) -> dict[str, Tensor]:
    """What a run trained, by name, as copies on the CPU: all that is saved of it."""
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


def load_learned(model: nn.Module, trained: Mapping[str, Tensor]) -> None:
    """Put back what `learned` gave, in place.

    Parameters
    ----------
    model : Module
        Made by the same run.
    trained : mapping of str to Tensor
        By name.

    Raises
    ------
    ValueError
        When the names are not those that the model trains.
    """
    wanted = {name for name, p in model.named_parameters() if p.requires_grad}
    if wanted != set(trained):
        raise ValueError(f"what was saved differs from what the run trains: {sorted(wanted ^ set(trained))[:3]}")
    model.load_state_dict(dict(trained), strict=False)

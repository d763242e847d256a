"""The plain script that benchmarks/sweep.py is compared with: Lightning's Trainer, one run after another.

    python -m benchmarks.plain_sweep jobs.json --model gpt2

Torch's defaults, no logger, no checkpoint, no validation. The model is GPT-2 of transformers, or ours with or without
its own CPU kernels, so that model, kernels and loop can be told apart. Jobs and tokens are made by benchmarks/sweep.py.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

MODELS = ("gpt2", "ours", "ours-without-kernels")
"""GPT-2 of transformers; our model as workers train it; the same by torch's own operations."""


class PlainGPT2(lightning.LightningModule):
    """GPT-2 as a first script has it; without dropout, as our runs are.

    Parameters
    ----------
    job : dict
        width, depth, heads, vocab, context, rate.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__()
        import transformers

        transformers.logging.set_verbosity_error()
        self.rate = job["rate"]
        self.model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=job["vocab"],
                n_embd=job["width"],
                n_layer=job["depth"],
                n_head=job["heads"],
                n_positions=job["context"],
                attn_pdrop=0.0,
                embd_pdrop=0.0,
                resid_pdrop=0.0,
                use_cache=False,
            )
        ).train()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the mean next-token loss of (B, T + 1) ids."""
        logits_BTV = self.model(batch[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), batch[:, 1:].flatten())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW at a constant rate."""
        return torch.optim.AdamW(self.parameters(), lr=self.rate)


def our_model(job: dict[str, Any], *, kernels: bool) -> lightning.LightningModule:
    """Our module of the job's run, which brings its optimiser and schedule."""
    from experiments.config.run import run_config_from_dict
    from models.lit import LitTransformer
    from models.modules.attention import set_attention_backend

    config = run_config_from_dict(job["config"])
    module = LitTransformer(
        model=config.model,
        optimizer=config.optimizer,
        schedule=config.schedule,
        total_tokens=config.tokens,
        batch_tokens=config.batch_tokens,
        seed=config.seed,
        objective=config.objective,
    )
    if not kernels:
        set_attention_backend(module, "sdpa")
    return module


def switch_kernels_off() -> None:
    """Put torch's own operations where our kernels are called."""
    import models.losses
    import models.modules.layers
    import models.modules.transformer

    def entropy(x: Tensor, table: Tensor, bias: Tensor | None, targets: Tensor, reduction: str = "mean") -> Tensor:
        return torch.nn.functional.cross_entropy(
            torch.nn.functional.linear(x, table, bias), targets, reduction=reduction
        )

    def gelu(x: Tensor) -> Tensor:
        return torch.nn.functional.gelu(x, approximate="tanh")

    for module, name, value in (
        (models.modules.layers, "linear", torch.nn.functional.linear),
        (models.modules.layers, "gelu_tanh", gelu),
        (models.modules.transformer, "linear", torch.nn.functional.linear),
        (models.losses, "linear", torch.nn.functional.linear),
        (models.losses, "linear_cross_entropy", entropy),
    ):
        assert hasattr(module, name)
        setattr(module, name, value)


def main() -> None:
    """Train every job, and print the losses of their last steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", type=Path)
    parser.add_argument("--model", choices=MODELS, default="gpt2")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")  # Lightning's advice on workers of loaders
    jobs_file = json.loads(args.jobs.read_text(encoding="utf-8"))
    sequences = cast("Dataset[Tensor]", torch.from_numpy(np.load(jobs_file["sequences"])))
    if args.model == "ours-without-kernels":
        switch_kernels_off()
    for job in jobs_file["jobs"]:
        lightning.seed_everything(job["seed"], verbose=False)
        module = PlainGPT2(job) if args.model == "gpt2" else our_model(job, kernels=args.model == "ours")
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=job["steps"],
            max_epochs=-1,
            gradient_clip_val=1.0 if args.model == "gpt2" else None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(sequences, batch_size=job["batch"], shuffle=True, drop_last=True))
        print(json.dumps({"run": job["run_id"], "steps": trainer.global_step}))


if __name__ == "__main__":
    main()

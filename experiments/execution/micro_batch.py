"""The micro-batch: how many sequences a rank holds at a time, halved after each attempt that ran out of memory."""

from __future__ import annotations

from experiments.config.kinds import AnyRun


def micro_batch_of(config: AnyRun, num_ooms: int, num_ranks: int, chosen: int | None = None) -> int:
    """How many sequences a rank holds at a time after attempts that ran out of memory: half as many for each.

    Parameters
    ----------
    config : AnyRun
        The run.
    num_ooms : int
        Attempts that ran out of memory.
    num_ranks : int
        Processes that train together.
    chosen : int, optional
        Most sequences that the user allows.
    """
    share = -(-config.batch_sequences // num_ranks)
    return max(1, min(share, chosen or share) >> num_ooms)

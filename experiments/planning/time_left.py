"""What is left of a sweep's training, and how long it takes: the estimate that `status` shows. Pure and torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from experiments.manifests import RunFacts, Segment
from experiments.planning.costs import CostModel
from experiments.planning.packing import pack


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """Estimates the time left of a sweep from how far its runs and shared prefixes are."""

    facts: Mapping[str, RunFacts]
    """What the manifest says of each run."""
    segments: Sequence[Segment]
    """What was planned, each after the segment that it waits for."""
    costs: CostModel
    """Rates; those that were measured meanwhile count at once."""

    def whole_seconds(self, run_id: str) -> float:
        """Estimate the seconds of a run from its first step to its last, on one worker."""
        facts = self.facts[run_id]
        return self.costs.seconds_of(shape=facts.shape, tokens=facts.tokens, estimate=facts.seconds)

    def seconds(self, left: Mapping[str, float], prefix_steps: Mapping[str, int], *, workers: int) -> float:
        """Estimate the time to the end of the sweep.

        Parameters
        ----------
        left : mapping of str to float
            Seconds left of each run beyond its shared prefix, on one worker; runs that are over are absent.
        prefix_steps : mapping of str to int
            Steps that each shared prefix is trained to.
        workers : int
            Number of equal workers.

        Returns
        -------
        float
            Seconds until the last worker is idle.
        """
        return pack(self.left(left, prefix_steps), workers).seconds

    def left(self, left: Mapping[str, float], prefix_steps: Mapping[str, int]) -> list[Segment]:
        """List what is still to be trained, the most urgent first.

        Parameters
        ----------
        left : mapping of str to float
            Seconds left of each run beyond its shared prefix; see `seconds`.
        prefix_steps : mapping of str to int
            Steps that each shared prefix is trained to.

        Returns
        -------
        list of Segment
            Each with the time that is left of it. Parts of a prefix that no run waits for are absent.
        """
        seconds = {name: value for name, value in left.items() if value}
        awaited: set[str | None] = set()
        for item in reversed(self.segments):  # what waits for a segment comes after it
            if item.segment_id in seconds:
                awaited.add(item.after)
            if not item.is_prefix or item.segment_id not in awaited:
                continue
            steps = item.end_step - max(item.start_step, prefix_steps.get(str(item.prefix), 0))
            if steps > 0:
                awaited.add(item.after)
                facts = self.facts[item.run_id]
                share = steps * facts.batch_tokens / facts.tokens
                seconds[item.segment_id] = self.whole_seconds(item.run_id) * share
        planned = [
            replace(item, seconds=seconds.pop(item.segment_id)) for item in self.segments if item.segment_id in seconds
        ]
        alone = [Segment(segment_id=name, run_id=name, end_step=1, seconds=value) for name, value in seconds.items()]
        return planned + sorted(alone, key=lambda item: -item.seconds)

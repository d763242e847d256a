"""What `prune` finds of shared prefixes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.config.kinds import prefix_id
from experiments.config.run import RunConfig
from experiments.data.cache import Cache
from experiments.manifests import Manifest
from experiments.store.checkpoints import declare_needed
from experiments.store.store import RunStore
from experiments.verbs.records.prune import removable
from tests.experiments.execution.test_sharing import budgets, train


def test_prune_lists_prefixes_that_no_sweep_has_and_with_an_option_those_that_are_done(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    runs = budgets(make_config, 60, 120)
    store = RunStore(tmp_path)
    plan = train(store, runs, cache)
    trunk = store.prefixes / str(prefix_id(runs[0].config))
    assert trunk in removable(store), "no manifest lists the prefix"
    ids: dict[str, dict[str, object]] = {run.run_id: {} for run in runs}
    store.write_manifest(Manifest(name="test", runs=ids, trunks=plan.prefixes))
    assert trunk not in removable(store)
    assert trunk in removable(store, prefixes=True)
    declare_needed(store, "another", plan.prefixes)
    assert removable(store) == [trunk / "needed" / "another.json"]
    declare_needed(store, "another", {})
    assert removable(store) == []

"""A sweep's report folder, with its figures, as an artifact in W&B.

A folder counts as the sweep's own report when its table of runs says what the records say. It must not know how a
report is made.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from experiments.config.designs import PlannedRun
from experiments.errors import UserError
from experiments.manifests import Manifest
from experiments.mirror.client import Client, Label, WandbError, wandb_errors
from experiments.mirror.holdings import Holdings
from experiments.records import RunStatus
from experiments.store.store import RunStore

PAGE = "report.html"


def find_report(store: RunStore, manifest: Manifest, runs: Sequence[PlannedRun]) -> Path | None:
    """The sweep's report, beside the store or here, when it is of these records; None otherwise."""
    for parent in dict.fromkeys((store.root.resolve(), Path.cwd())):
        folder = parent / "reports" / manifest.name
        if (folder / PAGE).is_file() and is_current(folder, store, runs):
            return folder
    return None


def is_current(folder: Path, store: RunStore, runs: Sequence[PlannedRun]) -> bool:
    """Whether a report's table holds the loss of every finished run, to the last digit."""
    table = folder / "tables" / "runs.csv"
    if not table.is_file():
        return False
    with table.open(encoding="utf-8", newline="") as stream:
        listed = {row.get("run_id"): row.get("loss") for row in csv.DictReader(stream)}
    records = [store.find_record(run.run_id) for run in runs]
    losses = {record.run_id: record.outcome["loss"] for record in records if record and record.status is RunStatus.DONE}
    return bool(losses) and all(listed.get(run_id) == repr(loss) for run_id, loss in losses.items())


def check_report(folder: Path) -> Path:
    """The folder, when there is a report in it; UserError otherwise."""
    if not (folder / PAGE).is_file():
        raise UserError(f"{folder} holds no {PAGE}; make it with `isoflop report`")
    return folder


def send_report(client: Client, holdings: Holdings, manifest: Manifest, folder: Path) -> bool:
    """Log the folder as the artifact `<sweep>-report`; False when W&B holds just this version already.

    Parameters
    ----------
    client : Client
        Opens the W&B run that logs it.
    holdings : Holdings
        Asks what W&B holds.
    manifest : Manifest
        The sweep that is reported.
    folder : Path
        The report's page and figures.

    Returns
    -------
    bool
        Whether it was sent.

    Raises
    ------
    WandbError
        When it does not arrive within the client's patience, or what arrived is not what was sent.
    """
    import wandb

    name, run_id = f"{manifest.name}-report", f"report-{manifest.name}"
    client.place()  # decides where artifacts are staged
    artifact = wandb.Artifact(name, type="report", metadata={"sweep": manifest.name, "runs": len(manifest.runs)})
    policy = "immutable" if client.online else "mutable"  # offline files wait, and the folder may change meanwhile
    artifact.add_dir(str(folder), policy=policy, skip_cache=True)
    if holdings.artifact_digest(run_id, name) == artifact.digest:
        return False
    held = holdings.look([run_id]).get(run_id)
    label = Label(
        run_id=run_id,
        name=f"report of {manifest.name}",
        group=manifest.name,
        job_type="report",
        tags=(manifest.name,),
    )
    target = client.open(label, fragment=held.num_fragments if held else 0)
    with wandb_errors():
        logged = target.run.log_artifact(artifact)
        if client.online:
            logged.wait(timeout=round(client.patience))
    target.finish(done=True, summary={}, config={})
    if client.online and holdings.artifact_digest(run_id, name) != artifact.digest:
        raise WandbError(f"the newest version of {name} in W&B is not the report that was sent")
    return True

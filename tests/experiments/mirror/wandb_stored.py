"""What the W&B server of the tests keeps: runs and artifacts, and how they look in a GraphQL answer."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

ENTITY = "somebody"


@dataclass
class StoredRun:
    """One run, as the service keeps it."""

    project: str
    name: str
    display_name: str
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    state: str = "running"
    preempting: bool = False
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    num_starts: int = 0

    @property
    def id(self) -> str:
        return base64.b64encode(f"{self.project}/{self.name}".encode()).decode()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """History in the order of its lines."""
        return [self.lines[number] for number in sorted(self.lines)]

    @property
    def x_axes(self) -> dict[str, str | None]:
        """Metric or pattern -> the metric that is its x-axis, as define_metric left them."""
        metrics = self.config.get("_wandb", {}).get("value", {}).get("m", [])
        names = [metric.get("1") or metric.get("2") for metric in metrics]
        return {
            name: names[metric["5"] - 1] if "5" in metric else None for name, metric in zip(names, metrics, strict=True)
        }

    def node(self) -> dict[str, Any]:
        """The run in a GraphQL answer."""
        last = self.rows[-1:]
        return {
            "id": self.id,
            "name": self.name,
            "displayName": self.display_name,
            "config": json.dumps(self.config),
            "summaryMetrics": json.dumps(self.summary),
            "systemMetrics": "{}",
            "group": self.group,
            "groupName": self.group,
            "jobType": self.job_type,
            "tags": self.tags,
            "state": self.state,
            "sweepName": None,
            "notes": "",
            "description": "",
            "commit": None,
            "readOnly": False,
            "stopped": False,
            "createdAt": "2026-01-01T00:00:00",
            "heartbeatAt": "2026-01-01T00:00:00",
            "projectId": "1",
            "internalId": "1",
            "project": project_node(self.project),
            "user": {"name": "somebody", "username": ENTITY},
            "historyLineCount": len(self.lines),
            "historyKeys": {"lastStep": max((row["_step"] for row in self.rows), default=-1), "keys": {}},
            "historyTail": json.dumps([json.dumps(row) for row in last]),
            "eventsLineCount": len(self.events),
            "eventsTail": "[]",
            "logLineCount": 0,
            "wandbConfig": json.dumps({"t": 1}),
            "files": {"edges": []},
            "parquetHistory": {"liveData": self.rows, "parquetUrls": []},
            "sampledHistory": [self.rows],
        }


def project_node(name: str) -> dict[str, Any]:
    """A project in a GraphQL answer."""
    return {
        "id": "cHJvag==",
        "internalId": "1",
        "name": name,
        "entityName": ENTITY,
        "createdAt": "2026-01-01T00:00:00",
        "isBenchmark": False,
        "readOnly": False,
        "entity": {"id": "e", "name": ENTITY},
    }


@dataclass
class StoredArtifact:
    """One version of an artifact."""

    project: str
    name: str
    type: str
    digest: str
    run: str
    number: int
    committed: bool = False
    files: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its number among the artifacts of the server, after an a."""
        return f"a{self.number}"

    def node(self) -> dict[str, Any]:
        """The version in a GraphQL answer."""
        project = project_node(self.project)
        collection = {"__typename": "ArtifactSequence", "id": "s", "name": self.name, "project": project}
        alias = {"__typename": "ArtifactAlias", "id": "l", "alias": "latest", "artifactCollection": collection}
        return {
            "__typename": "Artifact",
            "id": self.id,
            "artifactSequence": collection,
            "versionIndex": 0,
            "artifactType": {"name": self.type},
            "description": None,
            "metadata": "{}",
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED",
            "size": 0,
            "digest": self.digest,
            "commitHash": None,
            "fileCount": len(self.files),
            "createdAt": "2026-01-01T00:00:00",
            "updatedAt": None,
            "aliases": [alias],
        }

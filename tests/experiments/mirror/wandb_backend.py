"""A W&B server for tests: what the real client needs to send runs and artifacts online and to read them back.

It listens on 127.0.0.1, keeps everything in memory, and fails on demand. Of W&B it knows GraphQL by operation names,
the file stream (history by line number, as the service files it), uploads to signed addresses, and artifacts.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlparse

from tests.experiments.mirror.wandb_stored import ENTITY, StoredArtifact, StoredRun, project_node

KEY = "isoflop0testkey0that0no0file0may0contain"
"""What the client is told to log in with; forty characters, as W&B's are."""


@dataclass
class Fault:
    """What happens to the next requests of one route."""

    route: str
    """Operation name, `file_stream` or `storage`."""
    times: int
    """How many requests."""
    status: int | None = None
    """HTTP status to answer with; None for a request that is never answered."""


class Backend:
    """The server; a context manager."""

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.artifacts: list[StoredArtifact] = []
        self.uploads: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.unknown: list[str] = []
        self.faults: list[Fault] = []
        self.dead = False
        """While true, connections are closed without an answer."""
        self.num_refused = 0
        """Requests that met a dead server."""
        self.num_lost_chunks = 0
        """How many of the next chunks of history are acknowledged and not filed."""
        self.changed = threading.Condition(threading.RLock())
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def upload(self, path: str, content: bytes) -> dict[str, Any]:
        """Keep what was sent to a signed address."""
        self.uploads[path] = content
        return {}

    def environment(self) -> dict[str, str]:
        """What tells the client to come here."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": KEY,
            "WANDB_MODE": "online",
            "WANDB_ERROR_REPORTING": "false",
            "NO_PROXY": "127.0.0.1",
        }

    def fail(self, route: str, *, times: int = 1, status: int | None = 500) -> None:
        """Answer the next requests of a route with an error, or never when `status` is None."""
        with self.changed:
            self.faults.append(Fault(route, times, status))

    def wait_for(self, condition: Any, timeout: float = 30.0) -> None:
        """Return when `condition()` is true; AssertionError when it does not become so."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout), "what the test waits for did not happen"

    # -- HTTP ----------------------------------------------------------------------------------------------------------

    def _handler(backend) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def handle(self) -> None:
                with suppress(ConnectionResetError, BrokenPipeError):  # a client that was killed
                    super().handle()

            def do_POST(self) -> None:
                path, content = urlparse(self.path).path, self._content()
                if path.endswith("/file_stream"):
                    *_, project, run, _ = path.split("/")
                    self._serve("file_stream", lambda: backend.file_stream(project, run, json.loads(content)))
                else:
                    query = json.loads(content)
                    found = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])
                    name = query.get("operationName") or (found.group(1) if found else "unnamed")
                    self._serve(name, lambda: backend.graphql(name, query["query"], query.get("variables") or {}))

            def do_PUT(self) -> None:
                path, content = unquote(urlparse(self.path).path), self._content()
                self._serve("storage", lambda: backend.upload(path, content))

            def do_GET(self) -> None:
                content = backend.uploads.get(unquote(urlparse(self.path).path))
                self._answer(200 if content is not None else 404, content or b"{}")

            def _content(self) -> bytes:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

            def _serve(self, route: str, answer: Any) -> None:
                if backend.dead:
                    with backend.changed:
                        backend.num_refused += 1
                        backend.changed.notify_all()
                    self.close_connection = True
                    return
                with backend.changed:
                    backend.requests[route] += 1
                    fault = next((one for one in backend.faults if one.route == route and one.times), None)
                    if fault is not None:
                        fault.times -= 1
                        backend.changed.notify_all()
                if fault is not None and fault.status is None:
                    backend._released.wait()
                    self.close_connection = True
                elif fault is not None and fault.status is not None:
                    self._answer(fault.status, b'{"error": "injected"}')
                else:
                    with backend.changed:
                        content = json.dumps(answer()).encode()
                        backend.changed.notify_all()
                    self._answer(200, content)

            def _answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Handler

    # -- the file stream -----------------------------------------------------------------------------------------------

    def file_stream(self, project: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Append lines to a run's files; say `complete` to end it."""
        run = self.runs[f"{project}/{name}"]
        for file, chunk in (body.get("files") or {}).items():
            if file == "wandb-history.jsonl" and self.num_lost_chunks:
                self.num_lost_chunks -= 1
            elif file == "wandb-history.jsonl":
                # After rows were lost the next stand where those would have been: a run that is opened again goes on
                # from the count of rows, and would else overwrite them.
                for number, line in enumerate(chunk["content"], start=min(chunk["offset"], len(run.lines))):
                    run.lines[number] = json.loads(line)
            elif file == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
            elif file == "wandb-events.jsonl":
                run.events += [json.loads(line) for line in chunk["content"]]
        run.preempting = run.preempting or bool(body.get("preempting"))
        if body.get("complete"):
            ended_badly = "preempted" if run.preempting else "failed"
            run.state = "finished" if body.get("exitcode") == 0 else ended_badly
        return {"limits": {}}

    # -- GraphQL -------------------------------------------------------------------------------------------------------

    def graphql(self, name: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer an operation by its name; one that is not known is remembered in `unknown`."""
        operation = getattr(self, f"_do_{name}", None)
        if operation is None:
            self.unknown.append(f"{name} {sorted(variables)}: {query}")
            return {"errors": [{"message": f"the test backend does not know {name}"}]}
        return {"data": operation(variables)}

    def _run(self, variables: dict[str, Any]) -> StoredRun | None:
        project = variables.get("project") or variables.get("projectName")
        name = variables.get("name") or variables.get("run") or variables.get("runName")
        return self.runs.get(f"{project}/{name}")

    def _do_Viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        viewer = {
            "id": "u",
            "entity": ENTITY,
            "username": ENTITY,
            "email": "",
            "name": "",
            "flags": "{}",
            "admin": False,
        }
        return {"viewer": viewer | {"teams": {"edges": [{"node": {"name": ENTITY}}]}, "apiKeys": {"edges": []}}}

    _do_GetDefaultEntity = _do_Viewer

    def _do_ServerFeaturesQuery(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _do_RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self._run(variables)
        return {"model": project_node(variables["project"]) | {"bucket": run.node() if run else None}}

    def _do_UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self._run(variables) or next((run for run in self.runs.values() if run.id == variables.get("id")), None)
        new = run is None
        if run is None:
            run = StoredRun(variables["project"], variables["name"], variables.get("displayName") or variables["name"])
            self.runs[f"{run.project}/{run.name}"] = run
        if new or run.state != "running":
            run.num_starts += 1
            run.state, run.preempting = "running", False
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        if variables.get("summaryMetrics"):
            run.summary |= json.loads(variables["summaryMetrics"])
        run.group = variables.get("groupName") or run.group
        run.job_type = variables.get("jobType") or run.job_type
        run.tags = variables.get("tags") or run.tags
        run.display_name = variables.get("displayName") or run.display_name
        return {"upsertBucket": {"bucket": run.node(), "inserted": new}}

    def _do_CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": file, "uploadUrl": f"{self.url}/storage/run/{file}"} for file in variables["files"]]
        return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}

    def _do_Runs(self, variables: dict[str, Any]) -> dict[str, Any]:
        mine = [run for run in self.runs.values() if run.project == variables["project"]]
        if not mine:
            return {"project": None}
        wanted = json.loads(variables.get("filters") or "{}").get("name", {}).get("$in", [])
        edges = [{"node": run.node(), "cursor": run.name} for run in mine if run.name in wanted]
        page = {"endCursor": None, "hasNextPage": False}
        runs = {"edges": edges, "totalCount": len(edges), "pageInfo": page}
        return {"project": project_node(variables["project"]) | {"runCount": len(edges), "runs": runs}}

    def _do_Run(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self._run(variables)
        return {"project": project_node(variables["project"]) | {"run": run.node() if run else None}}

    _do_RunHistoryKeys = _do_RunParquetHistory = _do_SampledHistoryPage = _do_HistoryPage = _do_Run

    # -- artifacts -----------------------------------------------------------------------------------------------------

    def _do_CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        wanted = variables["input"]
        artifact = StoredArtifact(
            project=wanted["projectName"],
            name=wanted["artifactCollectionName"],
            type=wanted["artifactTypeName"],
            digest=wanted["digest"],
            run=wanted["runName"],
            number=len(self.artifacts),
        )
        self.artifacts.append(artifact)
        sequence = {"id": "s", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": artifact.id, "state": "PENDING", "artifactSequence": sequence}}}

    def _do_CreateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.url}/storage/manifest/{variables['artifactID']}"
        file = {"id": "f", "name": variables["name"], "displayName": variables["name"], "uploadUrl": url}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file | {"uploadHeaders": []}}}}

    def _do_CreateArtifactFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for file in variables["input"]["artifactFiles"]:
            path = f"/storage/{file['artifactID']}/{file['name']}"
            self.artifacts[int(file["artifactID"][1:])].files[file["name"]] = path
            node = {"id": file["name"], "name": file["name"], "displayName": file["name"], "uploadUrl": self.url + path}
            node |= {"uploadHeaders": [], "storagePath": path, "uploadMultipartUrls": None}
            edges.append({"node": node | {"artifact": {"id": file["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _do_CommitArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[int(variables["artifactID"][1:])]
        artifact.committed = True
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": artifact.digest}}}

    def _latest(self, variables: dict[str, Any]) -> StoredArtifact | None:
        name = variables["name"].partition(":")[0]
        return next((one for one in reversed(self.artifacts) if one.name == name and one.committed), None)

    def _do_ArtifactType(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self._latest(variables)
        node = {"artifactType": {"name": artifact.type}} if artifact else None
        return {"project": project_node(variables["project"]) | {"artifact": node}}

    def _do_ArtifactByID(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"artifact": self.artifacts[int(variables["id"][1:])].node()}

    def _do_ArtifactMembershipByName(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact, membership = self._latest(variables), None
        if artifact is not None:
            node = artifact.node()
            membership = {name: node[name] for name in ("versionIndex", "createdAt", "aliases")}
            membership |= {"__typename": "ArtifactCollectionMembership", "id": "m", "artifact": node}
            membership |= {"artifactCollection": node["artifactSequence"]}
        return {"project": project_node(variables["project"]) | {"artifactCollectionMembership": membership}}

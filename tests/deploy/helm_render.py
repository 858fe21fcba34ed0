"""Has Helm's own library render or lint a chart: `helm_render.py render|lint CHART`, values as JSON on standard input.

The library installs; it has no word for rendering alone. So it installs into a stand-in for the Kubernetes API on this
machine, whose only answer to what is sent is no. Before Helm sends an object it stores the release, which holds everything:
that is what is printed, as JSON. Runs in a virtual environment of its own; see conftest.py.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from helm_sdkpy import Configuration, Install, Lint

# Kinds by their API, as a cluster with the Prometheus operator has them.
KINDS = {
    "v1": ["ConfigMap", "Pod", "Secret", "Service", "ServiceAccount"],
    "apps/v1": ["Deployment", "StatefulSet"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
    "monitoring.coreos.com/v1": ["PrometheusRule", "ServiceMonitor"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
}
# A stored release: gzip, in base64, between whatever surrounds it.
RELEASE = re.compile(rb"H4sI[A-Za-z0-9+/]+={0,2}")


class Cluster(BaseHTTPRequestHandler):
    """Says which kinds there are, that nothing is there yet, and no to everything else."""

    protocol_version = "HTTP/1.1"
    release: dict[str, Any] | None = None

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/version":
            self.answer({"major": "1", "minor": "32", "gitVersion": "v1.32.0"})
        elif path == "/api":
            self.answer({"kind": "APIVersions", "versions": ["v1"]})
        elif path == "/apis":
            groups = [version.split("/") for version in KINDS if "/" in version]
            listed = [{"groupVersion": f"{name}/{version}", "version": version} for name, version in groups]
            found = [
                {"name": name, "versions": [each], "preferredVersion": each}
                for (name, _), each in zip(groups, listed, strict=True)
            ]
            self.answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": found})
        elif (version := path.removeprefix("/apis/").removeprefix("/api/")) in KINDS:
            self.answer({"kind": "APIResourceList", "groupVersion": version, "resources": resources(KINDS[version])})
        elif path.endswith("/secrets"):
            self.answer({"kind": "SecretList", "apiVersion": "v1", "items": []})
        else:
            self.answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if (found := RELEASE.search(body)) is not None:
            # What comes after the base64 text may look like more of it.
            text = found.group()[: len(found.group()) // 4 * 4]
            Cluster.release = json.loads(gzip.decompress(base64.b64decode(text)))
        self.answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden"}, 403)

    def answer(self, value: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(value if status == 200 else {**value, "code": status}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def resources(kinds: list[str]) -> list[dict[str, Any]]:
    def plural(kind: str) -> str:
        low = kind.lower()
        return f"{low[:-1]}ies" if low.endswith("y") else f"{low}s"

    return [{"name": plural(k), "kind": k, "namespaced": True, "verbs": ["create", "get", "list"]} for k in kinds]


def main(command: str, chart: str) -> dict[str, Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "users": [{"name": "me", "user": {}}],
        "current-context": "here",
    }
    # A text is told from a path by its lines.
    lines = "\n".join(f"{key}: {json.dumps(value)}" for key, value in kubeconfig.items())
    helm = Configuration(namespace="masks", kubeconfig=lines)
    if command == "lint":
        return asyncio.run(Lint(helm).run(chart))
    try:
        asyncio.run(Install(helm).run("prod", chart, json.load(sys.stdin), wait=False))
    except Exception as error:
        if Cluster.release is None:
            return {"error": str(error)}
    assert Cluster.release is not None
    release = Cluster.release
    return {
        "manifest": release["manifest"],
        "notes": release["info"].get("notes", ""),
        "hooks": release.get("hooks") or [],
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))

"""Records what a real Label Studio asks an ML backend, and how it exports: requests.json and export.json of this folder.

    pip install label-studio requests    # 1.23.2 made what is committed
    USE_DEFAULT_BANNED_SUBNETS=false LABEL_STUDIO_USERNAME=a@example.com LABEL_STUDIO_PASSWORD=... \
      LABEL_STUDIO_USER_TOKEN=$TOKEN LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true label-studio start --no-browser --port 18080
    maskmend label-studio --label-studio-url http://127.0.0.1:18080 --label-studio-token $TOKEN --port 19091
    python make_requests.py $TOKEN

It stands between the two: requests pass through it to the backend, answers back.
"""

from __future__ import annotations

import http.server
import json
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import requests

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[3]
FIXTURES = HERE.parents[1] / "formats" / "fixtures" / "label-studio"
TOOL, BACKEND, BETWEEN = "http://127.0.0.1:18080", "http://127.0.0.1:19091", 19090
recorded: list[dict[str, Any]] = []


class Between(http.server.BaseHTTPRequestHandler):
    """Notes each request and passes it on."""

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) or None
        recorded.append({"method": self.command, "path": self.path, "body": json.loads(body) if body else None})
        request = urllib.request.Request(BACKEND + self.path, body, method=self.command)
        request.add_header("content-type", "application/json")
        try:
            answer = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            answer = error
        data = answer.read()
        self.send_response(answer.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815


def main(token: str) -> None:
    head = {"Authorization": f"Token {token}"}
    config = (FIXTURES / "make_label_studio.py").read_text().split('"""')[3]

    def post(path: str, **more: Any) -> Any:
        answer = requests.post(TOOL + path, headers=head, timeout=60, **more)
        answer.raise_for_status()
        return answer.json()

    between = http.server.ThreadingHTTPServer(("127.0.0.1", BETWEEN), Between)
    threading.Thread(target=between.serve_forever, daemon=True).start()
    project = post("/api/projects", json={"title": "maskmend", "label_config": config})["id"]
    photograph = (REPOSITORY / "samples" / "images" / "000000208901.jpg").read_bytes()
    files = {"file": ("000000208901.jpg", photograph, "image/jpeg")}
    post(f"/api/projects/{project}/import?commit_to_project=true", files=files)
    task = requests.get(f"{TOOL}/api/tasks?project={project}", headers=head, timeout=60).json()["tasks"][0]
    result = json.loads((FIXTURES / "export.json").read_text())[0]["annotations"][0]["result"]
    post(f"/api/tasks/{task['id']}/annotations/", json={"result": result, "lead_time": 1.0})
    backend = {"url": f"http://127.0.0.1:{BETWEEN}", "project": project, "is_interactive": True, "title": "maskmend"}
    number = post("/api/ml", json=backend)["id"]
    requests.get(f"{TOOL}/api/ml/{number}/versions", headers=head, timeout=60)
    asked = {"task": task["id"], "context": {"result": [result[0]]}}
    post(f"/api/ml/{number}/interactive-annotating", json=asked)
    chosen = {"selectedItems": {"all": True, "excluded": []}, "project": project}
    post(f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", json=chosen)
    exported = requests.get(f"{TOOL}/api/projects/{project}/export?exportType=JSON", headers=head, timeout=60)
    (HERE / "export.json").write_bytes(exported.content)
    text = json.dumps(recorded, indent=None).replace(token, "0" * len(token))
    (HERE / "requests.json").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1])

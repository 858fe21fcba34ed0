from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the backend needs the serve extra")
pytest.importorskip("httpx", reason="the tests of the backend need httpx")

import httpx
import uvicorn
from fastapi import FastAPI

from maskmend.clients import Refiner
from maskmend.clients.annotation.label_studio import build_app
from maskmend.clients.annotation.task_images import TaskImages
from maskmend.clients.formats.label_studio_regions import region_mask
from maskmend.patcher import Rle

REPOSITORY = Path(__file__).resolve().parents[3]
EXPORT = REPOSITORY / "tests" / "clients" / "formats" / "fixtures" / "label-studio" / "export.json"
PHOTOS = REPOSITORY / "samples" / "images"


class Grower:
    """Stands in for a refiner where no network is needed: adds a square, and keeps what it was given."""

    provenance = {"weights": "grower"}  # noqa: RUF012

    def __init__(self) -> None:
        self.calls: list[tuple[Any, list[Any]]] = []

    def refine(self, image: Any, masks: Any) -> Any:
        self.calls.append((image, masks))
        refined = []
        for number, mask in enumerate(masks):
            dense = Rle.from_coco(mask).to_dense().copy()
            if number:
                dense[20:40, 20:50] = True
            refined.append(SimpleNamespace(rle=Rle.from_dense(dense).to_coco(), score=0.5 + 0.1 * number))
        return SimpleNamespace(instances=refined)


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    """The application behind a real port."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def grower() -> Grower:
    return Grower()


@pytest.fixture
def client(grower: Grower) -> Iterator[httpx.Client]:
    with served(build_app(grower, TaskImages(PHOTOS, None), tolerance=0.0)) as found:
        yield found


@pytest.fixture
def tasks() -> list[dict[str, Any]]:
    return json.loads(EXPORT.read_text())


def predict(tasks: list[dict[str, Any]], context: Any = None) -> dict[str, Any]:
    """A request as Label Studio's own connector to ML backends writes it."""
    return {
        "tasks": tasks,
        "project": "3.1767600000",
        "label_config": "<View/>",
        "params": {"login": None, "password": None, "hostname": "http://localhost:8080", "context": context},
    }


def test_what_label_studio_asks_when_a_backend_is_connected(client: httpx.Client) -> None:
    for path in ("/", "/health"):
        assert client.get(path).json()["status"] == "UP"
    setup = {
        "project": "3.1767600000",
        "schema": "<View/>",
        "hostname": "http://localhost:8080",
        "access_token": "abc",
        "extra_params": None,
    }
    answer = client.post("/setup", json=setup)
    assert answer.status_code == 200
    assert answer.json()["model_version"].endswith("-grower")
    assert client.get("/metrics").json() == {}
    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED", "project": {"id": 3}}).status_code == 200


def test_the_regions_of_the_newest_annotation_are_refined_in_place(
    client: httpx.Client, grower: Grower, tasks: list[dict[str, Any]]
) -> None:
    answer = client.post("/predict", json=predict(tasks))
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert len(results) == len(tasks) == len(grower.calls)
    for task, prediction, (image, masks) in zip(tasks, results, grower.calls, strict=True):
        name = task["data"]["image"].replace("-", "/").rpartition("/")[2]
        assert image == (PHOTOS / name).read_bytes()
        before = task["annotations"][0]["result"]
        after = prediction["result"]
        assert len(after) == len(before)
        refined = [region for region in after if "score" in region]
        assert len(refined) == len(masks)
        for old, new in zip(before, after, strict=True):
            kept = ("id", "from_name", "to_name", "type", "original_width", "original_height")
            assert all(new.get(key) == old.get(key) for key in kept)
            if "score" not in new:
                assert new == old
        # The first was not changed by the refiner: the very same region, with a score.
        first = next(n for n, region in enumerate(after) if "score" in region)
        assert after[first] == {**before[first], "score": 0.5}
        assert region_mask(refined[1]).to_dense()[20:40, 20:50].all()
        assert prediction["score"] == pytest.approx(np.mean([region["score"] for region in refined]), abs=1e-4)
        assert prediction["model_version"].endswith("-grower")


def test_a_region_that_is_being_drawn_is_refined_alone(
    client: httpx.Client, grower: Grower, tasks: list[dict[str, Any]]
) -> None:
    (task,) = tasks[:1]
    drawn = deepcopy(task["annotations"][0]["result"][1])
    assert drawn["type"] == "polygonlabels"
    task["annotations"] = task["predictions"] = []
    answer = client.post("/predict", json=predict([task], {"result": [drawn], "annotation_id": None}))
    (prediction,) = answer.json()["results"]
    assert prediction["result"] == [{**drawn, "score": 0.5}]
    assert len(grower.calls) == 1


def test_predictions_are_refined_where_there_are_no_annotations(
    client: httpx.Client, grower: Grower, tasks: list[dict[str, Any]]
) -> None:
    tasks[0]["annotations"] = []
    tasks[1]["annotations"][0]["was_cancelled"] = True
    results = client.post("/predict", json=predict(tasks)).json()["results"]
    assert [[region["id"] for region in prediction["result"]] for prediction in results] == [["region_0005"]] * 2


def test_a_task_without_regions_has_an_empty_prediction(client: httpx.Client, grower: Grower) -> None:
    answer = client.post("/predict", json=predict([{"id": 1, "data": {"image": "x.jpg"}}]))
    assert answer.json()["results"][0]["result"] == []
    assert not grower.calls


def test_broken_regions_stay_and_the_others_are_refined(
    client: httpx.Client, grower: Grower, tasks: list[dict[str, Any]]
) -> None:
    result = tasks[0]["annotations"][0]["result"]
    result[0]["value"]["rle"] = [1, 2, 3]
    answer = client.post("/predict", json=predict(tasks[:1]))
    after = answer.json()["results"][0]["result"]
    assert after[0] == result[0]
    assert "score" in after[1]


def test_one_task_that_fails_does_not_fail_the_others(client: httpx.Client, tasks: list[dict[str, Any]]) -> None:
    tasks[0]["data"]["image"] = "nowhere.jpg"
    results = client.post("/predict", json=predict(tasks)).json()["results"]
    assert results[0]["result"] == []
    assert results[1]["result"]
    answer = client.post("/predict", json=predict(tasks[:1]))
    assert answer.status_code == 422
    assert "images folder" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 422),
        (b"{", 400),
        (b'{"tasks": 3}', 422),
        (b'{"tasks": [3]}', 422),
        (b'{"tasks": []}', 200),
        (b'{"tasks": [{}], "params": 3}', 200),
        (b'{"tasks": [{"data": 4, "annotations": [{"result": [{"type": "brushlabels", "value": 5}]}]}]}', 200),
        (b'{"tasks": [{"data": {}}], "tasks": []}', 422),
        (json.dumps({"tasks": [{}] * 101}).encode(), 422),
    ],
)
def test_odd_bodies_are_answered(client: httpx.Client, body: bytes, status: int) -> None:
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert ("error" in answer.json()) == (status != 200)


def test_large_bodies_are_cut_off(grower: Grower) -> None:
    with served(build_app(grower, TaskImages(PHOTOS, None), max_body=1000)) as client:
        assert client.post("/predict", content=b" " * 1001).status_code == 413
        chunks = (b" " * 100 for _ in range(20))
        assert client.post("/predict", content=chunks).status_code == 413
        assert client.post("/predict", content=b'{"tasks": []}').status_code == 200


def test_nobody_gets_in_without_the_password(grower: Grower) -> None:
    app = build_app(grower, TaskImages(PHOTOS, None), basic_auth=("me", "a:password"))
    with served(app) as client:
        for path in ("/health", "/", "/metrics", "/nowhere"):
            answer = client.get(path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")
        assert client.get("/health", auth=("me", "a:password")).status_code == 200
        wrong = [("me", "a"), ("you", "a:password"), ("me:a", "password2")]
        assert all(client.get("/health", auth=pair).status_code == 401 for pair in wrong)
        token = base64.b64encode(b"me:a:password").decode()
        for header in (f"Bearer {token}", "Basic", "Basic ???", f"Basic {token}x"):
            assert client.get("/health", headers={"authorization": header}).status_code == 401
        assert client.get("/health", headers={"authorization": f"basic {token}"}).status_code == 200


def test_a_real_refiner_sharpens_a_real_region(tasks: list[dict[str, Any]]) -> None:
    with served(build_app(Refiner(threads=1), TaskImages(PHOTOS, None))) as client:
        (prediction,) = client.post("/predict", json=predict(tasks[:1])).json()["results"]
    before, after = tasks[0]["annotations"][0]["result"][0], prediction["result"][0]
    assert after["id"] == before["id"]
    assert 0 < after["score"] <= 1
    coarse = next(
        r for r in json.loads((REPOSITORY / "samples" / "coarse.json").read_text()) if r["image_id"] == 208901
    )
    truth = next(
        a
        for a in json.loads((REPOSITORY / "samples" / "instances.json").read_text())["annotations"]
        if a["id"] == coarse["annotation_id"]
    )
    from maskmend.patcher import as_rle

    true = as_rle(truth["segmentation"], height=427, width=640).to_dense()

    def iou(region: dict[str, Any]) -> float:
        mask = region_mask(region).to_dense()
        return float((mask & true).sum() / (mask | true).sum())

    assert iou(after) > iou(before) + 0.01


RECORDED = Path(__file__).parent / "requests"


def test_what_a_real_label_studio_sent(grower: Grower) -> None:
    """All requests of one recording, in order; see requests/make_requests.py."""
    requests = json.loads((RECORDED / "requests.json").read_text())
    assert {request["path"] for request in requests} == {"/health", "/setup", "/versions", "/predict"}
    predicted = []
    with served(build_app(grower, TaskImages(PHOTOS, None))) as client:
        for request in requests:
            answer = client.request(request["method"], request["path"], json=request["body"])
            assert answer.status_code == 200
            if request["path"] == "/predict":
                predicted.append(answer.json()["results"])
    drawn, whole = predicted
    assert [region["id"] for region in drawn[0]["result"]] == ["region_0710"]
    assert [region["id"] for region in whole[0]["result"]] == ["region_0710", "region_0711", "region_0718", "choice"]
    assert grower.calls[0][1] == grower.calls[1][1][:1]


def test_its_real_export_is_refined_in_place(tmp_path: Path) -> None:
    from maskmend.clients.formats import open_masks

    masks = open_masks(RECORDED / "export.json", PHOTOS)
    assert masks.name == "label-studio"
    wanted = [n for n, instance in enumerate(masks.instances) if instance.refinable]
    assert len(wanted) >= 2
    assert {masks.photograph(n).name for n in wanted} == {"000000208901.jpg"}
    mask = masks.mask(wanted[0], 1, 1)
    for number in wanted:
        masks.replace(number, masks.mask(number, 1, 1))
    masks.save(tmp_path / "same.json")
    assert (tmp_path / "same.json").read_bytes() == (RECORDED / "export.json").read_bytes()
    masks.replace(wanted[1], mask)
    masks.save(tmp_path / "out.json")
    before, after = (
        (folder / name).read_text() for folder, name in ((RECORDED, "export.json"), (tmp_path, "out.json"))
    )
    assert after.endswith(before[before.index('"region_0718"') :])

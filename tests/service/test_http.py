"""What a client of the HTTP interface counts on, against a real server."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import cv2
import grpc
import httpx
import numpy as np
import pytest
from running import Running, png, scene

from maskmend.clients import Refiner
from maskmend.patcher import Rle, polygons_to_rle
from maskmend.service.proto import maskmend_pb2 as pb
from maskmend.service.proto import maskmend_pb2_grpc as pb_grpc

IMAGE, MASKS = scene((220, 300), 3)
RLES = [mask.to_coco() for mask in MASKS]
H, W = IMAGE.shape[:2]


def post(server: Running, files: object = None, path: str = "/v1/refine", **fields: str) -> httpx.Response:
    data = {"masks": json.dumps(RLES), **fields} if files is None else fields
    sent = {"image": png(IMAGE)} if files is None else files
    answer = httpx.post(f"{server.url}{path}", files=sent, data=data, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer


def test_python_cli_http_and_grpc_give_the_same_masks(server: Running, tmp_path: Path) -> None:
    wanted = Refiner(threads=1).refine(IMAGE, RLES).rles
    assert wanted != RLES

    over_http = [found["segmentation"] for found in post(server).json()["instances"]]
    body = {"image": base64.b64encode(png(IMAGE)).decode(), "masks": RLES}
    answer = httpx.post(f"{server.url}/v1/refine", json=body, timeout=60).json()
    as_json = [found["segmentation"] for found in answer["instances"]]
    with httpx.stream(
        "POST",
        f"{server.url}/v1/refine/stream",
        files={"image": png(IMAGE)},
        data={"masks": json.dumps(RLES)},
        timeout=60,
    ) as lines:
        found = [json.loads(line) for line in lines.iter_lines()]
    streamed = {line["instance"]["index"]: line["instance"]["segmentation"] for line in found[:-1]}
    assert "done" in found[-1]

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = pb_grpc.RefineServiceStub(channel)
        masks = [pb.Mask(rle=pb.Rle(size=rle["size"], counts=rle["counts"].encode())) for rle in RLES]
        whole = stub.Refine(pb.RefineRequest(image=png(IMAGE), masks=masks), timeout=60)
        dense = np.stack([mask.to_dense() for mask in MASKS])
        request = pb.RefineRequest(
            image_tensor=pb.Tensor(shape=IMAGE.shape, dtype="uint8", data=IMAGE.tobytes()),
            mask_tensor=pb.Tensor(shape=dense.shape, dtype="float32", data=dense.astype("<f4").tobytes()),
        )
        as_tensor = stub.Refine(request, timeout=60)
    by_grpc = [
        [
            {"size": list(m.segmentation.rle.size), "counts": m.segmentation.rle.counts.decode()}
            for m in answer.instances
        ]
        for answer in (whole, as_tensor)
    ]

    (tmp_path / "a.png").write_bytes(png(IMAGE))
    records = [
        {"image_id": 1, "category_id": 1, "segmentation": rle, "score": 1.0, "file_name": "a.png"} for rle in RLES
    ]
    (tmp_path / "in.json").write_text(json.dumps(records))
    command = [sys.executable, "-m", "maskmend.clients.cli", "refine", str(tmp_path / "in.json")]
    subprocess.run([*command, "--images", str(tmp_path), "--output", str(tmp_path / "out.json")], check=True)
    by_cli = [record["segmentation"] for record in json.loads((tmp_path / "out.json").read_text())]

    assert over_http == wanted
    assert as_json == wanted
    assert [streamed[n] for n in range(len(RLES))] == wanted
    assert by_grpc == [wanted, wanted]
    assert by_cli == wanted


def test_every_way_to_send_masks_gives_the_same(server: Running) -> None:
    wanted = post(server).json()["instances"]
    dense = [mask.to_dense() for mask in MASKS]
    pictures = [png(mask.astype(np.uint8) * 255) for mask in dense]
    assert post(server, [("image", png(IMAGE)), *(("mask", data) for data in pictures)]).json()["instances"] == wanted

    index = np.zeros((H, W), np.uint8)
    for n, mask in enumerate(dense):
        index[mask] = 10 * n + 5
    assert post(server, [("image", png(IMAGE)), ("index_mask", png(index))]).json()["instances"] == wanted

    records = json.dumps([{"id": 5, "category_id": 2, "segmentation": rle} for rle in RLES])
    assert post(server, masks=records).json()["instances"] == wanted
    pngs = json.dumps([{"png": base64.b64encode(data).decode()} for data in pictures])
    assert post(server, masks=pngs).json()["instances"] == wanted


def test_every_encoding_says_the_same_mask(server: Running) -> None:
    wanted = [Rle.from_coco(found["segmentation"]) for found in post(server).json()["instances"]]
    polygons = post(server, encoding="polygons").json()["instances"]
    assert [polygons_to_rle(found["segmentation"], H, W) for found in polygons] == wanted
    pictures = post(server, encoding="png").json()["instances"]
    for found, mask in zip(pictures, wanted, strict=True):
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(found["png"]), np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(decoded, mask.to_dense() * 255)
    index = base64.b64decode(post(server, encoding="index_png").json()["index_png"])
    decoded = cv2.imdecode(np.frombuffer(index, np.uint8), cv2.IMREAD_UNCHANGED)
    for n, mask in enumerate(wanted):
        earlier = np.any([other.to_dense() for other in wanted[:n]], axis=0) if n else False
        assert np.array_equal(decoded == n + 1, mask.to_dense() & ~np.asarray(earlier))


def test_an_answer_says_what_changed_unless_told_not_to(server: Running) -> None:
    answer = post(server).json()
    assert answer["width"] == W
    assert set(answer["timings"]) >= {"decode", "network", "guard", "queue", "total"}
    assert answer["provenance"]["weights"] == "bpr-small"
    assert len(answer["provenance"]["weights_sha256"]) == 64
    for found, coarse in zip(answer["instances"], MASKS, strict=True):
        mask = Rle.from_coco(found["segmentation"])
        assert found["changed_pixels"] == np.count_nonzero(mask.to_dense() != coarse.to_dense())
        assert found["box"] == list(mask.bbox)
        assert found["area"] == mask.area
        assert (found["max_displacement_px"] > 0) == (found["changed_pixels"] > 0)
        assert 0 <= found["confidence"] <= 1
        assert "abstained" in found
    short = post(server, report="false").json()
    assert "timings" not in short
    assert "changed_pixels" not in short["instances"][0]


def test_options_reach_the_engine(server: Running) -> None:
    made = post(server, nms="0.4", passes="1", guard="false", caution="0.2", reach="5").json()["provenance"]
    assert (made["nms"], made["passes"], made["guard"], made["caution"], made["reach"]) == (0.4, 1, 0, 0.2, 5)


def test_models_are_listed(server: Running) -> None:
    (model,) = httpx.get(f"{server.url}/v1/models").json()["models"]
    assert model["name"] == "bpr-small"
    assert model["default"]
    assert httpx.get(f"{server.url}/v1/models/bpr-small").json() == model


def test_health_and_metrics(server: Running) -> None:
    assert httpx.get(f"{server.url}/healthz/live").json() == {"status": "live"}
    assert httpx.get(f"{server.url}/healthz/ready").json() == {"status": "ready"}
    post(server)
    httpx.post(f"{server.url}/v1/refine", content=b"{", headers={"content-type": "application/json"})
    text = httpx.get(f"{server.url}/metrics").text
    for name in (
        'maskmend_requests_total{code="ok",protocol="http"}',
        "maskmend_queue_requests",
        "maskmend_queue_patches",
        "maskmend_batch_patches_bucket",
        'maskmend_stage_seconds_count{stage="network"}',
        'maskmend_instances_total{outcome="refined"}',
        'maskmend_rejects_total{code="bad_request"}',
    ):
        assert name in text, name


def test_a_request_keeps_its_id(server: Running) -> None:
    answer = httpx.get(f"{server.url}/healthz/live", headers={"x-request-id": "my-id.1"})
    assert answer.headers["x-request-id"] == "my-id.1"
    answer = httpx.get(f"{server.url}/v1/models/none", headers={"x-request-id": "no good\u00e9".encode("latin-1")})
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-request-id"].isalnum()
    lines = [line for line in server.lines() if line.get("request_id") == "my-id.1"]
    assert lines == [] or lines[0]["path"] == "/healthz/live"


def test_the_examples_of_the_openapi_document_run(server: Running) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    body = document["paths"]["/v1/refine"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) >= 2
    for example in body["examples"].values():
        answer = httpx.post(f"{server.url}/v1/refine", json=example["value"], timeout=60)
        assert answer.status_code == 200, answer.text
    assert "/healthz/ready" in document["paths"]


def test_other_origins_get_nothing_unless_allowed(server: Running) -> None:
    answer = httpx.get(f"{server.url}/v1/models", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_is_served_with_a_strict_policy(server: Running) -> None:
    answer = httpx.get(server.url)
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("scheme", ["", "?x=1"])
def test_keep_alive_connections_serve_one_request_after_another(server: Running, scheme: str) -> None:
    with httpx.Client() as client:
        for _ in range(3):
            assert client.get(f"{server.url}/v1/models{scheme}").status_code == 200
            bad = client.post(f"{server.url}/v1/refine", content=b"{}", headers={"content-type": "application/json"})
            assert bad.status_code == 422

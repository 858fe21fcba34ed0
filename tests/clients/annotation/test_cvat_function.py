from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from maskmend.clients.annotation.cvat import handler
from maskmend.clients.results import RefineResult
from maskmend.patcher import Rle, polygons_to_rle

REPOSITORY = Path(__file__).resolve().parents[3]
DEPLOY = REPOSITORY / "deploy" / "cvat"
PHOTOGRAPH = REPOSITORY / "samples" / "images" / "000000208901.jpg"


class Log:
    """The logger of nuclio's context, as far as functions of CVAT use it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    warn = info


def nuclio() -> Any:
    """A context as nuclio's Python wrapper hands it to a function."""
    response = lambda **given: SimpleNamespace(**given)  # noqa: E731
    return SimpleNamespace(logger=Log(), user_data=SimpleNamespace(), Response=response)


def call(context: Any, **body: Any) -> tuple[int, Any]:
    answer = handler(context, SimpleNamespace(body=body))
    assert answer.content_type == "application/json"
    return answer.status_code, json.loads(answer.body)


@pytest.fixture(scope="module")
def function() -> Any:
    """The file that is deployed, loaded and set up."""
    spec = importlib.util.spec_from_file_location("cvat_main", DEPLOY / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = nuclio()
    module.init_context(context)
    context.handler = module.handler
    return context


@pytest.fixture(scope="module")
def image() -> str:
    return base64.b64encode(PHOTOGRAPH.read_bytes()).decode()


@pytest.fixture(scope="module")
def coarse() -> Rle:
    records = json.loads((REPOSITORY / "samples" / "coarse.json").read_text())
    return Rle.from_coco(next(r["segmentation"] for r in records if r["image_id"] == 208901))


def corners(mask: Rle) -> list[list[float]]:
    contour = max(cv2.findContours(mask.to_dense().astype(np.uint8), 0, 1)[0], key=len)
    return [[float(x), float(y)] for x, y in cv2.approxPolyDP(contour, 6, True)[:, 0]]


def test_clicks_around_an_object_become_its_mask(function: Any, image: str, coarse: Rle) -> None:
    """The body that CVAT sends to an interactor."""
    clicked = corners(coarse)
    assert 3 <= len(clicked) < 30
    status, answer = call(function, image=image, pos_points=clicked, neg_points=[], obj_bbox=None)
    assert status == 200
    mask = np.array(answer["mask"])
    assert mask.shape == (427, 640)
    assert set(np.unique(mask)) == {0, 255}
    rough = polygons_to_rle([[v for point in clicked for v in point]], 427, 640).to_dense()
    both, either = (rough & (mask > 0)).sum(), (rough | (mask > 0)).sum()
    assert 0.6 < both / either < 1, "refined, and still the same object"
    ring = [v for point in answer["points"] for v in point]
    drawn = polygons_to_rle([ring], 427, 640).to_dense()
    assert (drawn & (mask > 0)).sum() / (drawn | (mask > 0)).sum() > 0.9
    assert 0 <= answer["score"] <= 1


def test_a_mask_and_a_polygon_are_taken_too(function: Any, image: str, coarse: Rle) -> None:
    x, y, w, h = coarse.bbox
    flat = [*coarse.crop(x, y, x + w, y + h).ravel().tolist(), x, y, x + w - 1, y + h - 1]
    status, answer = call(function, image=image, mask=flat)
    assert status == 200
    refined = function.user_data.refiner.refine(PHOTOGRAPH, [coarse.to_coco()])
    assert np.array_equal(np.array(answer["mask"]) > 0, refined.masks[0])
    assert answer["score"] == pytest.approx(refined.instances[0].score)
    ring = [v for point in corners(coarse) for v in point]
    status, by_polygon = call(function, image=image, polygon=ring)
    assert status == 200
    assert by_polygon == call(function, image=image, pos_points=corners(coarse), neg_points=[])[1]


def test_the_body_may_be_text(function: Any, image: str) -> None:
    body = json.dumps({"image": image, "pos_points": [[300, 150], [400, 200], [300, 280]]})
    for given in (body, body.encode()):
        answer = function.handler(function, SimpleNamespace(body=given))
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "image"),
        ({"image": 3}, "image"),
        ({"image": "???"}, "image"),
        ({"image": base64.b64encode(b"nothing").decode()}, "image"),
        ({"pos_points": [[1, 2], [3, 4]]}, "three points"),
        ({"pos_points": [[1, 2], [3], [5, 6]]}, "pos_points"),
        ({"pos_points": [[1, 2], [3, "x"], [5, 6]]}, "pos_points"),
        ({"pos_points": [[1, 2], [3, 1e99], [5, 6]]}, "pos_points"),
        ({"polygon": "x"}, "polygon"),
        ({"mask": [1, 1, 1, 1, 0, 0, 1]}, "mask"),
        ({"mask": [2, 1, 1, 1, 0, 0, 1, 1]}, "mask"),
        ({"mask": [1, 1, 1, 1, 639, 426, 640, 427]}, "leaves"),
        ({"mask": [1, 0, 0, 60_000, 60_000]}, "mask"),
        ({"mask": [1, 0, 0, 10**12, 0]}, "mask"),
    ],
)
def test_broken_bodies_are_answered_in_words(image: str, body: dict[str, Any], field: str) -> None:
    context = nuclio()
    context.user_data.refiner = Untouched()
    status, answer = call(context, **({"image": image, **body} if "image" not in body and body else body))
    assert 400 <= status < 500
    assert field in answer["error"]
    assert context.logger.lines


class Untouched:
    """A refiner that must not be asked."""

    def refine(self, image: Any, masks: Any) -> RefineResult:
        raise AssertionError("asked")


def test_a_body_that_is_no_object() -> None:
    context = nuclio()
    context.user_data.refiner = Untouched()
    for body in (b"{", "[]", 3, None, "[" * 99_999):
        assert handler(context, SimpleNamespace(body=body)).status_code in (400, 422)


# What is deployed.


def test_function_yaml_says_what_cvat_reads() -> None:
    """Names that CVAT looks up: see its lambda manager."""
    function = yaml.safe_load((DEPLOY / "function.yaml").read_text())
    notes = function["metadata"]["annotations"]
    assert function["metadata"]["namespace"] == "cvat"
    assert notes["type"] == "interactor"
    assert int(notes["min_pos_points"]) == 3
    assert int(notes["min_neg_points"]) == -1
    assert json.loads(notes.get("spec") or "[]") == []
    assert all(notes[name] for name in ("name", "help_message"))
    assert function["spec"]["description"]
    module, _, name = function["spec"]["handler"].partition(":")
    assert (DEPLOY / f"{module}.py").is_file()
    assert name == "handler"
    (trigger,) = function["spec"]["triggers"].values()
    assert trigger["kind"] == "http"
    assert trigger["attributes"]["maxRequestBodySize"] >= 32 * 2**20
    steps = [step["value"] for step in function["spec"]["build"]["directives"]["preCopy"] if step["kind"] == "RUN"]
    assert any("maskmend" in step for step in steps)
    assert "latest" not in (DEPLOY / "function.yaml").read_text()

"""Photographs and masks that the page's tests give it, and what they ask of keyboard and server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from maskmend.patcher import Rle

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "service/maskmend/service/web"
PHOTO = ROOT / "samples/images/000000403385.jpg"
COARSE = ROOT / "samples/coarse.json"


def records_of(photo: Path) -> list[dict[str, Any]]:
    return [record for record in json.loads(COARSE.read_text()) if record["file_name"] == photo.name]


def coarse_masks(photo: Path) -> list[Rle]:
    return [Rle.from_coco(record["segmentation"]) for record in records_of(photo)]


def json_file(content: Any, name: str = "masks.json") -> dict[str, Any]:
    return {"name": name, "mimeType": "application/json", "buffer": json.dumps(content).encode()}


def png_file(data: bytes, name: str) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": data}


def ask(address: str, photo: Path, masks: list[Any], **options: str) -> dict[str, Any]:
    """What the server answers without the page."""
    files = {"image": (photo.name, photo.read_bytes(), "image/jpeg")}
    data = {"masks": json.dumps(masks), **options}
    answer = httpx.post(f"{address}/v1/refine", files=files, data=data, timeout=300)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def focused(seen: Any) -> str:
    return str(seen.page.evaluate("document.activeElement.id || document.activeElement.className"))


def tab_to(seen: Any, wanted: str) -> None:
    for _ in range(60):
        if focused(seen) == wanted:
            return
        seen.page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key does not lead to {wanted}")

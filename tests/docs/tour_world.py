"""What the pages take for granted: photographs, masks, a result file, ground truth, and the object a segmenter gave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from maskmend.patcher import Rle
from maskmend.patcher.images import load_image
from maskmend.patcher.mask_images import write_index_mask, write_mask

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
PHOTOGRAPHS = ("000000208901.jpg", "000000403385.jpg")


def furnish(folder: Path) -> None:
    """Put real files under the names that the pages use into a folder."""
    (folder / "photos").mkdir()
    for name in PHOTOGRAPHS:
        shutil.copy(SAMPLES / "images" / name, folder / "photos")
    shutil.copy(SAMPLES / "images" / PHOTOGRAPHS[0], folder / "cat.jpg")
    records = [r for r in json.loads((SAMPLES / "coarse.json").read_text()) if r["file_name"] in PHOTOGRAPHS]
    (folder / "results.json").write_text(json.dumps(records))
    truth = json.loads((SAMPLES / "instances.json").read_text())
    truth["images"] = [image for image in truth["images"] if image["file_name"] in PHOTOGRAPHS]
    ids = {image["id"] for image in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
    (folder / "truth.json").write_text(json.dumps(truth))
    rles = masks()
    (folder / "masks.json").write_text(json.dumps(rles))
    two = halves()
    (folder / "left.png").write_bytes(write_mask(two[0]))
    (folder / "right.png").write_bytes(write_mask(two[1]))
    (folder / "segments.png").write_bytes(write_index_mask(two, two[0].height, two[0].width))


def masks() -> list[dict[str, Any]]:
    """The coarse mask of cat.jpg, as a list of one COCO RLE."""
    records = json.loads((SAMPLES / "coarse.json").read_text())
    return [record["segmentation"] for record in records if record["file_name"] == PHOTOGRAPHS[0]]


def halves() -> list[Rle]:
    """The left and the right half of that mask."""
    dense = Rle.from_coco(masks()[0]).to_dense()
    middle = int(np.flatnonzero(dense.any(0)).mean())
    columns = np.arange(dense.shape[1]) < middle
    return [Rle.from_dense(dense & columns), Rle.from_dense(dense & ~columns)]


def stack() -> np.ndarray:
    """The same as bool [1, H, W]."""
    return np.stack([Rle.from_coco(rle).to_dense() for rle in masks()])


def _picture() -> np.ndarray:
    return load_image(SAMPLES / "images" / PHOTOGRAPHS[0])


def _detectron2() -> dict[str, Any]:
    import torch
    from adapters.detectron2_like import Boxes, Instances

    instances = Instances(
        stack().shape[1:],
        pred_masks=torch.from_numpy(stack()),
        pred_boxes=Boxes(torch.tensor([[1.0, 2, 3, 4]])),
        scores=torch.tensor([0.9]),
    )
    chance = torch.from_numpy(np.concatenate([stack(), stack()]).astype(np.float32))[:, None]
    prediction = {
        "masks": chance * 0.8,
        "boxes": torch.tensor([[1.0, 2, 3, 4]] * 2),
        "labels": torch.tensor([1, 2]),
        "scores": torch.tensor([0.9, 0.1]),
    }
    return {"outputs": {"instances": instances}, "prediction": prediction}


def _yolo() -> dict[str, Any]:
    import torch
    from ultralytics.engine.results import Results

    data = torch.from_numpy(stack().astype(np.uint8))
    boxes = torch.tensor([[1.0, 2, 3, 4, 0.9, 0]])
    return {"results": [Results(_picture()[:, :, ::-1].copy(), "cat.jpg", {0: "cat"}, boxes, data)]}


def _mask2former() -> dict[str, Any]:
    from PIL import Image

    maps: Any = stack().astype(np.float32)
    try:
        import torch
    except ImportError:
        pass
    else:
        maps = torch.from_numpy(maps)
    infos = [{"id": 0, "label_id": 3, "was_fused": False, "score": 0.98}]
    record = {"label": "cat", "score": 0.98, "mask": Image.fromarray(stack()[0] * np.uint8(255))}
    return {"results": [{"segmentation": maps, "segments_info": infos}], "records": [record]}


def _sam() -> dict[str, Any]:
    rle = Rle.from_coco(masks()[0])
    record = {
        "segmentation": stack()[0],
        "area": rle.area,
        "bbox": list(rle.bbox),
        "predicted_iou": 0.9,
        "stability_score": 0.95,
    }
    return {"records": [record], "masks": stack().astype(np.float32)}


def _supervision() -> dict[str, Any]:
    import supervision as sv

    return {"detections": sv.Detections(xyxy=np.array([[1.0, 2, 3, 4]]), mask=stack(), class_id=np.array([1]))}


_SEGMENTERS: dict[str, Callable[[], dict[str, Any]]] = {
    "docs/how-to/detectron2.md": _detectron2,
    "docs/how-to/yolo.md": _yolo,
    "docs/how-to/mask2former.md": _mask2former,
    "docs/how-to/sam.md": _sam,
    "docs/how-to/supervision.md": _supervision,
}


def names(page: str) -> dict[str, Any]:
    """What the Python blocks of a page find: `masks`, `picture`, and the object of its segmenter where it is installed."""
    found: dict[str, Any] = {"__name__": "__main__", "masks": masks(), "picture": _picture()}
    if page in _SEGMENTERS:
        try:
            found |= _SEGMENTERS[page]()
        except ImportError as error:
            # The blocks that need it say so themselves and are skipped.
            found["missing"] = error.name
    return found

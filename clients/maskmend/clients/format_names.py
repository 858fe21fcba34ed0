"""Names of the formats, apart from what reads them, so that `--help` need not wait for that."""

from __future__ import annotations

MODULES = {
    "panoptic": "panoptic:PanopticMasks",
    "cityscapes": "cityscapes:CityscapesMasks",
    "voc": "voc:VocMasks",
    "yolo": "yolo:YoloMasks",
    "png": "png:PngMasks",
    "index-png": "index_png:IndexPngMasks",
    "label-studio": "label_studio:LabelStudioMasks",
    "cvat": "cvat:CvatMasks",
    "labelme": "labelme:LabelmeMasks",
    "coco": "coco:CocoMasks",
}
FORMATS = tuple(MODULES)
"""Names of formats, as `--format` takes them; the order in which `auto` tries them."""

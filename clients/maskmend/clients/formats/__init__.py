"""Every format of mask files that people have: one module each.

`open_masks` finds the module; `MaskFile` in base.py says what each can do.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from maskmend.clients.formats.base import MaskFile, Peek, Policies
from maskmend.patcher.errors import JobError, OptionError

_MODULES = {
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
FORMATS = tuple(_MODULES)
"""Names of formats, as `--format` takes them; the order in which `auto` tries them."""


def mask_format(name: str) -> type[MaskFile]:
    """The class of a format.

    Raises:
        OptionError: there is none of that name.
    """
    if name not in _MODULES:
        raise OptionError(f"--format is {name[:40]!r}; use auto or one of {', '.join(FORMATS)}", field="format")
    module, _, kind = _MODULES[name].partition(":")
    found: type[MaskFile] = getattr(import_module(f"maskmend.clients.formats.{module}"), kind)
    return found


def open_masks(path: Path, images: Path | None, *, format: str = "auto", policies: Policies | None = None) -> MaskFile:
    """Open a file or folder of masks.

    Args:
        path: of it.
        images: folder of the photographs.
        format: its name, or `auto` to look at the file.
        policies: see there.

    Raises:
        OptionError: no such format.
        JobError: the file cannot be used, or no format fits it.
    """
    policies = policies or Policies()
    if format != "auto":
        return mask_format(format).open(path, images, policies)
    if not path.exists():
        raise JobError(f"{path} does not exist", field="results")
    peek = Peek(path)
    for name in FORMATS:
        if (kind := mask_format(name)).matches(peek):
            return kind.open(path, images, policies)
    raise JobError(f"{path} is of no format known here; --format names one of {', '.join(FORMATS)}", field="format")

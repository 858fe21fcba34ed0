"""Every format of mask files that people have: one module each.

`open_masks` finds the module; `MaskFile` in base.py says what each can do.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from maskmend.clients.format_names import FORMATS, MODULES
from maskmend.clients.formats.base import MaskFile, Peek, Policies
from maskmend.clients.formats.coco import CocoMasks
from maskmend.clients.remote_folder import RemoteFolder
from maskmend.patcher.errors import JobError, OptionError

__all__ = ["FORMATS", "MaskFile", "Policies", "format_of", "mask_format", "open_masks"]


def mask_format(name: str) -> type[MaskFile]:
    """The class of a format.

    Raises:
        OptionError: there is none of that name.
    """
    if name not in MODULES:
        raise OptionError(f"--format is {name[:40]!r}; use auto or one of {', '.join(FORMATS)}", field="format")
    module, _, kind = MODULES[name].partition(":")
    found: type[MaskFile] = getattr(import_module(f"maskmend.clients.formats.{module}"), kind)
    return found


def open_masks(
    path: Path,
    images: Path | RemoteFolder | None,
    *,
    format: str = "auto",
    annotations: Path | None = None,
    policies: Policies | None = None,
) -> MaskFile:
    """Open a file or folder of masks.

    Args:
        path: of it.
        images: folder of the photographs; for COCO files also one at a URL.
        format: its name, or `auto` to look at the file.
        annotations: COCO file whose `images` name the photographs of a COCO result list.
        policies: see there.

    Raises:
        OptionError: no such format, or `annotations` or photographs at a URL with another one than COCO.
        JobError: the file cannot be used, or no format fits it.
    """
    kind = format_of(path, format)
    policies = policies or Policies(tolerance=kind.default_tolerance)
    if issubclass(kind, CocoMasks):
        return kind.open(path, images, policies, annotations=annotations)
    if annotations is not None:
        raise OptionError(f"--annotations is for COCO result lists; {path} is {kind.name}", field="annotations")
    if isinstance(images, RemoteFolder):
        raise OptionError(
            f"--images at a URL are for COCO files; {path} is {kind.name}; copy them here", field="images"
        )
    return kind.open(path, images, policies)


def format_of(path: Path, name: str = "auto") -> type[MaskFile]:
    """The class of a format by its name, or by a look at a file or folder.

    Raises:
        OptionError: no such format.
        JobError: no format fits the file.
    """
    if name != "auto":
        return mask_format(name)
    if not path.exists():
        raise JobError(f"{path} does not exist", field="results")
    peek = Peek(path)
    for name in FORMATS:
        if (kind := mask_format(name)).matches(peek):
            return kind
    if path.suffix.lower() == ".json":
        # It says what is wrong with the file.
        return CocoMasks
    raise JobError(f"{path} is of no format known here; --format names one of {', '.join(FORMATS)}", field="format")

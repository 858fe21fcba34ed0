"""What goes over the wire, in HTTP's JSON and in gRPC's messages: `maskmend.proto` is checked against these by a test."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from maskmend.models.registry import REFINERS
from maskmend.patcher.defaults import CAUTION, REACH
from maskmend.service.options import EngineOptions, Patches

Encoding = Literal["rle", "polygons", "png", "index_png"]

_RLE: dict[str, Any] = {
    "type": "object",
    "description": "COCO RLE; `counts` compressed (string) or run lengths (list).",
    "properties": {
        "size": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        "counts": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]},
    },
    "required": ["size", "counts"],
}
_POLYGONS: dict[str, Any] = {
    "type": "array",
    "description": "COCO polygons: flat lists x0, y0, x1, y1, ... in px.",
    "items": {"type": "array", "items": {"type": "number"}, "minItems": 6},
    "minItems": 1,
}
_RECORD: dict[str, Any] = {
    "type": "object",
    "description": "A COCO record; everything but its `segmentation` is passed over.",
    "properties": {"segmentation": {"anyOf": [_RLE, _POLYGONS]}},
    "required": ["segmentation"],
}
_MASKS: dict[str, Any] = {"type": "array", "items": {"anyOf": [_RLE, _POLYGONS, _RECORD]}, "minItems": 1}


class RefineOptions(BaseModel):
    """Options of one request; each may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refiner: str | None = Field(
        default=None,
        max_length=64,
        description=f"{', '.join(REFINERS)}: the first served model of it, without weights.",
    )
    weights: str | None = Field(default=None, max_length=64, description="Name of a served model; see GET /v1/models.")
    precision: Literal["fp32", "bf16", "fp16", "int8"] | None = Field(
        default=None, description="Must be one the model is served with."
    )
    nms: FiniteFloat = Field(
        default=0.25, gt=0, le=0.7, description="Overlap of patches: 0.15 fewest, 0.55 best quality."
    )
    passes: int = Field(default=3, ge=1, le=5, strict=True, description="Refine again where the edge moved far.")
    guard: bool = Field(default=True, strict=True, description="Keep masks that are already right.")
    caution: FiniteFloat = Field(
        default=CAUTION, ge=0, le=1, description="How likely an improvement must be for the guard to let it through."
    )
    reach: int = Field(default=REACH, ge=0, le=1024, strict=True, description="Farthest that an edge may move, in px.")
    topology: bool = Field(default=True, strict=True, description="Have the guard keep masks in one piece.")
    arbitrate: bool = Field(
        default=True, strict=True, description="Let no two instances take a pixel their coarse masks did not share."
    )
    tiles: bool = Field(
        default=True, strict=True, description="See a large instance in parts; means nothing to refiners of patches."
    )
    patches: Patches = Field(
        default="dense", description="adaptive: three fifths of the patches, about as good; for refiners of patches."
    )
    exif_policy: Literal["apply", "ignore"] = Field(
        default="apply", description="Turn the image as its EXIF orientation says, or not."
    )
    encoding: Encoding = Field(default="rle", description="How refined masks are written.")
    report: bool = Field(default=True, strict=True, description="Say what changed, and how long each stage took.")
    timeout_s: FiniteFloat | None = Field(default=None, gt=0, description="Deadline; at most the server's own.")

    def engine_options(self) -> EngineOptions:
        """Those of the engine."""
        return EngineOptions(
            self.nms,
            self.passes,
            self.guard,
            self.caution,
            self.reach,
            self.topology,
            self.arbitrate,
            self.tiles,
            self.patches,
        )


class RefineBody(RefineOptions):
    """JSON body of `POST /v1/refine`: an image, its masks, and options beside them."""

    image: str | None = Field(default=None, description="The image file, base64.")
    image_url: str | None = Field(
        default=None, max_length=2048, description="Where to fetch it instead; off unless the server allows the host."
    )
    masks: list[Any] | None = Field(default=None, json_schema_extra=_MASKS, description="One per instance.")
    index_mask: str | None = Field(
        default=None, description="Instead of masks: a PNG, base64, whose pixel values say the instance; 0 is none."
    )


class RefinedMask(BaseModel):
    """One instance of an answer. What is None is left out, but for `abstained`."""

    index: int = Field(description="Of the mask in the request.")
    segmentation: dict[str, Any] | list[list[float]] | None = Field(
        default=None, description="COCO RLE or COCO polygons of the refined mask."
    )
    png: str | None = Field(default=None, description="The refined mask as a PNG of 0 and 255, base64.")
    box: tuple[int, int, int, int] = Field(description="x, y, width, height in px.")
    area: int = Field(description="Foreground pixels.")
    confidence: float = Field(description="0 to 1, certainty of the patches along the edge.")
    score: float = Field(description="0 to 1, the guard's estimate of the chance that the refined mask is better.")
    abstained: str | None = Field(description="Why the coarse mask was kept; null when it was not.")
    changed_pixels: int | None = Field(default=None, description="In which refined and coarse mask differ.")
    max_displacement_px: float | None = Field(default=None, description="Farthest that the edge moved.")
    undone: dict[str, int] | None = Field(
        default=None, description="Pixels of changes that the guard undid, by reason."
    )


class RefineAnswer(BaseModel):
    """Answer of `POST /v1/refine`."""

    request_id: str
    width: int
    height: int
    instances: list[RefinedMask]
    index_png: str | None = Field(
        default=None, description="All refined masks as one PNG, base64: value i + 1 is instance i; the first on top."
    )
    timings: dict[str, float] | None = Field(default=None, description="Seconds by stage.")
    provenance: dict[str, str | int | float] = Field(description="Everything that decides the result.")


class ModelInfo(BaseModel):
    """One served model."""

    name: str
    refiner: str
    default: bool
    runtime: str
    runtime_version: str
    precision: str
    parameters: int
    gmac: float = Field(description="1e9 multiply-accumulates a patch.")
    input_size: int
    sha256: str
    license: str
    source: str


class ModelList(BaseModel):
    """Answer of `GET /v1/models`."""

    models: list[ModelInfo]


class ErrorBody(BaseModel):
    """Every refusal, at most 4 KB, without an echo of what was sent."""

    code: str
    message: str
    field: str
    request_id: str

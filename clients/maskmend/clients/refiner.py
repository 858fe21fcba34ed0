"""`Refiner`: masks refined in this process, three lines of code away."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmend.clients.adapters import masks_of
from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.models import load_refiner
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.defaults import CAUTION, REACH
from maskmend.patcher.displacement import max_displacement
from maskmend.patcher.errors import MaskmendError
from maskmend.patcher.images import ExifPolicy, load_image
from maskmend.service import Engine, EngineOptions, StageTimes
from maskmend.service.options import Patches


class Refiner:
    """Refines the masks of any segmenter.

        from maskmend.clients import Refiner

        refiner = Refiner()
        result = refiner.refine("cat.jpg", masks)

    Args:
        refiner: one of `REFINERS`; None for that of the weights, or `bpr` without any.
        weights: name of a shipped set or a path; None for the refiner's own.
        runtime: `auto`, `openvino`, `onnx`, `torch`, `tensorrt` or `triton`.
        precision: `fp32`; `bf16` or `int8` with openvino; `auto` for the fastest that is as good, see docs/export.md; others
            on a GPU, or as a Triton has its model.
        nms: overlap of patches, 0.15 (fewest) to 0.55 (best quality).
        passes: refine again where the edge moved far, 1 to 5 times in all.
        guard: keep masks that are already right, and doubtful changes out.
        caution: 0 to 1, how likely an improvement must be for the guard to let it through.
        reach: farthest that the guard lets an edge move, in px.
        topology: have the guard keep masks in one piece: no specks, no pinholes, thin parts not cut.
        arbitrate: let no two instances take a pixel that their coarse masks did not share.
        tiles: see a large instance in parts and not made smaller; means nothing to `bpr`.
        patches: `dense`; or `adaptive` for three fifths of them and masks about as good, see docs/performance-patches.md.
        batch_size: patches per call of the network; does not change the result.
        threads: of the network; None lets the runtime choose.
        device: `cpu`, `cuda` or `cuda:N`, for torch and tensorrt.
        triton_url: where the servers of the triton runtime are, like `grpc://127.0.0.1:8001`; see docs/triton.md.
        exif_policy: `apply` or `ignore` the EXIF rotation of files and bytes.

    Raises:
        OptionError: an option is unknown or out of range.
        RuntimeUnavailableError: no runtime is installed, or no Triton answers.
        WeightsError: the weights are missing or damaged.
    """

    def __init__(
        self,
        refiner: str | None = None,
        *,
        weights: str | Path | None = None,
        runtime: str = "auto",
        precision: str = "fp32",
        nms: float = 0.25,
        passes: int = 3,
        guard: bool = True,
        caution: float = CAUTION,
        reach: int = REACH,
        topology: bool = True,
        arbitrate: bool = True,
        tiles: bool = True,
        patches: Patches = "dense",
        batch_size: int = 32,
        threads: int | None = None,
        device: str | None = None,
        triton_url: str | None = None,
        exif_policy: ExifPolicy = "apply",
    ) -> None:
        network = load_refiner(
            refiner,
            weights=weights,
            runtime=runtime,
            precision=precision,
            threads=threads,
            device=device,
            triton_url=triton_url,
        )
        options = EngineOptions(nms, passes, guard, caution, reach, topology, arbitrate, tiles, patches)
        self._engine = Engine(network, options, batch_size=batch_size)
        self._exif = exif_policy

    @property
    def provenance(self) -> dict[str, str | int | float]:
        """What decides the result: weights and their SHA-256, runtime, precision, options."""
        return dict(self._engine.provenance)

    @property
    def stages(self) -> StageTimes:
        """Busy seconds by stage, of all images so far."""
        return self._engine.stages

    def refine(self, image: Any, masks: Any) -> RefineResult:
        """Refine the masks of one image.

        Args:
            image: path, encoded bytes, uint8 [H, W, 3] RGB array, or PIL image.
            masks: bool/uint8 [N, H, W] or [H, W] array; a list of [H, W] arrays, COCO RLE dicts, COCO polygons (each
                instance a list of flat lists) or SAM dicts (key `segmentation`); supervision `Detections`; or what
                else `maskmend.clients.adapters.masks_of` reads.

        Returns:
            One instance per mask, in order.

        Raises:
            ImageError: the image cannot be read.
            MaskError: a mask cannot be read, or is of another size than the image.
        """
        before = dict(self.stages.seconds)
        picture, coarse = self._read(image, masks)
        found = dict(self._refined(picture, coarse))
        instances = [found[number] for number in range(len(coarse))]
        times = {stage: seconds - before.get(stage, 0.0) for stage, seconds in self.stages.seconds.items()}
        return RefineResult(picture.shape[0], picture.shape[1], instances, self.provenance, times)

    def stream(self, image: Any, masks: Any) -> Iterator[tuple[int, RefinedInstance]]:
        """Index and instance as soon as each is ready, in any order; otherwise as `refine`."""
        yield from self._refined(*self._read(image, masks))

    def refine_many(
        self, items: Iterable[tuple[Any, Any]], *, return_exceptions: bool = False
    ) -> Generator[RefineResult | MaskmendError, None, None]:
        """Refine many images, one after the other.

        Args:
            items: image and masks of each; asked for the next when that is to be worked on.
            return_exceptions: give the error of an image in the place of its result, and go on.

        Yields:
            One result per image, in order.

        Raises:
            MaskmendError: as `refine`, unless they are returned.
        """
        for image, masks in items:
            try:
                found: RefineResult | MaskmendError = self.refine(image, masks)
            except MaskmendError as error:
                if not return_exceptions:
                    raise
                found = error
            yield found

    def close(self) -> None:
        """Nothing to do here; a `Client` closes its connections."""

    def __enter__(self) -> Refiner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, image: Any, masks: Any) -> tuple[NDArray[np.uint8], list[Rle]]:
        with self.stages.measure("decode"):
            picture = load_image(image, exif_policy=self._exif)
            height, width = picture.shape[:2]
            return picture, [
                as_rle(mask, height=height, width=width, field=f"masks[{number}]")
                for number, mask in enumerate(masks_of(masks))
            ]

    def _refined(self, picture: NDArray[np.uint8], coarse: Sequence[Rle]) -> Iterator[tuple[int, RefinedInstance]]:
        for number, result in self._engine.refine_each(picture, coarse):
            with self.stages.measure("encode"):
                instance = RefinedInstance(
                    result.mask.to_coco(),
                    result.mask.bbox,
                    result.mask.area,
                    result.confidence,
                    result.score,
                    result.abstained,
                    result.changed_pixels,
                    result.undone,
                    max_displacement(coarse[number], result.mask),
                )
            yield number, instance

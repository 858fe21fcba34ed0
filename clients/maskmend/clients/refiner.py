"""`Refiner`: masks refined in this process, three lines of code away."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmend.clients.adapters import masks_of
from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.clients.side_by_side import side_by_side
from maskmend.models import load_refiner
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.defaults import CAUTION, REACH
from maskmend.patcher.displacement import max_displacement
from maskmend.patcher.errors import MaskmendError, OptionError
from maskmend.patcher.images import ExifPolicy, load_image
from maskmend.service import Engine, EngineOptions, StageTimes
from maskmend.service.options import Patches


class Refiner:
    """Refines the masks of any segmenter.

        from maskmend.clients import Refiner

        refiner = Refiner()
        result = refiner.refine("cat.jpg", masks)

    Several threads may use one at a time.

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
        concurrency: images that `refine_many` has under way at a time. With 2 or more one of them is read and judged while
            the network has another; images are then taken ahead, and an array must stay as it is until its result is there.

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
        concurrency: int = 1,
    ) -> None:
        if not 1 <= concurrency <= 64:
            raise OptionError(f"concurrency is {concurrency}; use 1 to 64", field="concurrency")
        self._network = load_refiner(
            refiner,
            weights=weights,
            runtime=runtime,
            precision=precision,
            threads=threads,
            device=device,
            triton_url=triton_url,
        )
        self._options = EngineOptions(nms, passes, guard, caution, reach, topology, arbitrate, tiles, patches)
        self._batch_size, self._exif, self._concurrency = batch_size, exif_policy, concurrency
        self._times = StageTimes()
        engine = self._new_engine()
        self._provenance, self._idle = engine.provenance, [engine]

    @property
    def provenance(self) -> dict[str, str | int | float]:
        """What decides the result: weights and their SHA-256, runtime, precision, options."""
        return dict(self._provenance)

    @property
    def stages(self) -> StageTimes:
        """Busy seconds by stage, of all images so far."""
        return self._times

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
        return self._refine(image, masks, _go_on)

    def stream(self, image: Any, masks: Any) -> Iterator[tuple[int, RefinedInstance]]:
        """Index and instance as soon as each is ready, in any order; otherwise as `refine`."""
        times = StageTimes(self._times)
        yield from self._refined(*self._read(image, masks, times), times, _go_on)

    def refine_many(
        self, items: Iterable[tuple[Any, Any]], *, return_exceptions: bool = False
    ) -> Generator[RefineResult | MaskmendError, None, None]:
        """Refine many images, one after the other or `concurrency` of them at a time. The results are the same.

        Args:
            items: image and masks of each; asked for the next when that is to be worked on, and with a `concurrency` above 1
                for one more.
            return_exceptions: give the error of an image in the place of its result, and go on.

        Yields:
            One result per image, in order.

        Raises:
            MaskmendError: as `refine`, unless they are returned.
        """
        # A device has passes of its own, one image at a time.
        if self._concurrency > 1 and self._network.looks is None:
            yield from side_by_side(self._refine, items, self._concurrency, return_exceptions=return_exceptions)
            return
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

    def _refine(self, image: Any, masks: Any, check: Callable[[], None]) -> RefineResult:
        """See `refine`, and `Engine.check`."""
        times = StageTimes(self._times)
        picture, coarse = self._read(image, masks, times)
        found = dict(self._refined(picture, coarse, times, check))
        instances = [found[number] for number in range(len(coarse))]
        return RefineResult(picture.shape[0], picture.shape[1], instances, self.provenance, times.seconds)

    def _read(self, image: Any, masks: Any, times: StageTimes) -> tuple[NDArray[np.uint8], list[Rle]]:
        with times.measure("decode"):
            picture = load_image(image, exif_policy=self._exif)
            height, width = picture.shape[:2]
            return picture, [
                as_rle(mask, height=height, width=width, field=f"masks[{number}]")
                for number, mask in enumerate(masks_of(masks))
            ]

    def _refined(
        self, picture: NDArray[np.uint8], coarse: Sequence[Rle], times: StageTimes, check: Callable[[], None]
    ) -> Iterator[tuple[int, RefinedInstance]]:
        with self._engine() as engine:
            engine.stages, engine.check = times, check
            for number, result in engine.refine_each(picture, coarse):
                with times.measure("encode"):
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

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        """One that no other thread has; they are kept, since the memory of their patches is worth keeping."""
        try:
            engine = self._idle.pop()
        except IndexError:
            engine = self._new_engine()
        try:
            yield engine
        finally:
            self._idle.append(engine)

    def _new_engine(self) -> Engine:
        return Engine(self._network, self._options, batch_size=self._batch_size)


def _go_on() -> None:
    """Nothing ends the work."""

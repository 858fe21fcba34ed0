"""What people use today to sharpen a mask, behind one signature.

    python benchmarks/quality/baselines.py RESULTS.json --images DIR --annotations TRUTH.json -o OUT.json -m grabcut

Reads what `maskmend degrade` writes, refines record by record, and notes the milliseconds per instance in OUT.time.json:
the method's own time on one thread, without reading files.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
Baseline = Callable[[Image, Mask], Mask]
"""Image uint8 [H, W, 3] RGB and mask bool [H, W]; gives a mask of the same frame. `refine` hands over a crop."""

BASELINES: dict[str, Baseline] = {}
FEWEST = 5
"""Pixels below which a mask, or what is around it, is too little to learn from: GrabCut alone needs five of each."""


def baseline(method: Callable[[Image, Pixels], Pixels]) -> Baseline:
    """Enter a method on masks of 0 and 1 into `BASELINES`; one with nothing to work on, or no answer, gives the mask back.

    A method that fails says so in a warning, so that a broken library is not mistaken for a careful one.
    """

    @wraps(method)
    def run(image: Image, mask: Mask) -> Mask:
        inside = int(np.count_nonzero(mask))
        if min(inside, mask.size - inside) < FEWEST:
            return mask.copy()
        try:
            found = method(image, mask.astype(np.uint8)) > 0
        except ImportError:
            raise
        except Exception as error:
            warnings.warn(f"{method.__name__} failed, mask kept: {error}", RuntimeWarning, stacklevel=2)
            return mask.copy()
        return found if found.any() else mask.copy()

    BASELINES[method.__name__] = run
    return run


def seeds(mask: Pixels) -> tuple[Mask, Mask]:
    """What is surely in and what is surely out: all but a band around the edge, wider for larger objects."""
    band = max(4, round(0.06 * float(np.count_nonzero(mask)) ** 0.5))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    return cv2.erode(mask, kernel, borderType=cv2.BORDER_REPLICATE) > 0, cv2.dilate(mask, kernel) == 0


@baseline
def grabcut(image: Image, mask: Pixels) -> Pixels:
    """GrabCut (Rother et al., 2004), told what is surely in and surely out, free within a band around the edge."""
    core, outside = seeds(mask)
    labels = np.where(mask > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[outside] = cv2.GC_BGD
    labels[core] = cv2.GC_FGD
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(image[:, :, ::-1].copy(), labels, None, background, foreground, 5, cv2.GC_INIT_WITH_MASK)
    return ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)


@baseline
def densecrf(image: Image, mask: Pixels) -> Pixels:
    """Fully connected CRF (Krähenbühl and Koltun, 2011) a Gaussian and a bilateral kernel, five steps of mean field."""
    from pydensecrf import densecrf as crf
    from pydensecrf.utils import unary_from_softmax

    soft = np.clip(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.0), 0.1, 0.9)
    field = crf.DenseCRF2D(mask.shape[1], mask.shape[0], 2)
    field.setUnaryEnergy(unary_from_softmax(np.stack([1 - soft, soft])))
    field.addPairwiseGaussian(sxy=3, compat=3)
    field.addPairwiseBilateral(sxy=40, srgb=8, rgbim=np.ascontiguousarray(image), compat=6)
    inferred = np.array(field.inference(5)).reshape(2, *mask.shape)
    return (inferred[1] > inferred[0]).astype(np.uint8)


@baseline
def guided(image: Image, mask: Pixels, radius: int = 8, eps: float = 1e-4) -> Pixels:
    """Guided filter of the mask (He et al., 2010), the grey image as guide, cut at one half."""
    guide = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    value = mask.astype(np.float32)
    size = (2 * radius + 1, 2 * radius + 1)
    mean_g, mean_v = cv2.blur(guide, size), cv2.blur(value, size)
    slope = (cv2.blur(guide * value, size) - mean_g * mean_v) / (cv2.blur(guide * guide, size) - mean_g**2 + eps)
    offset = mean_v - slope * mean_g
    return (cv2.blur(slope, size) * guide + cv2.blur(offset, size) > 0.5).astype(np.uint8)


@baseline
def geodesic(image: Image, mask: Pixels) -> Pixels:
    """Morphological geodesic active contour (Marquez-Neila et al., 2014) from the mask, sixteen steps."""
    from skimage.segmentation import inverse_gaussian_gradient, morphological_geodesic_active_contour

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) / 255
    # An even number: its smoothing alternates between two operators, and goes on in the next call where this one ended.
    found = morphological_geodesic_active_contour(
        inverse_gaussian_gradient(grey, alpha=200, sigma=1.5), 16, mask, smoothing=1, threshold="auto", balloon=0
    )
    return np.asarray(found, np.uint8)


@baseline
def walker(image: Image, mask: Pixels) -> Pixels:
    """Random walker (Grady, 2006) within the band that `grabcut` is free in."""
    from skimage.segmentation import random_walker

    core, outside = seeds(mask)
    # Objects thinner than the band have no core; without both kinds of seed there is nowhere to walk to. Nor is there on
    # one flat colour, whose spread of zero it would divide by.
    if not core.any() or not outside.any() or image.min() == image.max():
        return mask
    labels = np.where(core, 1, np.where(outside, 2, 0))
    with warnings.catch_warnings():
        # It warns of probabilities beyond 0..1 by the tolerance of its solver; only which label is larger counts here.
        warnings.simplefilter("ignore", UserWarning)
        found = random_walker(image.astype(np.float64) / 255, labels, beta=130, mode="cg_j", channel_axis=2)
    return (found == 1).astype(np.uint8)


@baseline
def smooth(image: Image, mask: Pixels) -> Pixels:
    """Gaussian smoothing of the mask, sigma 2 px, cut at one half; does not look at the image."""
    return (cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.0) > 0.5).astype(np.uint8)


@baseline
def morph(image: Image, mask: Pixels) -> Pixels:
    """Opening and closing with a disk 5 px wide; does not look at the image."""
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    return np.asarray(cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, disk), cv2.MORPH_CLOSE, disk), np.uint8)


NEEDS = {"densecrf": "pydensecrf", "geodesic": "skimage", "walker": "skimage"}


def available(name: str) -> bool:
    """Whether the library that a baseline needs is installed (the `bench` extra)."""
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


def refine(image: Image, mask: Rle, name: str) -> tuple[Rle, float]:
    """Refine one mask; gives it and the seconds that took, in a crop around the object."""
    x, y, w, h = mask.bbox
    if not w or mask.area == mask.height * mask.width:
        return mask, 0.0
    room = 24 + max(w, h) // 10
    x0, y0, x1, y1 = max(x - room, 0), max(y - room, 0), min(x + w + room, mask.width), min(y + h + room, mask.height)
    began = time.perf_counter()
    coarse = mask.crop(x0, y0, x1, y1).view(np.bool_)
    found = BASELINES[name](np.ascontiguousarray(image[y0:y1, x0:x1]), coarse)
    refined = Rle.from_crop(found, mask.height, mask.width, x0, y0)
    return refined, time.perf_counter() - began


def read_image(file: Path) -> Image:
    """Read a photograph as RGB, without turning it: annotations are of the pixels as they are stored."""
    pixels = cv2.imread(str(file), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise SystemExit(f"{file} cannot be read as an image")
    return np.ascontiguousarray(pixels[:, :, ::-1])


def refine_file(results: Path, images: Path, annotations: Path, output: Path, name: str) -> dict[str, float]:
    """Refine a COCO result list; gives the number of instances and their mean milliseconds."""
    names = {image["id"]: image["file_name"] for image in json.loads(annotations.read_text())["images"]}
    records: list[dict[str, Any]] = json.loads(results.read_text())
    seconds, loaded, picture = 0.0, None, None
    if records:
        # The first call pays for loading libraries, which is not the method's own time.
        square = np.pad(np.ones((24, 24), np.bool_), 12)
        BASELINES[name](np.where(square[..., None], 200, np.arange(3)).astype(np.uint8), square)
    for record in records:
        if record["image_id"] != loaded:
            loaded = record["image_id"]
            picture = read_image(images / names.get(loaded, record.get("file_name", str(loaded))))
        assert picture is not None
        refined, spent = refine(picture, Rle.from_coco(record["segmentation"]), name)
        seconds += spent
        record["segmentation"] = refined.to_coco()
        record["bbox"], record["area"] = [float(v) for v in refined.bbox], refined.area
    output.write_text(json.dumps(records))
    summary = {"instances": len(records), "ms_per_instance": 1e3 * seconds / max(len(records), 1)}
    output.with_suffix(".time.json").write_text(json.dumps(summary))
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-m", "--method", choices=list(BASELINES), required=True)
    arguments = parser.parse_args()
    if not available(arguments.method):
        raise SystemExit(f"{arguments.method} needs {NEEDS[arguments.method]}: pip install 'maskmend[bench]'")
    cv2.setNumThreads(1)
    summary = refine_file(
        arguments.results, arguments.images, arguments.annotations, arguments.output, arguments.method
    )
    print(f"{arguments.output}: {summary['instances']} instances, {summary['ms_per_instance']:.1f} ms each")


if __name__ == "__main__":
    main()

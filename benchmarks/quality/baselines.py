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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Baseline = Callable[[Image, Mask], Mask]
"""Image uint8 [h, w, 3] RGB and mask uint8 [h, w] of 0 and 1, a crop around the object; gives a mask of the same kind."""


def grabcut(image: Image, mask: Mask) -> Mask:
    """GrabCut (Rother et al., 2004), told what is surely in and surely out, free within a band around the edge."""
    band = max(4, round(0.06 * float(np.count_nonzero(mask)) ** 0.5))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    labels = np.where(mask > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.dilate(mask, kernel) == 0] = cv2.GC_BGD
    core = cv2.erode(mask, kernel, borderType=cv2.BORDER_REPLICATE) > 0
    labels[core] = cv2.GC_FGD
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(image[:, :, ::-1].copy(), labels, None, background, foreground, 5, cv2.GC_INIT_WITH_MASK)
    return ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)


def densecrf(image: Image, mask: Mask) -> Mask:
    """Fully connected CRF (Krähenbühl and Koltun, 2011) with DeepLab's usual kernels, five steps of mean field."""
    from pydensecrf import densecrf as crf
    from pydensecrf.utils import unary_from_softmax

    soft = np.clip(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.0), 0.1, 0.9)
    field = crf.DenseCRF2D(mask.shape[1], mask.shape[0], 2)
    field.setUnaryEnergy(unary_from_softmax(np.stack([1 - soft, soft])))
    field.addPairwiseGaussian(sxy=3, compat=3)
    field.addPairwiseBilateral(sxy=40, srgb=8, rgbim=np.ascontiguousarray(image), compat=6)
    inferred = np.array(field.inference(5)).reshape(2, *mask.shape)
    return (inferred[1] > inferred[0]).astype(np.uint8)


def guided(image: Image, mask: Mask, radius: int = 8, eps: float = 1e-4) -> Mask:
    """Guided filter of the mask (He et al., 2010), the grey image as guide, cut at one half."""
    guide = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    value = mask.astype(np.float32)
    size = (2 * radius + 1, 2 * radius + 1)
    mean_g, mean_v = cv2.blur(guide, size), cv2.blur(value, size)
    slope = (cv2.blur(guide * value, size) - mean_g * mean_v) / (cv2.blur(guide * guide, size) - mean_g**2 + eps)
    offset = mean_v - slope * mean_g
    return (cv2.blur(slope, size) * guide + cv2.blur(offset, size) > 0.5).astype(np.uint8)


def geodesic(image: Image, mask: Mask) -> Mask:
    """Morphological geodesic active contour (Marquez-Neila et al., 2014) from the mask, fifteen steps."""
    from skimage.segmentation import inverse_gaussian_gradient, morphological_geodesic_active_contour

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) / 255
    found = morphological_geodesic_active_contour(
        inverse_gaussian_gradient(grey, alpha=200, sigma=1.5), 15, mask, smoothing=1, threshold="auto", balloon=0
    )
    return np.asarray(found, np.uint8)


def smooth(image: Image, mask: Mask) -> Mask:
    """Gaussian smoothing of the mask, sigma 2 px, cut at one half; does not look at the image."""
    return (cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.0) > 0.5).astype(np.uint8)


def morph(image: Image, mask: Mask) -> Mask:
    """Opening and closing with a disk 5 px wide; does not look at the image."""
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    return np.asarray(cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, disk), cv2.MORPH_CLOSE, disk), np.uint8)


BASELINES: dict[str, Baseline] = {
    "grabcut": grabcut,
    "densecrf": densecrf,
    "guided": guided,
    "geodesic": geodesic,
    "smooth": smooth,
    "morph": morph,
}
NEEDS = {"densecrf": "pydensecrf", "geodesic": "skimage"}


def available(name: str) -> bool:
    """Whether the library that a baseline needs is installed (the `bench` extra)."""
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


def refine(image: Image, mask: Rle, name: str) -> tuple[Rle, float]:
    """Refine one mask; gives it and the seconds that took. A result that is empty or fails is the coarse mask."""
    x, y, w, h = mask.bbox
    if not w or mask.area == mask.height * mask.width:
        return mask, 0.0
    room = 24 + max(w, h) // 10
    x0, y0, x1, y1 = max(x - room, 0), max(y - room, 0), min(x + w + room, mask.width), min(y + h + room, mask.height)
    began = time.perf_counter()
    coarse = mask.crop(x0, y0, x1, y1)
    try:
        found = BASELINES[name](np.ascontiguousarray(image[y0:y1, x0:x1]), coarse)
    except cv2.error:
        # GrabCut refuses objects so small that nothing is sure.
        found = coarse
    refined = Rle.from_crop(found, mask.height, mask.width, x0, y0) if found.any() else mask
    return refined, time.perf_counter() - began


def refine_file(results: Path, images: Path, annotations: Path, output: Path, name: str) -> dict[str, float]:
    """Refine a COCO result list; gives the number of instances and their mean milliseconds."""
    names = {image["id"]: image["file_name"] for image in json.loads(annotations.read_text())["images"]}
    records: list[dict[str, Any]] = json.loads(results.read_text())
    seconds, loaded, picture = 0.0, None, None
    for record in records:
        if record["image_id"] != loaded:
            loaded = record["image_id"]
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            picture = np.ascontiguousarray(cv2.imread(str(images / names[loaded]), flags)[:, :, ::-1])
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

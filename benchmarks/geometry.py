"""How much faster the geometry of `maskmend.patcher` is than the plain way of doing it, on one thread.

Ten synthetic instances (wobbly blobs with holes, 150 to 500 px) on a 1024 x 2048 frame. The plain way is that of the
official code: decode the whole frame, convolve it, sort all boundary pixels, compare boxes pairwise; whole-frame
accumulators; one crop, resize and normalisation per patch. Both ways must give identical masks and boxes, which is
asserted before anything is timed. Then all stages that a pass of the engine has, with a total per image; processor time.
Run: python benchmarks/geometry.py [--seed 0] [--repeats 15]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from maskmend.patcher import Rle, boundary_boxes, extract_patches, reassemble
from maskmend.patcher.arbitrate import arbitrate
from maskmend.patcher.field import fade
from maskmend.patcher.guard import guard, hold

HEIGHT, WIDTH, INSTANCES, PATCH, NMS = 1024, 2048, 10, 64, 0.25
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)

PASS_STAGES = ("decode RLE", "boxes", "crops", "hold, fade", "reassemble", "guard", "arbitrate", "encode")

Coco = dict[str, Any]


def make_instance(rng: np.random.Generator) -> NDArray[np.bool_]:
    """A blob with a wavy outline and up to three holes, bool [1024, 2048]."""
    size = rng.uniform(150, 500)
    # The outline's waves add up to an eighth of the size, so this margin keeps every blob inside the frame.
    margin = 0.7 * size
    x, y = rng.uniform(margin, WIDTH - margin), rng.uniform(margin, HEIGHT - margin)
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    radius = np.full(720, size / 2)
    for wave in range(2, 12):
        radius += size * rng.normal(0, 0.12 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    squeeze = rng.uniform(0.6, 1.0)
    outline = np.stack([x + radius * np.cos(angle), y + squeeze * radius * np.sin(angle)], 1)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
    for _ in range(rng.integers(0, 4)):
        axes = tuple(int(a) for a in rng.uniform(0.02, 0.08, 2) * size + 2)
        centre = (int(x + rng.uniform(-0.2, 0.2) * size), int(y + rng.uniform(-0.1, 0.1) * size))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 0, -1)
    return mask.astype(bool)


def plain_hash(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The tie-break of seed 0, as the documentation of `boundary_boxes` gives it."""

    def finalise(word: NDArray[np.uint32]) -> NDArray[np.uint32]:
        word = word ^ (word >> 16)
        word = word * np.uint32(0x85EBCA6B)
        word = word ^ (word >> 13)
        word = word * np.uint32(0xC2B2AE35)
        return word ^ (word >> 16)

    return finalise((y * 65536 + x).astype(np.uint32) ^ finalise(np.array([0x27D4EB2F], np.uint32)))


def plain_boxes(rle: Coco, ties: str) -> NDArray[np.int32]:
    """Decode, convolve the whole frame, sort all boundary pixels, keep boxes greedily by pairwise IoU."""
    mask = coco_mask.decode(rle).astype(np.float32)
    total = cv2.filter2D(mask, cv2.CV_32F, np.ones((3, 3), np.float32), borderType=cv2.BORDER_CONSTANT)
    score = np.minimum(total, 9 - total) / 4.5
    y, x = np.nonzero(score > 0)
    score = score[y, x]
    order = np.argsort(-score, kind="stable") if ties == "raster" else np.lexsort((plain_hash(x, y), -score))
    boxes = np.stack([x - 32, y - 32, x + 32, y + 32], 1).astype(np.float64)
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        near = boxes[order]
        w = np.maximum(np.minimum(boxes[best, 2], near[:, 2]) - np.maximum(boxes[best, 0], near[:, 0]), 0)
        h = np.maximum(np.minimum(boxes[best, 3], near[:, 3]) - np.maximum(boxes[best, 1], near[:, 1]), 0)
        shared = w * h
        order = order[shared / (2 * PATCH * PATCH - shared) < NMS]
    result = boxes[kept].reshape(-1, 4)
    result[:, 0] = np.clip(result[:, 0], 0, WIDTH - PATCH)
    result[:, 1] = np.clip(result[:, 1], 0, HEIGHT - PATCH)
    result[:, 2:] = result[:, :2] + PATCH
    return result.astype(np.int32)


def plain_reassemble(rle: Coco, boxes: NDArray[np.int32], probabilities: NDArray[np.float32]) -> Coco:
    """Add up probabilities and counts over the whole frame, compare their quotient, encode."""
    mask = coco_mask.decode(rle).astype(bool)
    total = np.zeros(mask.shape, np.float64)
    count = np.zeros(mask.shape, np.float64)
    for (x0, y0, x1, y1), probability in zip(boxes, probabilities, strict=True):
        total[y0:y1, x0:x1] += probability
        count[y0:y1, x0:x1] += 1
    refined = np.where(count > 0, total / np.maximum(count, 1) > 0.5, mask)
    encoded = coco_mask.encode(np.asfortranarray(refined.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def plain_patches(image: NDArray[np.uint8], rle: Coco, boxes: NDArray[np.int32], size: int) -> NDArray[np.float32]:
    """Decode, then crop, resize and normalise one patch after the other."""
    mask = coco_mask.decode(rle)
    patches = np.empty((len(boxes), 4, size, size), np.float32)
    for n, (x0, y0, x1, y1) in enumerate(boxes):
        colour = cv2.resize(image[y0:y1, x0:x1].astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
        patches[n, :3] = ((colour - MEAN) / STD).transpose(2, 0, 1)
        cue = cv2.resize(mask[y0:y1, x0:x1], (size, size), interpolation=cv2.INTER_NEAREST)
        patches[n, 3] = 2.0 * cue - 1.0
    return patches


def run(seed: int = 0, repeats: int = 15) -> dict[str, Any]:
    """Check that both ways agree, then time them in turn.

    Returns:
        JSON-able: ``instances``, ``frame``, ``patches``, ``seed``, ``repeats`` and ``stages``: per stage the medians
        ``plain_ms`` and ``ours_ms`` for all ten instances, and their ``ratio``; ``pass``: see `time_pass`.
    """
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    masks = [make_instance(rng) for _ in range(INSTANCES)]
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    rles: list[Coco] = []
    for mask in masks:
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        rles.append({"size": list(encoded["size"]), "counts": encoded["counts"].decode()})
    boxes = [boundary_boxes(rle) for rle in rles]
    probabilities = [_probabilities(mask, found, rng) for mask, found in zip(masks, boxes, strict=True)]
    jobs = list(zip(rles, boxes, probabilities, strict=True))

    for rle, mask, found, probability in zip(rles, masks, boxes, probabilities, strict=True):
        for ties in ("hash", "raster"):
            expected = plain_boxes(rle, ties)
            for kind in (rle, mask):
                _check(np.array_equal(boundary_boxes(kind, ties=ties), expected), f"boxes, {ties}")  # type: ignore[arg-type]
        _check(reassemble(rle, found, probability) == plain_reassemble(rle, found, probability), "reassembly")
        ours, plain = extract_patches(image, rle, found), plain_patches(image, rle, found, 128)
        _check(np.array_equal(ours[:, 3], plain[:, 3]) and float(np.abs(ours - plain).max()) < 1e-4, "patches")

    # The engine uses the memory of its patches again.
    room = np.empty((max(map(len, boxes)), 4, 128, 128), np.float32)
    stages: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "RLE -> boxes, ties by hash": (
            lambda: [plain_boxes(rle, "hash") for rle in rles],
            lambda: [boundary_boxes(rle) for rle in rles],
        ),
        "RLE -> boxes, ties by raster": (
            lambda: [plain_boxes(rle, "raster") for rle in rles],
            lambda: [boundary_boxes(rle, ties="raster") for rle in rles],
        ),
        "dense -> boxes, ties by hash": (
            lambda: [plain_boxes(rle, "hash") for rle in rles],
            lambda: [boundary_boxes(mask) for mask in masks],
        ),
        "reassembly RLE -> RLE": (
            lambda: [plain_reassemble(*job) for job in jobs],
            lambda: [reassemble(*job) for job in jobs],
        ),
        "patches 64 -> 128 px": (
            lambda: [plain_patches(image, rle, found, 128) for rle, found, _ in jobs],
            lambda: [extract_patches(image, rle, found, out=room[: len(found)]) for rle, found, _ in jobs],
        ),
    }
    table = {}
    for name, (plain_way, our_way) in stages.items():
        plain_times, our_times = [], []
        for _ in range(repeats):
            plain_times.append(_seconds(plain_way))
            our_times.append(_seconds(our_way))
        plain_ms, ours_ms = (1000 * float(np.median(times)) for times in (plain_times, our_times))
        table[name] = {"plain_ms": plain_ms, "ours_ms": ours_ms, "ratio": plain_ms / ours_ms}
    return {
        "instances": INSTANCES,
        "frame": [HEIGHT, WIDTH],
        "patches": sum(map(len, boxes)),
        "seed": seed,
        "repeats": repeats,
        "stages": table,
        "pass": time_pass(image, masks, rng, repeats),
    }


def time_pass(
    image: NDArray[np.uint8], masks: list[NDArray[np.bool_]], rng: np.random.Generator, repeats: int
) -> dict[str, float]:
    """What one pass over an image costs beside the network: every stage for all instances, as the engine does it.

    The coarse masks are the true ones with their outline bent by some pixels, and the patches say what is true, so that
    the guard has changes to judge. Patches are those of the shipped weights, 64 px with 32 px of context.

    Returns:
        Median processor time in ms of each stage, and ``total``, the median of their sums.
    """
    coarse = [Rle.from_dense(_bent(mask, rng)) for mask in masks]
    texts = [rle.to_coco() for rle in coarse]
    boxes = [boundary_boxes(rle) for rle in coarse]
    said = [_probabilities(mask, found, rng) for mask, found in zip(masks, boxes, strict=True)]
    room = np.empty((max(map(len, boxes)), 4, 2 * PATCH, 2 * PATCH), np.float32)
    half = PATCH // 2
    rows: list[list[float]] = []
    for _ in range(repeats + 1):
        clock = [time.process_time()]
        read = [Rle.from_coco(text) for text in texts]
        clock.append(time.process_time())
        looked = [boundary_boxes(rle) for rle in read]
        clock.append(time.process_time())
        known = []
        for rle, found in zip(read, looked, strict=True):
            patches = extract_patches(image, rle, found, padding=half, out=room[: len(found)])
            known.append(patches[:, 3, half:-half, half:-half].copy())
        clock.append(time.process_time())
        votes = [fade(hold(p, sides)) for p, sides in zip(said, known, strict=True)]
        clock.append(time.process_time())
        refined = [reassemble(*work) for work in zip(read, looked, votes, strict=True)]
        clock.append(time.process_time())
        judged = [
            guard(image, *work[:2], [work[2:]])  # type: ignore[arg-type]
            for work in zip(read, refined, looked, said, strict=True)
        ]
        clock.append(time.process_time())
        kept = arbitrate(read, [result.mask for result in judged], [result.confidence for result in judged])
        clock.append(time.process_time())
        written = [rle.to_coco() for rle in kept]
        clock.append(time.process_time())
        _check(len(written) == len(texts) and written != texts, "nothing was refined")
        rows.append([1000 * float(t) for t in np.diff(clock)])
    # The first turn compiles, or reads what was compiled.
    table = np.array(rows[1:])
    found = dict(zip(PASS_STAGES, np.median(table, axis=0).tolist(), strict=True))
    return {**found, "total": float(np.median(table.sum(axis=1)))}


def _bent(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A mask with every pixel moved by a smooth field of a few pixels."""
    across, down = (_waves(mask.shape, rng) for _ in range(2))
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]].astype(np.float32)
    return cv2.remap(mask.astype(np.uint8), x + across, y + down, cv2.INTER_NEAREST) > 0


def _waves(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    few = rng.normal(0, 4, (shape[0] // 32, shape[1] // 32)).astype(np.float32)
    return np.asarray(cv2.resize(few, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def _probabilities(mask: NDArray[np.bool_], boxes: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.float32]:
    """What a refiner might say: the mask made soft, with noise of its own in every patch, float32 [N, 64, 64]."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 3.0)
    crops = np.stack([soft[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes])
    return np.clip(crops + rng.normal(0, 0.1, crops.shape), 0, 1).astype(np.float32)


def _check(agrees: bool, what: str) -> None:
    if not agrees:
        raise AssertionError(f"the two ways disagree: {what}")


def _seconds(work: Callable[[], object]) -> float:
    # Processor time: what else runs on the machine does not count.
    begin = time.process_time()
    work()
    return time.process_time() - begin


def print_table(result: dict[str, Any]) -> None:
    """Print what `run` returned."""
    height, width = result["frame"]
    print(
        f"{result['instances']} instances on {height} x {width}, {result['patches']} patches, one thread, "
        f"medians of {result['repeats']} interleaved runs; outputs identical"
    )
    print(f"{'stage':30} {'plain ms':>10} {'ours ms':>10} {'ratio':>8}")
    for name, row in result["stages"].items():
        print(f"{name:30} {row['plain_ms']:10.2f} {row['ours_ms']:10.3f} {row['ratio']:7.0f}x")
    print("one pass over the image beside the network, processor time:")
    for name, milliseconds in result["pass"].items():
        print(f"{name:30} {milliseconds:21.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    result = run(options.seed, options.repeats)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print_table(result)


if __name__ == "__main__":
    main()

"""`maskmend explain`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from maskmend.clients.cli.conventions import REFINER_HELP, one_of
from maskmend.patcher.errors import JobError, MaskError, OptionError, RuntimeUnavailableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from maskmend.clients.explain.drawing import Picture
    from maskmend.clients.explain.first_pass import FirstPass
    from maskmend.models.refiner import NetworkRefiner
    from maskmend.patcher import Rle

console = Console(stderr=True)

_MOST_POINTS: Final = 8


def explain(
    image: Path = typer.Argument(..., help="Photograph."),
    mask: Path = typer.Argument(
        ..., help="Coarse mask: a picture in which 0 is background, or a COCO file with --instance."
    ),
    output: Path = typer.Option(Path("explain.png"), "--output", "-o", help="PNG to write."),
    instance: int = typer.Option(
        None, "--instance", help="Which record of a COCO file, from 0; not needed if there is one."
    ),
    refiner: str = typer.Option(
        None,
        "--refiner",
        help=REFINER_HELP + " Here transfiner needs PyTorch.",
    ),
    weights: str = typer.Option(None, "--weights", help="Name or path of the weights \\[the refiner's]."),
    runtime: str = typer.Option("auto", "--runtime", help="auto, openvino, onnx, torch, tensorrt or triton."),
    device: str = typer.Option(None, "--device", help="cpu, cuda or cuda:1, for torch and tensorrt \\[cpu]."),
    triton_url: str = typer.Option(
        None, "--triton-url", help="Servers of the triton runtime: grpc:// or http://, host and port."
    ),
    box: int = typer.Option(None, "--box", help="Box to show in detail, from 0 \\[the one that changed most]."),
    point: list[str] = typer.Option(
        None,
        "--point",
        help="X,Y in px of the image: show what the node there looks at; for transfiner. May be given several times "
        "\\[three nodes that changed most].",
    ),
    nms: float = typer.Option(0.25, "--nms", help="Overlap of boxes along a boundary."),
    json_file: Path = typer.Option(None, "--json", help="Write the same as data."),
) -> None:
    """Draw where a refiner looks at one instance, and what it says there: one PNG.

    All boxes along the boundary and those kept, the probability of the first pass, the outlines before and after, and the
    crops that changed most. Of `transfiner`: the nodes of each level, how what they say travels from coarse to fine, and
    what nodes look at. What it shows is the first pass, made by the same code as in `refine`.

    Exit codes: 0 written; 2 unusable input, nothing written.

    Examples:
        maskmend explain photo.jpg mask.png

        maskmend explain photo.jpg results.json --instance 12 --output boxes.png --json boxes.json

        maskmend explain photo.jpg mask.png --refiner transfiner --point 310,96 --point 288,140
    """
    from maskmend.clients.explain.drawing import as_png
    from maskmend.clients.explain.first_pass import facts_of, first_pass
    from maskmend.clients.json_files import write_json, write_whole
    from maskmend.models.registry import REFINERS
    from maskmend.patcher.images import load_image

    refiner = _which(refiner, weights)
    _check_files(output, json_file)
    photograph = load_image(image)
    points = _points(point or [], refiner, photograph.shape[1], photograph.shape[0])
    coarse, about = _read_mask(mask, instance, photograph)
    network = _load(refiner, weights, runtime, device, triton_url)
    first = first_pass(photograph, coarse, network, nms)
    chosen = first.choose(box, points)
    used = network.provenance
    title = f"{image.name}, {about}: {refiner}, weights {used['weights']}, {used['runtime']}"
    facts: dict[str, Any] = {"photograph": image.name, "source": about, **facts_of(first, chosen)}
    if refiner == "transfiner":
        picture, more = _transfiner(first, chosen, network, weights or REFINERS[refiner].weights, points, title)
        facts |= more
    else:
        from maskmend.clients.explain.boxes import draw_boxes

        picture = draw_boxes(first, chosen, title)
    write_whole(output, as_png(picture))
    if json_file is not None:
        write_json(json_file, facts, indent=True)
    _say(facts, title)
    told = f"{output}: {picture.shape[1]}x{picture.shape[0]} px" + (f"; data: {json_file}" if json_file else "")
    console.print(told, highlight=False, soft_wrap=True, markup=False)


def _which(refiner: str | None, weights: str | None) -> str:
    """The refiner asked for, or that of the weights."""
    from maskmend.models.registry import DEFAULT_REFINER, REFINERS
    from maskmend.models.zoo import resolve_weights

    if refiner is not None:
        return one_of("refiner", refiner, tuple(REFINERS))
    return DEFAULT_REFINER if weights is None else resolve_weights(weights).manifest.refiner


def _check_files(output: Path, json_file: Path | None) -> None:
    """Whatever is wrong with what is to be written is said before any work."""
    if output.suffix.lower() != ".png":
        raise OptionError(f"--output {output.name[:100]} must end in .png; the picture is a PNG", field="output")
    for option, path in (("output", output), ("json", json_file)):
        if path is not None and not path.parent.is_dir():
            raise JobError(f"--{option} {path}: its folder is not there; make it first", field=option)
    if json_file is not None and json_file.resolve() == output.resolve():
        raise OptionError("--json and --output name the same file; give two", field="json")


def _points(texts: list[str], refiner: str, width: int, height: int) -> list[tuple[int, int]]:
    """Points in px of the image.

    Raises:
        OptionError: not two whole numbers, outside the image, too many, or for another refiner.
    """
    if texts and refiner != "transfiner":
        raise OptionError(f"--point is for --refiner transfiner; {refiner} has no nodes, leave it out", field="point")
    if len(texts) > _MOST_POINTS:
        raise OptionError(f"--point is given {len(texts)} times; at most {_MOST_POINTS} are shown", field="point")
    found = []
    for text in texts:
        parts = text.split(",")
        if len(parts) != 2 or not all(part.strip().isdecimal() and len(part.strip()) < 7 for part in parts):
            raise OptionError(f"--point is {text[:40]!r}; give two whole numbers in px, such as 120,88", field="point")
        x, y = int(parts[0]), int(parts[1])
        if x >= width or y >= height:
            raise OptionError(f"--point {x},{y} lies outside the image of {width}x{height} px", field="point")
        found.append((x, y))
    return found


def _read_mask(path: Path, instance: int | None, photograph: NDArray[np.uint8]) -> tuple[Rle, str]:
    """The coarse mask, in the photograph's size, and what to call it."""
    from maskmend.clients.formats.base import Policies
    from maskmend.clients.formats.coco import CocoMasks
    from maskmend.patcher import as_rle
    from maskmend.patcher.images import read_image_file
    from maskmend.patcher.mask_images import read_mask

    height, width = photograph.shape[:2]
    if path.suffix.lower() != ".json":
        if instance is not None:
            raise OptionError(
                f"--instance is for COCO files; {path.name[:100]} is one mask, leave it out", field="instance"
            )
        found, about = read_mask(read_image_file(path, "mask"), field="mask"), path.name
    else:
        records = CocoMasks.open(path, None, Policies())
        count = len(records.instances)
        if not count:
            raise JobError(f"{path} holds no records; there is no mask to explain", field="mask")
        if instance is None and count > 1:
            raise OptionError(
                f"{path} holds {count} records; choose with --instance 0 to {count - 1}", field="instance"
            )
        number = instance or 0
        if not 0 <= number < count:
            raise OptionError(f"--instance is {number}; {path} holds records 0 to {count - 1}", field="instance")
        found = records.mask(number, height, width)
        about = f"record {number} of {path.name} ({records.instances[number].image})"
    mask = as_rle(found, height=height, width=width, field="mask")
    if mask.area in (0, height * width):
        kind = "empty" if not mask.area else "as large as the image"
        raise MaskError(f"mask is {kind}: it has no boundary to look along; give one of an object", field="mask")
    return mask, about


def _load(
    refiner: str, weights: str | None, runtime: str, device: str | None, triton_url: str | None
) -> NetworkRefiner:
    from maskmend.models import load_refiner

    if refiner == "transfiner":
        if runtime not in ("auto", "torch"):
            raise OptionError(
                f"--runtime {runtime[:40]} does not tell nodes and attention; for transfiner leave it out, or use torch",
                field="runtime",
            )
        if importlib.util.find_spec("torch") is None:
            raise RuntimeUnavailableError(
                "nodes and attention of transfiner are told by PyTorch alone, which is not installed; "
                "pip install 'maskmend[train]'",
                field="runtime",
            )
        runtime = "torch"
    return load_refiner(refiner, weights=weights, runtime=runtime, device=device, triton_url=triton_url)


def _transfiner(
    first: FirstPass, chosen: int, network: NetworkRefiner, weights: str, points: list[tuple[int, int]], title: str
) -> tuple[Picture, dict[str, Any]]:
    from maskmend.clients.explain.crop import Crop, facts_of_crop
    from maskmend.clients.explain.picks import most_changed, nearest
    from maskmend.clients.explain.transfiner import draw_transfiner
    from maskmend.models.explain import explain_crop, load_network
    from maskmend.models.zoo import resolve_weights
    from maskmend.patcher import extract_patches

    box = first.boxes[chosen : chosen + 1]
    # As the engine cuts it.
    patch = extract_patches(first.image, first.coarse, box, size=network.input_size, padding=network.padding)[0]
    explained = explain_crop(
        load_network(resolve_weights(weights)), patch, patch=network.patch, padding=network.padding
    )
    crop = Crop.of(explained, patch, box[0].tolist(), network.padding)
    # A pixel's middle.
    places = [crop.share(x + 0.5, y + 0.5) for x, y in points]
    picks = nearest(explained, places) if places else most_changed(explained)
    return draw_transfiner(first, chosen, crop, picks, title), facts_of_crop(crop, picks)


def _say(facts: dict[str, Any], title: str) -> None:
    """The same in words."""
    boxes, result = facts["boxes"], facts["result"]
    said = [
        title,
        f"boxes of {boxes['side']} px: {boxes['dense']} before suppression, {boxes['kept']} kept (nms {boxes['nms']:g}); "
        f"box {boxes['chosen']} in detail, {boxes['changed_pixels'][boxes['chosen']]} px changed",
        f"first pass: {facts['first_pass']['changed_pixels']} px changed",
        f"result: kept as it came: {result['abstained']}"
        if result["abstained"]
        else f"result: {result['changed_pixels']} px changed, score {result['score']:.2f}",
    ]
    for line in said:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if "levels" not in facts:
        return
    table = Table("level", "nodes", "slots", "share of the crop", "changed sides")
    for level in facts["levels"]:
        name = f"{level['side']}x{level['side']}"
        table.add_row(name, str(level["nodes"]), str(level["slots"]), f"{level['share']:.1%}", str(level["turned"]))
    console.print(table)
    for number, point in enumerate(facts["points"], 1):
        looks = point.get("last_layer")
        seen = (
            ""
            if looks is None or looks["reference"] is None
            else f", {looks['reference']:.0%} of its attention on reference tokens"
        )
        console.print(
            f"node {number} at ({point['x']:.1f}, {point['y']:.1f}): {point['before']:.2f} before, "
            f"{point['after']:.2f} after{seen}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )

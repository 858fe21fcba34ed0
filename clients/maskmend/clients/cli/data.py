"""`maskmend degrade`, `evaluate`, `demo` and `bench`."""

from __future__ import annotations

import hashlib
import json
import runpy
from pathlib import Path

import typer
from rich.console import Console

from maskmend.patcher.errors import JobError, OptionError

console = Console()


def degrade(
    truth: Path = typer.Argument(..., help="COCO instances file."),
    images: Path = typer.Option(..., "--images", help="Folder of the photographs (checked to exist, not read)."),
    output: Path = typer.Option(..., "--output", "-o", help="COCO result list to write."),
    kind: str = typer.Option(..., "--kind", help="rcnn28, yolo, polygon, warp or perturb."),
    seed: int = typer.Option(0, "--seed", help="Same seed, same masks."),
) -> None:
    """Make coarse masks from true ones: a COCO result list, one record per annotation, crowds left out.

    Records carry `annotation_id` and `file_name` besides the usual fields, so that `refine` finds the photographs. Each
    mask depends on the seed, the kind and the annotation's id alone.

    Example:
        maskmend degrade instances.json --images photos --output coarse.json --kind rcnn28 --seed 1
    """
    import numpy as np

    from maskmend.clients.coco import read_coco, write_json
    from maskmend.models.training.coarse import KINDS
    from maskmend.models.training.coarse import degrade as make_coarse
    from maskmend.patcher import Rle, as_rle

    if kind not in KINDS:
        raise OptionError(f"--kind is {kind!r}; use one of {', '.join(KINDS)}", field="kind")
    if not images.is_dir():
        raise JobError(f"--images {images} is not a folder", field="images")
    coco = read_coco(truth, field="gt")
    if coco.is_results:
        raise JobError(f"{truth} is a result list; degrade needs a COCO instances file", field="gt")
    made = []
    for number, annotation in enumerate(coco.records):
        if annotation.get("iscrowd"):
            continue
        image = coco.images.get(annotation.get("image_id", ""))
        if image is None:
            raise JobError(
                f"{truth}: annotation {number} has an image_id that is not among the images", field="image_id"
            )
        rle = as_rle(annotation.get("segmentation"), height=image["height"], width=image["width"], field="segmentation")
        digest = hashlib.sha256(f"{seed}/{kind}/{annotation.get('id', number)}".encode()).digest()
        coarse = Rle.from_dense(
            make_coarse(rle.to_dense(), kind, np.random.default_rng(int.from_bytes(digest[:8], "little")))
        )
        made.append(
            {
                "image_id": annotation["image_id"],
                "category_id": annotation.get("category_id", 1),
                "score": 1.0,
                "segmentation": coarse.to_coco(),
                "bbox": [float(value) for value in coarse.bbox],
                "area": coarse.area,
                "annotation_id": annotation.get("id", number),
                "file_name": image.get("file_name"),
            }
        )
    write_json(output, made)
    typer.echo(f"{output}: {len(made)} coarse masks of kind {kind}", err=True)


def evaluate(
    results: list[Path] = typer.Argument(..., help="COCO result lists or instances files; the first is the baseline."),
    gt: Path = typer.Option(..., "--gt", help="COCO instances file of the ground truth."),
    json_file: Path = typer.Option(None, "--json", help="Write the scores as JSON too."),
) -> None:
    """Compare result files with ground truth, one column each.

    AP and boundary AP as COCO defines them. Mean IoU, boundary F and mBA over the instances that the FIRST file matches at
    IoU > 0.5, the same for every file. Improved and harmed: instances whose IoU went up or down by more than 0.005
    against the first file.

    Example:
        maskmend evaluate --gt truth.json coarse.json refined.json --json scores.json
    """
    from maskmend.clients.evaluate import evaluate as score

    found = score(gt, list(results))
    console.print(_score_table([file.path for file in found.files], found.as_dict()["files"], found.pairs))
    if json_file is not None:
        from maskmend.clients.coco import write_json

        write_json(json_file, found.as_dict(), indent=True)


def _score_table(names: list[str], files: list[dict[str, float]], pairs: int) -> object:
    from rich.table import Table

    from maskmend.clients.report import SCORE_LABELS, format_score

    table = Table("", *(Path(name).name for name in names), title=f"{pairs} matched instances")
    for key, label in SCORE_LABELS.items():
        table.add_row(label, *(format_score(key, file[key], n) for n, file in enumerate(files)))
    return table


def demo(
    output: Path = typer.Option(Path("demo-output"), "--output", "-o", help="Folder for the results."),
    samples: Path = typer.Option(None, "--samples", help="Folder with images/, instances.json and coarse.json."),
) -> None:
    """Refine the shipped sample end to end: metric table, before/after picture and page.

    Example:
        maskmend demo --output demo-output
    """
    from maskmend.clients.backends import LocalBackend
    from maskmend.clients.coco import ImageFolder, read_coco
    from maskmend.clients.evaluate import evaluate as score
    from maskmend.clients.job import run_job
    from maskmend.clients.refiner import Refiner
    from maskmend.clients.report import montage, score_table, shown_instance, write_html, write_png
    from maskmend.patcher.images import load_image

    folder = samples if samples is not None else _repository("samples")
    truth, coarse = folder / "instances.json", folder / "coarse.json"
    output.mkdir(parents=True, exist_ok=True)
    refined = output / "refined.json"
    backend = LocalBackend(Refiner())
    typer.echo(f"refining {coarse} with {backend.provenance['weights']} on {backend.provenance['runtime']} ...")
    summary = run_job(coarse, folder / "images", refined, backend, annotations=truth)
    scores = score(truth, [coarse, refined]).as_dict()
    console.print(_score_table(["coarse", "refined"], scores["files"], scores["pairs"]))
    photographs = ImageFolder(folder / "images", read_coco(truth).images)
    after = read_coco(refined).records
    ranked = sorted(summary.instances, key=lambda i: (-int(i["changed_pixels"]), int(i["index"])))
    items = []
    for instance in ranked[:24]:
        path = photographs.find(after[instance["index"]])
        if instance["changed_pixels"]:
            details = f"{instance['changed_pixels']} px changed"
            masks = instance["coarse"], after[instance["index"]]["segmentation"]
            items.append(shown_instance(load_image(path), *masks, path.name, details))
    facts = [(key.replace("_", " "), str(value)) for key, value in backend.provenance.items()]
    table = score_table(scores["files"], ["coarse", "refined"])
    write_html(output / "index.html", "maskmend demo: coarse and refined", facts, items, table)
    write_png(output / "before-after.png", montage(items[:4]))
    typer.echo(f"before/after: {output / 'before-after.png'} and {output / 'index.html'}")


def bench(
    what: str = typer.Argument("geometry", help="geometry: against a plain implementation, as ratios."),
    json_file: Path = typer.Option(None, "--json", help="Write the figures as JSON too."),
    seed: int = typer.Option(0, "--seed", help="Of the synthetic instances."),
    repeats: int = typer.Option(15, "--repeats", help="Interleaved runs; medians are printed."),
) -> None:
    """Measure speed as ratios within one run.

    Needs a checkout of the repository with its dev extra (`make test` installs it): the plain implementations live there.

    Example:

        maskmend bench geometry --json geometry.json
    """
    if what != "geometry":
        raise OptionError(f"bench {what!r} is unknown; use geometry", field="what")
    script = _repository("benchmarks") / "geometry.py"
    try:
        benchmark = runpy.run_path(str(script))
    except ImportError as error:
        raise OptionError(f"bench needs {error.name}; pip install 'maskmend[dev]'", field="extras") from error
    found = benchmark["run"](seed, repeats)
    benchmark["print_table"](found)
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1))


def _repository(name: str) -> Path:
    """A folder of the checkout this code runs from.

    Raises:
        JobError: maskmend was installed without its repository.
    """
    folder = Path(__file__).resolve().parents[4] / name
    if not folder.is_dir():
        raise JobError(f"the folder {name}/ is part of the repository, not of the package; run from a checkout")
    return folder

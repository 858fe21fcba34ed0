"""Instances with a true and a coarse mask, as the experiments of the papers need them: made, read, scored."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskmend.clients.cli.data import degrade
from maskmend.clients.coco import ImageFolder, read_coco, write_json
from maskmend.clients.evaluate import FileScores, evaluate
from maskmend.models.training.coarse import KINDS
from maskmend.models.training.splits import is_validation
from maskmend.patcher import JobError, Rle, as_rle

SEED = 3
"""Of the coarse masks; that of the quality tables."""


@dataclass(frozen=True)
class Case:
    """One instance: masks of one frame, and its photograph."""

    truth: Rle
    coarse: Rle
    photograph: Path


@dataclass(frozen=True)
class Cases:
    """All instances of a run, coarse masks of one kind.

    Attributes:
        work: folder for result files.
        gt: COCO instances file of the chosen images, without crowds.
        coarse: COCO result list, the record of each case in their order.
        cases: in the order of the images.
        images: how many images were chosen.
    """

    work: Path
    gt: Path
    coarse: Path
    cases: list[Case]
    images: int

    def score(self, refined: dict[str, list[Rle]]) -> dict[str, FileScores]:
        """The coarse masks, under `coarse`, and lists of refined ones by name, as `maskmend evaluate` scores them."""
        records = json.loads(self.coarse.read_text())
        files = [self.coarse]
        for number, masks in enumerate(refined.values()):
            made = [
                {**record, "segmentation": mask.to_coco(), "bbox": list(map(float, mask.bbox)), "area": mask.area}
                for record, mask in zip(records, masks, strict=True)
            ]
            files.append(self.work / f"refined-{number}.json")
            write_json(files[-1], made)
        return dict(zip(["coarse", *refined], evaluate(self.gt, files).files, strict=True))


def add_options(parser: argparse.ArgumentParser, kinds: list[str], limit: int) -> None:
    """The options that `read_cases` reads, and how to print."""
    parser.add_argument("--gt", type=Path, required=True, help="COCO instances file")
    parser.add_argument("--images", type=Path, required=True, help="folder of the photographs")
    parser.add_argument(
        "--kinds", nargs="+", default=kinds, choices=KINDS, help="of coarse masks; see maskmend degrade"
    )
    parser.add_argument("--limit", type=int, default=limit, help="images at most, 1 or more")
    parser.add_argument("--every", type=int, default=1, help="only every n-th image, for frames of a video")
    parser.add_argument("--all", action="store_true", help="images of the training side too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")


def read_cases(given: argparse.Namespace, kind: str, work: Path) -> Cases:
    """Choose images, make coarse masks as `maskmend degrade` does, and read both.

    Args:
        given: options of `add_options`.
        kind: of the coarse masks.
        work: folder to write to.

    Raises:
        ImageError: a photograph is missing.
        JobError: a file cannot be used, or no instance is left.
        MaskError: a mask cannot be read.
    """
    coco = read_coco(given.gt, field="gt")
    if coco.is_results:
        raise JobError(f"--gt {given.gt} is a result list; give a COCO instances file", field="gt")
    side = [image for image in coco.document["images"] if given.all or is_validation(image["id"])]
    images = {image["id"]: image for image in side[:: given.every][: given.limit]}
    records = [record for record in coco.records if record.get("image_id") in images and not record.get("iscrowd")]
    order = {image_id: number for number, image_id in enumerate(images)}
    records.sort(key=lambda record: order[record["image_id"]])
    if not records:
        raise JobError(f"--gt {given.gt} has no instance in the chosen images; try --all", field="gt")
    gt, coarse = work / "gt.json", work / f"coarse-{kind}.json"
    chosen: dict[str, Any] = {**coco.document, "images": list(images.values()), "annotations": records}
    write_json(gt, chosen)
    degrade(gt, images=given.images, output=coarse, kind=kind, seed=SEED)
    folder = ImageFolder(given.images, images)
    cases = []
    for record, made in zip(records, json.loads(coarse.read_text()), strict=True):
        image = images[record["image_id"]]
        truth = as_rle(record["segmentation"], height=image["height"], width=image["width"])
        cases.append(Case(truth, Rle.from_coco(made["segmentation"]), folder.find(record)))
    return Cases(work, gt, coarse, cases, len(images))


def check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Refuse numbers that choose nothing."""
    if min(given.limit, given.every) < 1:
        parser.error("--limit and --every must be 1 or more")

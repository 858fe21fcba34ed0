"""Tasks of Label Studio in, predictions out: the same regions, refined."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from maskmend.clients.annotation.refiners import Refines, model_version
from maskmend.clients.annotation.task_images import TaskImages
from maskmend.clients.formats.label_studio import entries, image_reference
from maskmend.clients.formats.label_studio_regions import Region, is_refinable, put_mask, region_mask
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError, MaskmendError
from maskmend.service.errors import InvalidRequestError

logger = logging.getLogger("maskmend.label-studio")

MOST_TASKS = 100
"""Tasks of one request."""
MOST_REGIONS = 1000
"""Regions of one task."""


def predictions(
    tasks: object, context: object, refines: Refines, images: TaskImages, tolerance: float
) -> list[dict[str, Any]]:
    """One prediction for each task.

    Args:
        tasks: as Label Studio sends them.
        context: of an annotator at work, whose `result` has the regions to refine; None otherwise. Then the regions of a
            task are those of its newest annotation that was not cancelled, or of its newest prediction.
        refines: see there.
        images: see there.
        tolerance: of polygons, in px.

    Returns:
        `result`, `score` (mean over the refined regions, 0 where there are none) and `model_version` of each. A region
        keeps its id, names and labels, and has a `score`; what has no mask passes through. A task that cannot be refined
        gets an empty result.

    Raises:
        InvalidRequestError: no tasks, or too many.
        MaskmendError: none of the tasks could be refined; the reason of the first.
    """
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InvalidRequestError("tasks must be a list of tasks", field="tasks")
    if len(tasks) > MOST_TASKS:
        raise InvalidRequestError(f"{len(tasks)} tasks at once; send {MOST_TASKS} or fewer", field="tasks")
    found, failures = [], []
    for task in tasks:
        try:
            result, score = _refined(task, _regions(task, context), refines, images, tolerance)
        except MaskmendError as error:
            failures.append(error)
            logger.warning("a task was not refined: %s", error)
            result, score = [], 0.0
        found.append({"result": result, "score": score, "model_version": model_version(refines)})
    if failures and len(failures) == len(tasks):
        raise failures[0]
    return found


def _regions(task: Mapping[str, Any], context: object) -> list[Region]:
    if isinstance(context, Mapping) and isinstance(context.get("result"), list):
        given: list[object] = context["result"]
    else:
        sources = [entry for entry in entries(task) if not entry.get("was_cancelled")]
        annotations = task.get("annotations")
        own = [entry for entry in sources if isinstance(annotations, list) and any(entry is a for a in annotations)]
        given = _newest(own or sources)["result"] if sources else []
    regions = [region for region in given if isinstance(region, dict)]
    if len(regions) > MOST_REGIONS:
        raise InvalidRequestError(f"{len(regions)} regions in a task; send {MOST_REGIONS} or fewer", field="result")
    return regions


def _newest(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The entry that was changed last, or else made; by id, then by place, where they do not say when."""
    return max(enumerate(entries), key=lambda numbered: (*_age(numbered[1]), numbered[0]))[1]


def _age(entry: Mapping[str, Any]) -> tuple[float, int]:
    """Grows with the newness of an entry."""
    times = (_time(entry.get(name)) for name in ("updated_at", "created_at"))
    number = entry.get("id")
    return next((time for time in times if time is not None), 0.0), number if isinstance(number, int) else -1


def _time(text: object) -> float | None:
    """Seconds since 1970; a time that names no zone counts as UTC."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
        return None if time is None else (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _refined(
    task: Mapping[str, Any], given: Sequence[Region], refines: Refines, images: TaskImages, tolerance: float
) -> tuple[list[Region], float]:
    regions = deepcopy(list(given))
    coarse: list[Rle] = []
    places: list[int] = []
    for number, region in enumerate(regions):
        if not is_refinable(region):
            continue
        try:
            coarse.append(region_mask(region, f"result[{number}].value"))
            places.append(number)
        except MaskError as error:
            logger.warning("a region stays as it is: %s", error)
    if not places:
        return regions, 0.0
    answer = refines.refine(images.load(image_reference(task)), [mask.to_coco() for mask in coarse])
    scores = []
    for number, before, instance in zip(places, coarse, answer.instances, strict=True):
        after = Rle.from_coco(instance.rle)
        try:
            if after != before:
                put_mask(regions[number], after, tolerance)
        except MaskError as error:
            logger.warning("a region stays as it is: %s", error)
            continue
        regions[number]["score"] = round(float(instance.score), 4)
        scores.append(float(instance.score))
    return regions, round(sum(scores) / len(scores), 4) if scores else 0.0

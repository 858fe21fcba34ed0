from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskmend.models.training.composer import compose
from maskmend.models.training.patches import UNSURE, PatchMix, scene_patches
from maskmend.models.training.shapes import random_shape
from maskmend.models.training.sources import Sources
from maskmend.models.training.splits import is_validation
from maskmend.patcher.errors import JobError

KINDS = {"rcnn28": 1.0, "yolo": 1.0, "perturb": 1.0}


@pytest.fixture(scope="module")
def sources(data: Path) -> Sources:
    return Sources(data, "train")


def test_a_scene_is_the_same_for_the_same_seed(sources: Sources) -> None:
    one, two = (compose(sources, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one.image, two.image)
    assert all(np.array_equal(a, b) for a, b in zip(one.masks, two.masks, strict=True))


def test_objects_of_a_scene_never_overlap(sources: Sources) -> None:
    for seed in range(12):
        scene = compose(sources, np.random.default_rng(seed), size=(200, 260))
        assert scene.image.shape == (200, 260, 3)
        assert scene.image.dtype == np.uint8
        if scene.masks:
            assert np.stack(scene.masks).sum(0).max() <= 1
            assert all(np.count_nonzero(mask) >= 80 for mask in scene.masks)


def test_masks_lie_on_edges_of_the_image(sources: Sources) -> None:
    """Where a mask ends, the picture changes more than elsewhere: mask and image are aligned."""
    on_edge, elsewhere = [], []
    for seed in range(20):
        scene = compose(sources, np.random.default_rng(seed), size=(240, 240))
        grey = scene.image.astype(np.float64).mean(-1)
        step = np.abs(np.diff(grey, axis=1))
        for mask in scene.masks:
            edge = mask[:, 1:] != mask[:, :-1]
            on_edge.append(step[edge].mean())
            elsewhere.append(step[~edge].mean())
    assert np.mean(on_edge) > 2 * np.mean(elsewhere)


def test_shapes_fill_a_fair_part_of_their_picture() -> None:
    for seed in range(40):
        shape = random_shape(200, np.random.default_rng(seed))
        assert set(np.unique(shape)) <= {0, 255}
        assert 0.001 < (shape > 0).mean() < 0.9


def test_patches_of_composed_scenes_have_sure_targets(sources: Sources) -> None:
    patches = scene_patches(sources, PatchMix(1.0, 1.0, KINDS), 3, 0)
    again = scene_patches(sources, PatchMix(1.0, 1.0, KINDS), 3, 0)
    assert np.array_equal(patches, again)
    assert patches.shape[1:] == (64, 64, 5)
    assert set(np.unique(patches[..., 3:])) <= {0, 1}


def test_loose_annotations_are_unsure_at_their_edge(sources: Sources) -> None:
    patches = scene_patches(sources, PatchMix(0.0, 0.0, KINDS), 3, 1)
    assert UNSURE in patches[..., 4]
    assert not (patches[..., 3] == UNSURE).any()


def test_no_validation_image_is_read_for_training(data: Path) -> None:
    train, val = Sources(data, "train"), Sources(data, "val")
    seen = {photograph.tobytes() for photograph in train.photographs}
    assert seen
    assert not seen & {photograph.tobytes() for photograph in val.photographs}


def test_the_split_is_fixed() -> None:
    assert [n for n in range(1, 30) if is_validation(n)] == [n for n in range(1, 30) if is_validation(str(n))]
    assert 0.15 < np.mean([is_validation(n) for n in range(4000)]) < 0.25


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="coco-cc"):
        Sources(tmp_path, "train")

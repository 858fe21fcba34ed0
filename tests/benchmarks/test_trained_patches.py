"""Rows of networks trained on parts of one crop: what they see, and the command on little data."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from benchmark_scripts import loader
from test_papers import SAMPLE, tables

from maskmend.patcher import boundary_boxes, extract_patches

torch = pytest.importorskip("torch", reason="networks need the train extra")

rows: ModuleType = loader("papers")("trained_patches")
BY_NAME: dict[str, Any] = {row.name: row for row in rows.ROWS}


def scene(seed: int = 0, size: int = 240) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photograph's noise uint8 [H, W, 3], a true mask and one that is a little off, bool [H, W]."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 256, (size, size, 3), np.uint8), (0, 0), 1.5)
    true = cv2.circle(np.zeros((size, size), np.uint8), (size // 2, size // 2), size // 4, 1, -1)
    image[true > 0] //= 3
    return image, true > 0, np.roll(true, 4, 1) > 0


def crops(count: int = 8) -> np.ndarray:
    """As `training_crops` gives them, uint8 [N, 96, 96, 5]."""
    image, true, coarse = scene()
    stack = np.concatenate([image, coarse[..., None], true[..., None]], 2).astype(np.uint8)
    found = boundary_boxes(coarse, nms=0.55)[:count]
    assert len(found) == count
    return np.stack([stack[y - 16 : y + 80, x - 16 : x + 80] for x, y, _, _ in found])


def config(steps: int = 2, batch: int = 4) -> Any:
    return rows.read_config(rows.CONFIGS / "bpr-small.yaml", {"steps": steps, "batch": batch, "warmup": 1})


@pytest.mark.parametrize("name", [name for name, row in BY_NAME.items() if row.mask])
def test_a_row_sees_in_training_what_the_engine_shows_it(name: str) -> None:
    row = BY_NAME[name]
    image, true, coarse = scene()
    centre = boundary_boxes(coarse)[:5, :2] + 32
    boxes = np.hstack([centre - row.patch // 2, centre + row.patch // 2]).astype(np.int32)
    stack = np.concatenate([image, coarse[..., None], true[..., None]], 2).astype(np.uint8)
    seen = boxes + np.array([-row.padding, -row.padding, row.padding, row.padding])
    inputs, target, mask = rows.tensors(row, np.stack([stack[y0:y1, x0:x1] for x0, y0, x1, y1 in seen]))
    wanted = extract_patches(image, coarse, boxes, size=row.input_size, padding=row.padding)
    assert np.array_equal(inputs[:, 3].numpy(), wanted[:, 3])
    assert np.allclose(inputs[:, :3].numpy(), wanted[:, :3], atol=1e-4)
    assert np.array_equal(target[:, 0].numpy(), np.stack([true[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes]))
    assert np.array_equal(mask[:, 0].numpy(), np.stack([coarse[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes]))


def test_all_rows_see_the_same_crops_turned_and_recoloured_alike() -> None:
    kept = crops()
    widest = list(rows.batches(BY_NAME["patch-96"], kept, config()))
    assert not np.array_equal(widest[0], widest[1])
    for row in rows.ROWS:
        around = (96 - row.side) // 2
        middle = slice(around, 96 - around)
        for mine, theirs in zip(rows.batches(row, kept, config()), widest, strict=True):
            assert mine.shape == (4, row.side, row.side, 5)
            assert np.array_equal(mine[..., 3:], theirs[:, middle, middle, 3:])
            # Grey is the mean of three channels, which may round otherwise in another layout.
            assert np.abs(mine[..., :3].astype(int) - theirs[:, middle, middle, :3]).max() <= 1


def test_without_the_mask_the_network_does_not_see_it_and_else_starts_alike() -> None:
    alone, base = BY_NAME["rgb-alone"], BY_NAME["base"]
    states = [rows.start(row, 1).state_dict() for row in (base, alone)]
    changed = [key for key in states[0] if not torch.equal(states[0][key], states[1][key])]
    assert len(changed) == 1
    assert torch.equal(states[0][changed[0]][:, :3], states[1][changed[0]][:, :3])
    patches = torch.randn(2, 4, 64, 64)
    other = patches.clone()
    other[:, 3] *= -1
    for row in (base, alone):
        network, _ = rows.train(row, crops(), config())
        network.eval()
        with torch.no_grad():
            assert torch.equal(network(patches), network(other)) == (row is alone)


def test_training_is_the_same_for_the_same_seed_and_learns() -> None:
    kept, row = crops(), BY_NAME["base"]
    networks = [rows.train(row, kept, config(steps=5))[0] for _ in range(2)]
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(first[key], second[key]) for key in first)
    inputs, target, coarse = rows.tensors(row, next(rows.batches(row, kept, config(batch=8))))

    @torch.no_grad()
    def error(network: Any) -> float:
        margins = rows.MarginNetwork(network, row.patch, row.padding).train()
        return float(rows.loss(margins(inputs).unsqueeze(1), target, coarse, config()))

    assert error(networks[0]) < 0.9 * error(rows.start(row, config().seed))


def test_the_command_trains_measures_and_does_not_train_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    pytest.importorskip("openvino", reason="openvino is not installed")
    np.save(tmp_path / "crops-8.npy", crops())
    options = [*SAMPLE, "--limit", "1", "--kinds", "warp", "--data", "unused", "--work", str(tmp_path)]
    options += ["--steps", "1", "--crops", "8"]
    few = [BY_NAME[name] for name in ("base", "rgb-alone", "patch-32", "padding-16-as-it-is")]
    monkeypatch.setattr(rows, "ROWS", (*few, BY_NAME["input-256"]))
    assert rows.main(options) == 0
    printed = capsys.readouterr().out
    mask, patch, size = tables(printed)
    assert [len(table) for table in (mask, patch, size)] == [3, 4, 2]
    assert [row["mask patch"] for row in mask] == ["", "yes", "no"]
    assert [(row["patch"], row["padding"], row["input"]) for row in patch[1:]] == [
        ("64", "0", "64"),
        ("32", "0", "64"),
        ("64", "16", "96"),
    ]
    assert [row["paper's AP"] for row in size] == ["", "not at hand"]
    # Smaller patches, more of them; else the same.
    count = [float(row["patches per instance"]) for row in patch[1:]]
    assert count[1] > count[0] == count[2] > 0
    for row in [*mask, *patch, *size]:
        assert all(0 <= float(row[key]) <= 1 for key in ("mean IoU", "F@1", "boundary AP"))
    folder = tmp_path / "steps-1-crops-8"
    manifest = json.loads((folder / "padding-16-as-it-is.json").read_text())
    assert (manifest["patch"], manifest["padding"], manifest["input_size"]) == (64, 16, 96)

    monkeypatch.setattr(rows, "train", lambda *_: pytest.fail("a row that is done was trained again"))
    assert rows.main([*options, "--tables", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["kinds"]["warp"]["rows"]
    assert list(found) == ["coarse", "base", "rgb-alone"]
    assert f"{found['base']['mean_iou']:.4f}" == mask[1]["mean IoU"]


@pytest.mark.parametrize("options", [["--steps", "0"], ["--tables", "4"], ["--data", "nowhere"]])
def test_unusable_options(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        rows.main([*SAMPLE, "--data", "nowhere", "--work", str(tmp_path), *options])
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err

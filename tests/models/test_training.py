from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from maskmend.models.training.config import TrainingConfig, read_config  # noqa: E402
from maskmend.models.training.loop import PatchPool, Trainer, augment, learning_rate  # noqa: E402
from maskmend.models.training.tasks import boundary_band, loss, to_tensors  # noqa: E402
from maskmend.models.training.train import CONFIGS, main, read_curves  # noqa: E402
from maskmend.patcher.errors import OptionError, WeightsError  # noqa: E402

TINY = {
    "name": "tiny",
    "architecture": "boundary_unet",
    "arguments": {"detail": 4, "widths": [8, 12], "blocks": [1, 1]},
    "steps": 4,
    "batch": 4,
    "pool": 64,
    "kinds": {"rcnn28": 1.0, "polygon": 1.0},
    "validate_every": 4,
    "validation_scenes": 2,
    "checkpoint_every": 2,
    "threads": 1,
}


def random_patches(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (count, 64, 64, 5), np.uint8)
    patches[..., 3:] = 0
    patches[:, 20:44, 16:40, 3] = 1
    patches[:, 18:46, 16:44, 4] = 1
    return patches


def test_shipped_configurations_are_valid() -> None:
    files = sorted(CONFIGS.glob("*.yaml"))
    assert files
    assert [read_config(file).name for file in files] == [file.stem for file in files]


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: x\narchitecture: boundary_unet\nsteps: 1\nkinds: {warp: 1}\nlearning: 2\n")
    with pytest.raises(OptionError, match="learning"):
        read_config(file)


def test_augmentation_turns_mask_and_image_together() -> None:
    patches = random_patches(16)
    patches[..., 0] = patches[..., 4] * 200
    patches[..., 1] = patches[..., 2] = patches[..., 0]
    out = augment(patches, np.random.default_rng(1))
    for patch in out:
        inside, outside = patch[..., 0][patch[..., 4] == 1], patch[..., 0][patch[..., 4] == 0]
        assert inside.min() > outside.max()
        assert (patch[..., 3] == 1).sum() == 24 * 24


def test_band_is_within_its_radius_of_the_edge() -> None:
    target = torch.zeros((1, 1, 64, 64), dtype=torch.uint8)
    target[..., 32:] = 1
    band = boundary_band(target, 3)[0, 0, 0]
    assert band.nonzero().ravel().tolist() == list(range(29, 35))


def test_loss_ignores_unsure_pixels_and_falls_with_the_error() -> None:
    config = TrainingConfig(**TINY)
    target = torch.zeros((1, 1, 64, 64), dtype=torch.uint8)
    target[..., 32:] = 1
    right = torch.where(target == 1, 8.0, -8.0)
    unsure = target.clone()
    unsure[..., 30:34] = 2
    wrong_there = right.clone()
    wrong_there[..., 30:34] *= -1
    assert loss(wrong_there, unsure, target, config) < 0.01
    assert loss(right, target, target, config) < 0.01 < loss(wrong_there, target, target, config)


def test_learning_rate_warms_up_and_ends_low() -> None:
    config = TrainingConfig(**{**TINY, "steps": 1000, "warmup": 100})
    rates = [learning_rate(step, config) for step in range(1001)]
    assert max(rates) == pytest.approx(config.learning_rate)
    assert rates[-1] == pytest.approx(config.final_learning_rate)
    assert rates[0] < rates[50] < rates[99]


def test_the_learning_rate_stays_up_until_the_decay() -> None:
    config = TrainingConfig(**{**TINY, "steps": 1000, "warmup": 100, "decay": 0.25})
    rates = [learning_rate(step, config) for step in range(1001)]
    assert set(rates[100:751]) == {config.learning_rate}
    assert rates[751:] == sorted(rates[751:], reverse=True)


def test_context_is_seen_but_not_judged() -> None:
    patches = np.zeros((2, 96, 96, 5), np.uint8)
    patches[:, 16:80, 16:80, 3:] = 1
    patches[:, :16, :, :3] = 200
    inputs, target, coarse = to_tensors(patches, 96)
    assert inputs.shape == (2, 4, 96, 96)
    assert target.shape == coarse.shape == (2, 1, 64, 64)
    assert target.min() == coarse.min() == 1
    assert inputs[0, 0, 0, 0] > inputs[0, 0, 50, 50]


def test_the_pool_replaces_what_it_gives_away() -> None:
    drawn = 0

    def scenes():
        nonlocal drawn
        while True:
            drawn += 1
            yield random_patches(8, drawn)

    pool = PatchPool(scenes(), 64, 64, 2.0, np.random.default_rng(0))
    for _ in range(40):
        pool.draw(16)
    assert drawn == pytest.approx(64 / 8 + 40 * 16 / 2 / 8, abs=2)


def test_it_overfits_one_batch() -> None:
    from maskmend.models.architectures import build_network
    from maskmend.models.export import margin

    torch.manual_seed(0)
    config = TrainingConfig(**TINY)
    network = build_network("boundary_unet", detail=4, widths=[8, 12], blocks=[1, 1])
    patches = random_patches(4)
    inputs, target, coarse = to_tensors(patches, 64)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    values = []
    for _ in range(60):
        value = loss(margin(network(inputs), 64).unsqueeze(1), target, coarse, config)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(float(value))
    assert values[-1] < 0.2 * values[0]


def test_a_run_writes_weights_and_repeats_itself(data: Path, tmp_path: Path) -> None:
    import yaml

    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    folders = [main(file, data=data, output=tmp_path / run) for run in ("a", "b")]
    assert {f.name for f in folders[0].iterdir()} >= {"tiny.onnx", "tiny.safetensors", "tiny.json", "tiny.md"}
    first, second = ((folder / "tiny.safetensors").read_bytes() for folder in folders)
    assert first == second
    rows = read_curves(tmp_path / "a")
    assert [row["step"] for row in rows] == [4]
    assert rows[0]["exact_coarse"] == 1.0
    assert (tmp_path / "a" / "curves.png").stat().st_size > 1000


def test_a_run_with_context_writes_weights_of_that_size(data: Path, tmp_path: Path) -> None:
    import json

    import yaml

    file = tmp_path / "tiny.yaml"
    arguments = {"detail": 4, "widths": [8, 8, 12], "blocks": [1, 1, 1], "context": 8, "padding": 16}
    file.write_text(yaml.safe_dump({**TINY, "arguments": arguments, "input_size": 96, "padding": 16, "pool": 64}))
    folder = main(file, data=data, output=tmp_path / "run")
    manifest = json.loads((folder / "tiny.json").read_text())
    assert (manifest["input_size"], manifest["padding"]) == (96, 16)


def test_a_run_resumes_where_it_stopped(data: Path, tmp_path: Path) -> None:
    config = TrainingConfig(**TINY)
    Trainer(config, data, tmp_path / "run").run()
    longer = TrainingConfig(**{**TINY, "steps": 6})
    trainer = Trainer(longer, data, tmp_path / "run", resume=True)
    assert trainer.step == 4
    trainer.run()
    assert trainer.step == 6


def test_resuming_nothing_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="resume"):
        Trainer(TrainingConfig(**TINY), data, tmp_path / "none", resume=True)

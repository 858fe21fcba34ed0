"""The training loop: pool, augmentation, loss, optimiser, averaged weights, checkpoints, curves."""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from maskmend.models.architectures import build_network
from maskmend.models.training.config import TrainingConfig
from maskmend.models.training.grow import grow, take_trunk
from maskmend.models.training.patches import Crop, Patches, PatchMix, scene_patches, stream
from maskmend.models.training.sources import Sources
from maskmend.models.training.tasks import task_of
from maskmend.patcher.errors import WeightsError

VALIDATION_SEED = 20_210_415
VALIDATION_KINDS = ("rcnn28", "yolo", "polygon", "warp", "perturb", "exact")


class _SceneStream(IterableDataset[Patches]):
    """Each worker takes every n-th scene of the stream."""

    def __init__(self, sources: Sources, mix: PatchMix, seed: int, first: int) -> None:
        self.sources, self.mix, self.seed, self.first = sources, mix, seed, first

    def __iter__(self) -> Iterator[Patches]:
        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        worker = get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        return stream(self.sources, self.mix, self.seed, self.first + number, count)


class PatchPool:
    """A bounded pool of patches that new scenes flow through, so that a batch mixes many scenes.

    Args:
        scenes: endless stream of `Patches`.
        size: patches held.
        side: of a patch in px, with its context.
        reuse: mean number of times a patch is drawn before it is replaced.
        rng: source of randomness of the draws.
    """

    def __init__(self, scenes: Iterator[Patches], size: int, side: int, reuse: float, rng: np.random.Generator) -> None:
        self._scenes, self._size, self._reuse, self._rng = scenes, size, reuse, rng
        self._patches = np.empty((size, side, side, 5), np.uint8)
        self._filled = 0
        self._next = 0
        self._owed = 0.0
        self.scenes_used = 0

    def draw(self, count: int) -> Patches:
        """Draw uint8 [count, S, S, 5], after replacing `count / reuse` of the oldest patches."""
        self._owed += count / self._reuse
        while self._owed > 0 or self._filled < self._size:
            new = next(self._scenes)
            self.scenes_used += 1
            for patch in new:
                self._patches[self._next] = patch
                self._next = (self._next + 1) % self._size
            self._filled = min(self._size, self._filled + len(new))
            if self._filled >= self._size:
                self._owed -= len(new)
        return self._patches[self._rng.integers(self._size, size=count)]


def augment(patches: Patches, rng: np.random.Generator) -> Patches:
    """Turn and flip each patch by one of the eight symmetries of the square, and recolour its image."""
    out = np.empty_like(patches)
    for n, patch in enumerate(patches):
        turned = np.rot90(patch, int(rng.integers(4)))
        out[n] = turned[:, ::-1] if rng.random() < 0.5 else turned
    image = out[..., :3].astype(np.float32)
    n = len(image)
    shape = (n, 1, 1, 1)
    contrast, brightness = rng.uniform(0.6, 1.4, shape), rng.uniform(-30, 30, shape)
    image = (image - 128) * contrast.astype(np.float32) + 128 + brightness.astype(np.float32)
    image *= rng.normal(1, 0.06, (n, 1, 1, 3)).astype(np.float32)
    grey = rng.random(n) < 0.06
    image[grey] = image[grey].mean(-1, keepdims=True)
    swapped = rng.random(n) < 0.1
    image[swapped] = image[swapped][..., ::-1]
    out[..., :3] = np.clip(image, 0, 255)
    return out


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, a level stretch, and over the last `decay` of the steps a cosine down to the final rate."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    start = max(config.warmup, config.steps * (1 - config.decay))
    done = min(1.0, max(0.0, (step - start) / max(1, config.steps - start)))
    low = config.final_learning_rate
    return low + (config.learning_rate - low) * 0.5 * (1 + math.cos(math.pi * done))


def validation_patches(sources: Sources, scenes: int, padding: int = 0, crop: Crop = "patch") -> dict[str, Patches]:
    """A fixed set of composed validation patches for each coarse kind, the same in every run."""
    found = {}
    for number, kind in enumerate(VALIDATION_KINDS):
        mix = PatchMix(composed=1.0, exact=1.0, kinds={kind: 1.0}, padding=padding, crop=crop)
        sets = [scene_patches(sources, mix, VALIDATION_SEED + number, i)[::3] for i in range(scenes)]
        found[kind] = np.concatenate(sets)
    return found


class Trainer:
    """One run in one folder: `checkpoint.pt`, `curves.csv` and, at the end, the averaged network.

    Args:
        config: what to train.
        data: folder with `coco-cc` and `nuclei`.
        folder: where the run lives.
        resume: go on from `checkpoint.pt`; the pool is filled anew, so a resumed run is not bit-identical to an
            uninterrupted one.
    """

    def __init__(self, config: TrainingConfig, data: Path, folder: Path, *, resume: bool = False) -> None:
        self.config, self.folder = config, folder
        folder.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.network = build_network(config.architecture, **config.arguments)
        if config.grow is not None:
            grow(self.network, config.grow)
        if config.trunk is not None:
            take_trunk(self.network, config.trunk)
        self.network = self.network.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval()
        self.task = task_of(config)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self.step = 0
        self.rng = np.random.default_rng(config.seed)
        first_scene = 0
        if resume:
            first_scene = self._restore()
        sources = Sources(data, "train")
        mix = PatchMix(config.composed, config.exact, config.kinds, padding=config.padding, crop=config.crop)
        loader = DataLoader(
            _SceneStream(sources, mix, config.seed, first_scene), batch_size=None, num_workers=1, prefetch_factor=8
        )
        self.pool = PatchPool(iter(loader), config.pool, mix.side, config.reuse, self.rng)
        self.pool.scenes_used = first_scene
        self.validation = validation_patches(
            Sources(data, "val"), config.validation_scenes, config.padding, config.crop
        )

    def run(self) -> nn.Module:
        """Train to the configured number of steps; return the averaged network."""
        config = self.config
        began, busy, seen, mean = time.monotonic(), time.process_time(), 0, 0.0
        while self.step < config.steps:
            value = self._train_step()
            mean = value if seen == 0 else 0.98 * mean + 0.02 * value
            seen += 1
            self.step += 1
            if self.step % 50 == 0:
                speed = seen * config.batch / (time.monotonic() - began)
                print(f"step {self.step}/{config.steps} loss {mean:.4f} {speed:.0f} patches/s", flush=True)
            if self.step % config.validate_every == 0 or self.step == config.steps:
                self._validate(mean, time.monotonic() - began, time.process_time() - busy)
            if self.step % config.checkpoint_every == 0 or self.step == config.steps:
                self._save()
        return self.average

    def _train_step(self) -> float:
        config = self.config
        patches = augment(self.pool.draw(config.batch), self.rng)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, config)
        self._prepare()
        value = self.task.loss(self.network, patches)
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self._track()
        return float(value.detach())

    def _prepare(self) -> None:
        self.network.train()
        if self.config.frozen:
            trunk = self.network.get_submodule("trunk")
            learns = self.step >= self.config.frozen
            # Frozen, its statistics stay as they are too, and nothing is computed backwards through it.
            trunk.requires_grad_(learns).train(learns)

    @torch.no_grad()
    def _track(self) -> None:
        # A young average follows quickly, or it would carry the random start for thousands of steps.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for mine, theirs in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)

    def _validate(self, mean: float, seconds: float, cpu_seconds: float) -> None:
        row: dict[str, Any] = {"step": self.step, "seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1)}
        row["loss"] = round(mean, 5)
        for kind, patches in self.validation.items():
            before, after = self.task.accuracy(self.average, patches)
            row[f"{kind}_coarse"], row[f"{kind}_refined"] = round(before, 5), round(after, 5)
        file = self.folder / "curves.csv"
        fresh = not file.exists()
        with file.open("a", newline="") as out:
            writer = csv.DictWriter(out, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)

    def _save(self) -> None:
        file = self.folder / "checkpoint.pt"
        temporary = file.with_suffix(".tmp")
        torch.save(
            {
                "step": self.step,
                "scenes": self.pool.scenes_used,
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "config": self.config.model_dump(),
            },
            temporary,
        )
        temporary.replace(file)

    def _restore(self) -> int:
        file = self.folder / "checkpoint.pt"
        if not file.is_file():
            raise WeightsError(f"{file} does not exist; start without --resume", field="resume")
        state = torch.load(file, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])
        self.rng = np.random.default_rng((self.config.seed, self.step))
        return int(state["scenes"])

"""The command in this process, a photograph with a mask, weights of a small transfiner."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from explain_words import Explain
from small_job import SmallJob

from maskmend.clients.cli import main
from maskmend.patcher import Rle
from maskmend.patcher.mask_images import write_mask


@pytest.fixture
def explain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Explain:
    """The real command line in this process: its exit code, and what it said."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path | int) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["maskmend", "explain", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert said.out == ""
        return int(ended.value.code or 0), " ".join(said.err.split())

    return call


@pytest.fixture
def one(job: SmallJob) -> tuple[Path, Path]:
    """A photograph, and the coarse mask of its first object as a picture."""
    mask = job.coarse.parent / "mask.png"
    mask.write_bytes(write_mask(Rle.from_coco(job.records[0]["segmentation"])))
    return job.images / "photo_1.png", mask


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="transfiner is shown by PyTorch")
    from little_transfiner import little_weights

    return little_weights(tmp_path_factory.mktemp("weights")).folder

"""An engine whose passes run on the device of the runtime gives the masks that it gives without."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the GPU path needs PyTorch")
pytest.importorskip("safetensors", reason="the GPU path reads safetensors")

from test_engine import real_case  # noqa: E402

from maskmend.models.refiner import BoundaryRefiner, InstanceRefiner, NetworkRefiner  # noqa: E402
from maskmend.models.runtimes.torch_cuda import TorchCudaRuntime  # noqa: E402
from maskmend.models.zoo import resolve_weights  # noqa: E402
from maskmend.patcher import Rle  # noqa: E402
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError  # noqa: E402
from maskmend.service import Engine, EngineOptions  # noqa: E402

KINDS: dict[str, type[NetworkRefiner]] = {"bpr-small": BoundaryRefiner, "transfiner-small": InstanceRefiner}


def two_ways(name: str, device: str = "cpu", precision: str = "fp32") -> tuple[NetworkRefiner, NetworkRefiner]:
    """The same network with passes on the device, and with those of the engine."""
    weights = resolve_weights(name)
    runtime = TorchCudaRuntime(weights, precision=precision, device=device, batches=(4,))
    there, here = KINDS[name](weights, runtime), KINDS[name](weights, runtime)
    here.looks = None
    assert there.looks is not None
    return there, here


@pytest.mark.parametrize(
    "options", [EngineOptions(), EngineOptions(guard=False, nms=0.4, passes=2), EngineOptions(patches="adaptive")]
)
def test_patches_along_the_boundary(options: EngineOptions) -> None:
    image, masks = real_case(5)
    masks.append(Rle.from_dense(np.zeros(image.shape[:2], bool)))
    there, here = two_ways("bpr-small")
    got, wanted = (Engine(refiner, options).refine_image(image, masks) for refiner in (there, here))
    assert [result.mask for result in got] == [result.mask for result in wanted]
    assert [result.abstained for result in got] == [result.abstained for result in wanted]
    assert [result.patches for result in got] == [result.patches for result in wanted]
    assert np.allclose([r.score for r in got], [r.score for r in wanted], atol=1e-5)
    assert any(result.changed_pixels for result in got)


def test_whole_instances_of_any_size() -> None:
    image, masks = real_case(3)
    there, here = two_ways("transfiner-small")
    options = EngineOptions(passes=1, guard=False)
    got, wanted = (Engine(refiner, options).refine_image(image, masks) for refiner in (there, here))
    # Resized probabilities differ by up to 4e-6; a pixel that lies within that of one half may change sides.
    for a, b in zip(got, wanted, strict=True):
        assert np.count_nonzero(a.mask.to_dense() != b.mask.to_dense()) <= 2
    assert any(result.changed_pixels for result in got)


def test_an_image_that_may_not_be_written_and_one_that_changed_in_between() -> None:
    image, masks = real_case(2)
    there, here = two_ways("bpr-small")
    engine, plain = Engine(there), Engine(here)
    image.flags.writeable = False
    assert [r.mask for r in engine.refine_image(image, masks)] == [r.mask for r in plain.refine_image(image, masks)]
    other = image[::-1].copy()
    assert [r.mask for r in engine.refine_image(other, masks)] == [r.mask for r in plain.refine_image(other, masks)]


def test_a_network_that_gives_nothing_finite_is_told_on(monkeypatch: pytest.MonkeyPatch) -> None:
    image, masks = real_case(1)
    there, _ = two_ways("bpr-small")
    engine = Engine(there)
    assert there.looks is not None
    monkeypatch.setattr(
        there.looks._network, "logits", lambda patches: torch.full((len(patches), 64, 64), float("nan"))
    )
    with pytest.raises(OptionError, match="check the weights"):
        engine.refine_image(image, masks)


def test_an_image_that_the_device_has_no_room_for_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    image, masks = real_case(1)
    there, _ = two_ways("bpr-small")
    engine = Engine(there)
    assert there.looks is not None

    def full(*given: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    for place, name in ((there.looks._network, "logits"), (there.looks, "_up")):
        monkeypatch.setattr(place, name, full)
        with pytest.raises(RuntimeUnavailableError, match=f"too little memory for an image of {image.shape[1]}x"):
            engine.refine_image(image, masks)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")
@pytest.mark.parametrize("name", list(KINDS))
def test_on_a_gpu(name: str) -> None:
    image, masks = real_case(5)
    there, here = two_ways(name, "cuda")
    got, wanted = (Engine(refiner).refine_image(image, masks) for refiner in (there, here))
    for a, b in zip(got, wanted, strict=True):
        assert np.count_nonzero(a.mask.to_dense() != b.mask.to_dense()) <= 2

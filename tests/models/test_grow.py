from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from safetensors.torch import load_file  # noqa: E402

from maskmend.models import resolve_weights  # noqa: E402
from maskmend.models.architectures import build_network  # noqa: E402
from maskmend.models.training.grow import grow  # noqa: E402
from maskmend.patcher.errors import OptionError  # noqa: E402

WIDE = {"detail": 10, "widths": [32, 56, 112], "blocks": [1, 1, 2], "context": 64, "padding": 32}


def test_a_grown_network_computes_what_the_narrow_one_does_and_can_learn_everywhere() -> None:
    torch.manual_seed(5)
    weights = resolve_weights("bpr-small")
    narrow = build_network("boundary_unet", **weights.manifest.arguments).eval()
    narrow.load_state_dict(load_file(weights.safetensors_path))
    wide = build_network("boundary_unet", **WIDE).eval()
    patches = torch.randn(3, 4, 128, 128)
    with torch.no_grad():
        assert (wide(patches) - narrow(patches)).abs().max() > 0.1
        grow(wide, "bpr-small")
        assert (wide(patches) - narrow(patches)).abs().max() < 1e-5

    optimiser = torch.optim.SGD(wide.parameters(), 1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        wide(patches).square().mean().backward()
        optimiser.step()
    still = [name for name, parameter in wide.named_parameters() if not parameter.grad.abs().amax() > 0]
    assert still == []


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({**WIDE, "widths": [16, 56, 112]}, "larger than"),
        ({**WIDE, "context": 0, "padding": 0}, "other layers"),
    ],
)
def test_a_network_that_the_narrow_one_does_not_fit_into_is_refused(arguments: dict[str, object], fault: str) -> None:
    with pytest.raises(OptionError, match=fault) as caught:
        grow(build_network("boundary_unet", **arguments), "bpr-small")
    assert caught.value.field == "grow"

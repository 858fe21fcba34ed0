from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need the train extra")

from maskmend.models.architectures import build_network  # noqa: E402
from maskmend.models.export import MarginNetwork, count_macs  # noqa: E402


def test_half_resolution_logits_become_a_patch() -> None:
    network = build_network("light_unet").eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 4, 64, 64)).shape == (2, 1, 32, 32)
        assert MarginNetwork(network)(torch.zeros(2, 4, 64, 64)).shape == (2, 64, 64)


@pytest.mark.parametrize(("name", "size"), [("light_unet", 64), ("hrnet_w12_slim", 128)])
def test_light_networks_cost_less_than_the_official_small_one(name: str, size: int) -> None:
    official = count_macs(build_network("hrnet_w18_small"), 128)
    assert count_macs(build_network(name), size) < official / 2

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need the train extra")

from maskmend.models.export import count_macs  # noqa: E402
from maskmend.models.hrnet import hrnet_w18_small, hrnet_w48, resize  # noqa: E402

PUBLISHED = [(hrnet_w18_small, 128, 3_935_278, 73_982, 873, 0.598), (hrnet_w48, 256, 65_846_978, 521_282, 1839, 23.32)]


@pytest.mark.parametrize(("build", "size", "parameters", "head", "entries", "gmac"), PUBLISHED)
def test_sizes_are_the_official_ones(build, size, parameters, head, entries, gmac) -> None:
    with torch.device("meta"):
        network = build()
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(p.numel() for p in network.decode_head.parameters()) == head
    assert len(network.state_dict()) == entries
    assert count_macs(network, size) / 1e9 == pytest.approx(gmac, abs=0.005)


def test_entries_have_the_official_names() -> None:
    with torch.device("meta"):
        names = set(hrnet_w18_small().state_dict())
    for name in (
        "backbone.conv_mask.weight",
        "backbone.layer1.0.downsample.1.running_var",
        "backbone.transition1.0.0.weight",
        "backbone.transition1.1.0.0.weight",
        "backbone.transition3.3.0.1.bias",
        "backbone.stage4.1.branches.3.1.bn2.weight",
        "backbone.stage3.2.fuse_layers.0.2.0.weight",
        "backbone.stage4.0.fuse_layers.3.0.2.0.weight",
        "decode_head.convs.0.conv.weight",
        "decode_head.convs.0.bn.running_mean",
        "decode_head.conv_seg.bias",
    ):
        assert name in names


def test_two_inputs_are_one_four_channel_convolution() -> None:
    torch.manual_seed(0)
    backbone = hrnet_w18_small().backbone
    patches = torch.randn(1, 4, 32, 32)
    apart = backbone.conv1(patches[:, :3]) + backbone.conv_mask(patches[:, 3:])
    weight = torch.cat([backbone.conv1.weight, backbone.conv_mask.weight], 1)
    together = torch.nn.functional.conv2d(patches, weight, stride=2, padding=1)
    assert torch.allclose(apart, together, atol=1e-5)


def test_output_is_a_quarter_of_the_input() -> None:
    with torch.no_grad():
        assert hrnet_w18_small().eval()(torch.zeros(2, 4, 128, 128)).shape == (2, 2, 32, 32)


@pytest.mark.parametrize(
    ("size", "wanted"), [((4, 6), (8, 12)), ((4, 4), (16, 16)), ((7, 7), (13, 13)), ((4, 6), (8, 18))]
)
def test_resizing_does_not_depend_on_how_it_is_asked_for(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    feature = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(0))
    plain = torch.nn.functional.interpolate(feature, size=wanted, mode="bilinear", align_corners=False)
    assert torch.equal(resize(feature, *wanted), plain)


def test_sides_that_are_no_multiple_of_32_work() -> None:
    with torch.no_grad():
        assert hrnet_w18_small().eval()(torch.zeros(1, 4, 100, 100)).shape == (1, 2, 25, 25)

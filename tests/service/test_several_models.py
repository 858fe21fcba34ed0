"""One server with all refiners: asked by name, by refiner, or not at all; the same masks as in this process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service needs the serve extra")

from running import Running, running, scene

from maskmend.clients import Client, Refiner
from maskmend.models.registry import REFINERS
from maskmend.patcher.errors import OptionError

WEIGHTS = [kind.weights for kind in REFINERS.values()]
INSTANCE = [name for name, kind in REFINERS.items() if kind.crop == "instance"]
# Larger than a box, so that tiles tell.
IMAGE, MASKS = scene((420, 560), 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    flags = [part for name in WEIGHTS for part in ("--weights", name)]
    with running(tmp_path_factory.mktemp("server") / "log", *flags) as found:
        yield found


def at(server: Running, scheme: str, **options: object) -> Client:
    port = server.port if scheme == "http" else server.grpc_port
    return Client(f"{scheme}://127.0.0.1:{port}", **options)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "bpr-small"),
        ({"weights": "transfiner-small"}, "transfiner-small"),
        *(({"refiner": name}, kind.weights) for name, kind in REFINERS.items()),
    ],
)
def test_a_model_is_found_by_its_name_or_by_its_refiner(
    server: Running, scheme: str, options: dict[str, str], wanted: str
) -> None:
    with at(server, scheme, **options) as client:
        assert client.refine(IMAGE, MASKS).provenance["weights"] == wanted


@pytest.mark.parametrize(("refiner", "tiles"), [*((name, True) for name in INSTANCE), ("transfiner", False)])
def test_a_server_gives_the_masks_of_this_process(server: Running, refiner: str, tiles: bool) -> None:
    here = Refiner(refiner, tiles=tiles, guard=False, threads=1).refine(IMAGE, MASKS)
    assert here.instances[0].changed_pixels
    for scheme in ("http", "grpc"):
        with at(server, scheme, refiner=refiner, tiles=tiles, guard=False) as client:
            there = client.refine(IMAGE, MASKS)
        assert np.array_equal(here.masks, there.masks)
        assert there.provenance["tiles"] == int(tiles)
    other = Refiner(refiner, tiles=not tiles, guard=False, threads=1).refine(IMAGE, MASKS)
    assert not np.array_equal(other.masks, here.masks)


def test_patches_chosen_adaptively_are_those_of_this_process_and_refused_where_they_mean_nothing(
    server: Running,
) -> None:
    here = Refiner(patches="adaptive", threads=1).refine(IMAGE, MASKS)
    for scheme in ("http", "grpc"):
        with at(server, scheme, patches="adaptive") as client:
            there = client.refine(IMAGE, MASKS)
        assert np.array_equal(here.masks, there.masks)
        assert there.provenance["patches"] == here.provenance["patches"] == "adaptive"
        with at(server, scheme, patches="adaptive", refiner="transfiner") as client:
            with pytest.raises(OptionError, match="transfiner looks at whole instances") as caught:
                client.refine(IMAGE, MASKS)
            assert caught.value.field == "patches"
        with at(server, scheme, patches="adaptive", nms=0.5) as client, pytest.raises(OptionError, match="nms"):
            client.refine(IMAGE, MASKS)


def test_a_refiner_that_is_not_served_is_named(server: Running) -> None:
    assert server.refine(refiner="crystal-ball").json()["field"] == "refiner"

"""`Client` and `AsyncClient` against real servers, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="a real server needs the serve extra")

from running import Running, png, running, scene

from maskmend.clients import AsyncClient, Client, ConnectionFailedError, Refiner, RefineResult, Retries
from maskmend.patcher import Rle
from maskmend.patcher.errors import ImageError, MaskError, MaskmendError, OptionError, UnsupportedImageError
from maskmend.service.errors import DeadlineError, NotFoundError, UnauthorizedError

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
PHOTOGRAPH = SAMPLES / "images" / "000000208901.jpg"
COARSE = [r["segmentation"] for r in json.loads((SAMPLES / "coarse.json").read_text()) if r["image_id"] == 208901]
KEY = "0123456789abcdef-one"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("server") / "log") as found:
        yield found


@pytest.fixture(scope="module", params=["http", "grpc"])
def url(request: pytest.FixtureRequest, server: Running) -> str:
    return server.url if request.param == "http" else f"grpc://127.0.0.1:{server.grpc_port}"


@pytest.fixture(scope="module")
def here() -> RefineResult:
    return Refiner(threads=1).refine(PHOTOGRAPH, COARSE)


def same(found: Any, wanted: RefineResult) -> bool:
    assert isinstance(found, RefineResult)
    assert (found.height, found.width) == (wanted.height, wanted.width)
    assert found.provenance == wanted.provenance
    for one, other in zip(found.instances, wanted.instances, strict=True):
        assert one.rle == other.rle
        assert (one.box, one.area, one.abstained, one.undone) == (other.box, other.area, other.abstained, other.undone)
        assert one.changed_pixels == other.changed_pixels
        numbers = [(i.confidence, i.score, i.max_displacement_px) for i in (one, other)]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-3)
    return True


def test_the_same_as_in_process(url: str, here: RefineResult) -> None:
    with Client(url) as client:
        found = client.refine(PHOTOGRAPH, COARSE)
        assert same(found, here)
        assert found.request_id
        assert found.timings["network"] > 0


def test_the_async_twin_too(url: str, here: RefineResult) -> None:
    async def main() -> None:
        async with AsyncClient(url) as client:
            assert same(await client.refine(PHOTOGRAPH, COARSE), here)
            found = [item async for item in client.stream(PHOTOGRAPH, COARSE)]
            assert [index for index, _ in found] == [0]
            assert found[0][1].rle == here.rles[0]

    asyncio.run(main())


def image_forms() -> dict[str, Any]:
    pil = pytest.importorskip("PIL.Image", reason="PIL images need Pillow")
    image, _ = scene()
    return {"array": image, "file": png(image), "PIL": pil.fromarray(image)}


@pytest.mark.parametrize("form", ["array", "file", "PIL"])
def test_images_of_every_kind(url: str, form: str) -> None:
    image, masks = scene()
    with Client(url) as client:
        found = client.refine(image_forms()[form], masks)
    assert found.rles == Refiner(threads=1).refine(image, masks).rles


def test_masks_of_every_kind(url: str) -> None:
    image, masks = scene(count=1)
    dense = masks[0].to_dense()
    polygons = [[20.0, 20.0, 90.0, 25.0, 80.0, 120.0, 15.5, 100.25]]
    with Client(url) as client:
        wanted = client.refine(image, masks).rles
        for form in (dense, dense[None], [dense], masks[0].to_coco(), [{"segmentation": masks[0].to_coco(), "id": 7}]):
            assert client.refine(image, form).rles == wanted
        assert client.refine(image, [polygons]).rles == Refiner(threads=1).refine(image, [polygons]).rles


def test_instances_come_as_they_are_ready(url: str) -> None:
    image, masks = scene((200, 400), count=4)
    with Client(url) as client:
        whole = client.refine(image, masks)
        found = dict(client.stream(image, masks))
        assert sorted(found) == [0, 1, 2, 3]
        assert [found[n].rle for n in range(4)] == whole.rles
        # A stream may be left early.
        first = next(iter(client.stream(image, masks)))
        assert first[1].rle == whole.rles[first[0]]
        assert client.refine(image, masks).rles == whole.rles


def many() -> list[tuple[np.ndarray, list[Rle]]]:
    return [scene((120 + 8 * n, 160), count=1 + n % 3) for n in range(9)]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_many_images_in_order(url: str, concurrency: int) -> None:
    with Client(url, concurrency=concurrency) as client:
        found = list(client.refine_many(many()))
        assert [result.height for result in found] == [120 + 8 * n for n in range(9)]
        assert [len(result) for result in found] == [1 + n % 3 for n in range(9)]

        async def main() -> list[Any]:
            async with AsyncClient(url, concurrency=concurrency) as other:
                return [result async for result in other.refine_many(many())]

        assert [result.rles for result in asyncio.run(main())] == [result.rles for result in found]


def test_no_more_than_asked_for_are_under_way() -> None:
    """Images are taken from the iterable as they are needed, not all at once."""
    taken = []

    def items() -> Iterator[tuple[np.ndarray, list[Rle]]]:
        for number, item in enumerate(many()):
            taken.append(number)
            yield item

    results = Refiner(threads=1).refine_many(items())
    next(results)
    assert taken == [0]


def test_one_bad_image_of_many(url: str) -> None:
    items: list[tuple[Any, Any]] = [*many()[:3]]
    items[1] = (b"no image", items[1][1])
    with Client(url) as client:
        found = list(client.refine_many(items, return_exceptions=True))
        assert [isinstance(result, MaskmendError) for result in found] == [False, True, False]
        assert isinstance(found[1], UnsupportedImageError)
        with pytest.raises(UnsupportedImageError):
            list(client.refine_many(items))
    local = list(Refiner(threads=1).refine_many(items, return_exceptions=True))
    assert [getattr(result, "code", None) for result in local] == [None, "unsupported_image", None]


def wrong() -> dict[str, tuple[Any, Any, type[MaskmendError]]]:
    image, masks = scene()
    return {
        "another size": (image[:-8], masks, MaskError),
        "a broken RLE": (image, [{"size": [160, 200], "counts": "~~~"}], MaskError),
        "a cut off PNG": (png(image)[:300], masks, ImageError),
        "no image": (b"<svg/>", masks, UnsupportedImageError),
        "no file": (SAMPLES / "none.jpg", masks, ImageError),
        "text for masks": (image, "masks", MaskError),
        "a string in a polygon": (image, [[["a", "b"]]], MaskError),
        "an odd polygon": (image, [[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]], MaskError),
    }


@pytest.mark.parametrize("case", list(wrong()))
def test_errors_are_those_of_the_server(url: str, case: str) -> None:
    image, masks, kind = wrong()[case]
    with Client(url) as client, pytest.raises(kind) as caught:
        client.refine(image, masks)
    assert str(caught.value)


def test_no_masks_are_no_error(url: str) -> None:
    image, _ = scene()
    with Client(url) as client, Refiner(threads=1) as here:
        for found in (client.refine(image, []), client.refine(png(image), []), here.refine(image, [])):
            assert (len(found), found.height, found.width) == (0, *image.shape[:2])
        assert list(client.stream(image, [])) == []

        async def main() -> int:
            async with AsyncClient(url) as other:
                assert [item async for item in other.stream(image, [])] == []
                return len(await other.refine(image, []))

        assert asyncio.run(main()) == 0


def test_a_closed_client_says_so(url: str) -> None:
    client = Client(url)
    client.close()
    with pytest.raises(OptionError, match="closed"):
        client.refine(*scene())


def test_the_three_share_a_signature() -> None:
    for name in ("refine", "stream", "refine_many"):
        parameters = [
            list(inspect.signature(getattr(kind, name)).parameters) for kind in (Refiner, Client, AsyncClient)
        ]
        assert parameters[0] == parameters[1] == parameters[2]
    shared = set(inspect.signature(Client).parameters) & set(inspect.signature(Refiner).parameters)
    assert {
        "weights",
        "nms",
        "passes",
        "guard",
        "caution",
        "reach",
        "topology",
        "arbitrate",
        "patches",
        "exif_policy",
    } <= shared
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


def test_large_arrays_go_over_grpc_as_png(server: Running) -> None:
    image = scene((4200, 5400), count=1)[0]
    assert image.nbytes > 64_000_000
    small = np.ascontiguousarray(image[:64, :64])
    with Client(f"grpc://127.0.0.1:{server.grpc_port}") as client:
        assert client.refine(np.zeros_like(image), [Rle.from_dense(np.zeros(image.shape[:2], bool))]).width == 5400
        assert client.refine(small, np.zeros((64, 64), bool)).height == 64


def test_a_model_that_is_not_there(url: str) -> None:
    with Client(url, weights="other") as client, pytest.raises(NotFoundError) as caught:
        client.refine(*scene())
    assert caught.value.request_id


def test_time_that_is_too_short(url: str) -> None:
    image, masks = scene((900, 900), count=6)
    with Client(url, timeout=0.02) as client, pytest.raises(DeadlineError):
        client.refine(image, masks)


@pytest.mark.parametrize(
    "given",
    [
        {"nms": 3.0},
        {"passes": 0},
        {"exif_policy": "turn"},
        {"timeout": 0.0},
        {"concurrency": 0},
        {"timeout": float("nan")},
        {"timeout": "30"},
        {"verify": "/dev/null"},
        {"api_key": "password\n"},
        {"api_key": "pass word"},
        {"api_key": "p\u00e4ssword"},
        {"url": "http://a..b"},
        {"url": "http://a\x01b"},
        {"url": "http://127.0.0.1:8000/\n"},
        {"url": "ftp://example.com"},
        {"url": "http://"},
        {"url": "http://user:password@example.com"},
        {"url": "grpc://example.com/path"},
        {"url": "http://[::1"},
    ],
)
def test_options_are_checked_before_anything_is_sent(given: dict[str, Any]) -> None:
    url = given.pop("url", "https://127.0.0.1:1")
    with pytest.raises(OptionError) as caught:
        Client(url, **given)
    assert "password" not in str(caught.value)


def test_keys_and_tls(tmp_path: Path) -> None:
    import subprocess

    keys, chain, key = tmp_path / "keys", tmp_path / "chain.pem", tmp_path / "key.pem"
    keys.write_text(KEY)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    flags = ("--api-keys-file", str(keys), "--tls-cert", str(chain), "--tls-key", str(key))
    with running(tmp_path / "log", *flags) as server:
        for url in (server.url, f"grpcs://localhost:{server.grpc_port}"):
            with Client(url, api_key=KEY, verify=chain) as client:
                assert len(client.refine(*scene())) == 2
            with Client(url, api_key="wrong", verify=chain) as client, pytest.raises(UnauthorizedError):
                client.refine(*scene())
            # Nobody we trust has signed it.
            with Client(url, api_key=KEY, retries=Retries(0)) as client, pytest.raises(ConnectionFailedError):
                client.refine(*scene())

            async def main(url: str = url) -> int:
                async with AsyncClient(url, api_key=KEY, verify=chain) as client:
                    return len(await client.refine(*scene()))

            assert asyncio.run(main()) == 2


def test_connections_are_used_again(server: Running) -> None:
    with Client(server.url) as client:
        for _ in range(3):
            client.refine(*scene())
        pool = client._transport._client._transport._pool  # type: ignore[attr-defined]
        assert len(pool.connections) == 1


def test_a_client_is_for_several_threads(url: str) -> None:
    image, masks = scene()
    found: list[list[dict[str, Any]]] = []
    with Client(url) as client:
        threads = [threading.Thread(target=lambda: found.append(client.refine(image, masks).rles)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 6
    assert all(rles == found[0] for rles in found)


def test_exif_goes_with_the_file(url: str) -> None:
    pil = pytest.importorskip("PIL.Image", reason="writing EXIF needs Pillow")
    image, masks = scene((96, 128))
    import io

    exif = pil.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    pil.fromarray(image).save(buffer, "JPEG", exif=exif, quality=95)
    turned = [Rle.from_dense(cv2.rotate(m.to_dense().astype(np.uint8), cv2.ROTATE_90_CLOCKWISE)) for m in masks]
    with Client(url) as client:
        assert client.refine(buffer.getvalue(), turned).height == 128
    with Client(url, exif_policy="ignore") as client:
        assert client.refine(buffer.getvalue(), masks).height == 96

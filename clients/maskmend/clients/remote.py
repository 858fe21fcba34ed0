"""What `Client` and `AsyncClient` share: where the server is, which options go with each call, how long to try."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from maskmend.clients.calls import Call, checked_options, prepare
from maskmend.clients.retries import Attempts, Retries
from maskmend.patcher.errors import OptionError
from maskmend.patcher.images import ExifPolicy

GRPC_PORT = 8001
LONGEST = 86_400
"""Longest timeout in seconds."""
_KEY = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|[0-9a-fA-F:.]*:[0-9a-fA-F:.%A-Za-z0-9]*")
SCHEMES = ("http", "https", "grpc", "grpcs")


class Remote:
    """Settings of a client.

    Args:
        url: of the server: `http://`, `https://`, `grpc://` or `grpcs://`, host, port, and for HTTP a path in front of
            `/v1` if there is one.
        refiner: one of `REFINERS`; None for that of the weights.
        weights: name of a model that the server has; None for its first of the refiner, or its default.
        precision: `fp32`, `bf16`, `fp16` or `int8`, which must be what the model is served with; None for whichever that is.
        nms: overlap of patches, 0.15 (fewest) to 0.55 (best quality).
        passes: refine again where the edge moved far, 1 to 5 times in all.
        guard: keep masks that are already right, and doubtful changes out.
        caution: 0 to 1, how likely an improvement must be for the guard to let it through.
        reach: farthest that the guard lets an edge move, in px.
        topology: have the guard keep masks in one piece.
        arbitrate: let no two instances take a pixel that their coarse masks did not share.
        tiles: see a large instance in parts and not made smaller; means nothing to `bpr`.
        patches: `dense`; or `adaptive` for three fifths of them and masks about as good, see docs/performance-patches.md.
        exif_policy: `apply` or `ignore` the EXIF rotation of files and bytes.
        timeout: seconds for a call, with all its tries. Goes to the server as the deadline.
        retries: how often and when to try again.
        api_key: shown to the server.
        concurrency: images that `refine_many` has under way at a time.
        verify: check the server's certificate; or a PEM file of authorities to trust instead of the system's.

    Raises:
        OptionError: an option is out of range, or the URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        refiner: str | None = None,
        weights: str | None = None,
        precision: str | None = None,
        nms: float | None = None,
        passes: int | None = None,
        guard: bool | None = None,
        caution: float | None = None,
        reach: int | None = None,
        topology: bool | None = None,
        arbitrate: bool | None = None,
        tiles: bool | None = None,
        patches: str | None = None,
        exif_policy: ExifPolicy = "apply",
        timeout: float = 60.0,
        retries: Retries | None = None,
        api_key: str | None = None,
        concurrency: int = 4,
        verify: bool | str | Path = True,
    ) -> None:
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not 0 < timeout <= LONGEST:
            raise OptionError(f"timeout must be a number of seconds above 0 and up to {LONGEST}", field="timeout")
        if not isinstance(concurrency, int) or not 1 <= concurrency <= 1024:
            raise OptionError("concurrency must be an integer from 1 to 1024", field="concurrency")
        if api_key is not None and not _KEY.fullmatch(api_key):
            # Its text is not repeated: messages end up in logs.
            raise OptionError(
                "api_key must be visible ASCII characters; is there a line end or a space at its end?", field="api_key"
            )
        self.options = checked_options(
            refiner=refiner,
            weights=weights,
            precision=precision,
            nms=nms,
            passes=passes,
            guard=guard,
            caution=caution,
            reach=reach,
            topology=topology,
            arbitrate=arbitrate,
            tiles=tiles,
            patches=patches,
            exif_policy=exif_policy,
        )
        self.url = url.rstrip("/")
        self._timeout, self._retries, self._concurrency = timeout, retries or Retries(), concurrency
        self._api_key, self._verify = api_key, verify
        self._scheme, self._address = _parts(self.url)
        self._closed = False
        self._set_up()

    def _set_up(self) -> None:
        """What the twins need besides."""

    @property
    def _is_grpc(self) -> bool:
        return self._scheme.startswith("grpc")

    def _prepare(self, image: Any, masks: Any) -> tuple[Call, Attempts]:
        if self._closed:
            raise OptionError("this client is closed; make another one", field="client")
        return prepare(image, masks, self.options), Attempts(self._retries, self._timeout)


def _parts(url: str) -> tuple[str, str]:
    """Scheme, and `host:port` for gRPC."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise OptionError("url is not a URL", field="url") from None
    if parts.scheme not in SCHEMES or not host:
        raise OptionError(f"url must begin with one of {', '.join(s + '://' for s in SCHEMES)} and a host", field="url")
    if not _HOST.fullmatch(host) or not all(32 < ord(c) < 127 for c in url):
        raise OptionError("url has a host, or characters, that no URL has", field="url")
    if parts.username is not None or parts.query or parts.fragment:
        raise OptionError("url must have neither user, query nor fragment; api_key takes a key", field="url")
    if parts.scheme.startswith("grpc") and parts.path:
        raise OptionError("url has a path; gRPC knows none", field="url")
    shown = f"[{host}]" if ":" in host else host
    return parts.scheme, f"{shown}:{port or GRPC_PORT}"

"""Weights by name or path: manifest, checksums, model card.

One set of weights is four files beside each other: `NAME.json` (manifest), `NAME.onnx`, `NAME.safetensors`, `NAME.md`
(model card). Pickle is never read here; `maskmend models import` turns an official checkpoint into such a set, and
`maskmend export` makes a set with other files (`NAME.onnx` in another precision, `NAME.xml` and `NAME.bin` for OpenVINO).
A set of the same name in the folder `int8` beside it is its int8 form.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maskmend.models.gate import Gate
from maskmend.patcher.defaults import HOLD
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError, WeightsError

SHIPPED = Path(__file__).parent / "weights"
_PICKLES = {".pth", ".pt", ".pkl", ".ckpt", ".bin"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class GuardTables(BaseModel):
    """The guard's two regressions, fitted to a set of weights, and how far it holds them back; see `Calibration`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    changes: dict[str, float]
    instances: dict[str, float]
    strength: float = HOLD

    @property
    def sha256(self) -> str:
        """Of their numbers, to tell tables apart."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Manifest(BaseModel):
    """What a set of weights is.

    Attributes:
        name: of the set, also its file stem.
        refiner: which refiner it serves, a key of `REFINERS`.
        architecture: key of `architectures`.
        arguments: of the architecture.
        input_size: side of the network's input in px.
        patch: side of a patch in the image, in px.
        padding: context around a patch in image px.
        parameters: learned values.
        gmac: multiply-accumulates per patch, in 1e9.
        sha256: of its files, by their kind: `onnx` and `safetensors`, or what else `maskmend export` wrote.
        license: SPDX identifier; NOASSERTION where the source does not say.
        source: where the weights come from.
        guard: the guard's tables for these weights; None for those of `bpr-small`. See `maskmend.patcher.evidence`.
        precision: that the graph itself computes in; None for fp32.
        exported_from: SHA-256 of the ONNX graph that an exported set was made from.
        gate: how an exported set refines true masks beside the original, where that was measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    refiner: str = "bpr"
    architecture: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    input_size: int = Field(ge=8, le=2048)
    patch: int = Field(default=64, ge=8, le=1024)
    padding: int = Field(default=0, ge=0, le=512)
    parameters: int = Field(ge=1)
    gmac: float = Field(ge=0)
    sha256: dict[str, str]
    license: str
    source: str
    guard: GuardTables | None = None
    precision: Literal["fp32", "fp16", "bf16", "int8"] | None = None
    exported_from: str | None = None
    gate: tuple[Gate, ...] | None = None


class Weights(BaseModel):
    """A manifest and where its files are."""

    model_config = ConfigDict(frozen=True)

    manifest: Manifest
    folder: Path

    @property
    def onnx_path(self) -> Path:
        """The graph that runtimes read."""
        return self.folder / f"{self.manifest.name}.onnx"

    @property
    def safetensors_path(self) -> Path:
        """The state of the PyTorch network."""
        return self.folder / f"{self.manifest.name}.safetensors"

    @property
    def card_path(self) -> Path:
        """The model card."""
        return self.folder / f"{self.manifest.name}.md"

    def file(self, kind: str) -> Path:
        """The file of one kind: `onnx`, `safetensors`, `xml` and `bin` of OpenVINO, `engine` of TensorRT."""
        return self.folder / f"{self.manifest.name}.{kind}"

    def in_precision(self, precision: str) -> Weights | None:
        """Their form in another precision: the set of the same name in the folder `precision` beside them.

        None where there is none, or one that was made from other weights. The guard's tables are those of these weights.

        Raises:
            WeightsError: its manifest is malformed.
        """
        file = self.folder / precision / f"{self.manifest.name}.json"
        if not file.is_file():
            return None
        found = _read(file)
        if (found.manifest.precision, found.manifest.exported_from) != (precision, self.manifest.sha256.get("onnx")):
            return None
        return found.model_copy(update={"manifest": found.manifest.model_copy(update={"guard": self.manifest.guard})})

    def verify(self, kinds: tuple[str, ...] | None = None) -> None:
        """Compare files with the manifest's SHA-256.

        Args:
            kinds: of the files; None for `onnx` and `safetensors`, or whatever an export wrote.

        Raises:
            RuntimeUnavailableError: these weights were exported, and not as this kind.
            WeightsError: a file is missing or differs.
        """
        if kinds is None:
            kinds = ("onnx", "safetensors") if self.manifest.exported_from is None else tuple(self.manifest.sha256)
        for kind in kinds:
            file = self.file(kind)
            if self.manifest.exported_from is not None and kind not in self.manifest.sha256:
                raise RuntimeUnavailableError(
                    f"weights {self.manifest.name} were exported as {', '.join(self.manifest.sha256)} and have no {kind} "
                    "file; choose another runtime, or the weights they were made from",
                    field="runtime",
                )
            if not file.is_file():
                raise WeightsError(f"{file} is missing; copy all files of {self.manifest.name}", field="weights")
            if sha256(file) != self.manifest.sha256.get(kind):
                raise WeightsError(
                    f"{file.name} does not have the SHA-256 of its manifest; it was changed or damaged, fetch it again",
                    field="weights",
                )


def check_name(name: str) -> None:
    """Refuse a name that could lead out of a folder.

    Raises:
        OptionError: not letters, digits, dots, dashes and underscores alone.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"name {name[:64]!r} must be 1 to 64 letters, digits, dots, dashes or underscores", field="name"
        )


def sha256(file: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def resolve_weights(name: str | Path) -> Weights:
    """Find weights by the name of a shipped set, or by the path of a manifest, an ONNX file or a folder of one set.

    Raises:
        OptionError: neither a shipped name nor an existing path.
        WeightsError: the manifest is missing or malformed, or the file is a pickle.
    """
    text = str(name)
    if _NAME.fullmatch(text) and (SHIPPED / f"{text}.json").is_file():
        return _read(SHIPPED / f"{text}.json")
    path = Path(name)
    # The system refuses to look up an overlong name with an error of its own.
    if len(path.name) > 200 or len(text) > 4000:
        raise OptionError(f"weights {text[:64]!r}... is too long for a name or a path", field="weights")
    if path.suffix.lower() in _PICKLES:
        raise WeightsError(
            f"{path.name} is a pickle, which can run code when read; turn it into safetensors and ONNX with "
            "`maskmend models import`",
            field="weights",
        )
    if text and path.is_dir():
        # The record of a TensorRT engine lies beside it.
        manifests = sorted(file for file in path.glob("*.json") if not file.name.endswith(".engine.json"))
        if len(manifests) != 1:
            raise WeightsError(f"{path} holds {len(manifests)} manifests; name one of them", field="weights")
        return _read(manifests[0])
    if path.suffix in (".json", ".onnx", ".safetensors", ".xml", ".engine") and path.is_file():
        return _read(path.with_suffix(".json"))
    known = ", ".join(weights.manifest.name for weights in list_weights())
    raise OptionError(f"weights {text!r} are neither a file nor one of: {known}", field="weights")


def list_weights() -> list[Weights]:
    """Every shipped set, by name."""
    return [_read(file) for file in sorted(SHIPPED.glob("*.json"))]


def _read(file: Path) -> Weights:
    try:
        manifest = Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        raise WeightsError(f"{file} cannot be read; each set of weights needs its manifest", field="weights") from error
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise WeightsError(f"{file.name}: key {key!r}: {error.errors()[0]['msg']}", field="weights") from error
    if manifest.name != file.stem or not _NAME.fullmatch(manifest.name):
        raise WeightsError(f"{file.name} names {manifest.name[:64]!r}; manifest and file must agree", field="weights")
    return Weights(manifest=manifest, folder=file.parent)

from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RefineRequest(_message.Message):
    __slots__ = ("request_id", "image", "image_tensor", "masks", "mask_tensor", "index_mask", "options")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_TENSOR_FIELD_NUMBER: _ClassVar[int]
    MASKS_FIELD_NUMBER: _ClassVar[int]
    MASK_TENSOR_FIELD_NUMBER: _ClassVar[int]
    INDEX_MASK_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    image: bytes
    image_tensor: Tensor
    masks: _containers.RepeatedCompositeFieldContainer[Mask]
    mask_tensor: Tensor
    index_mask: bytes
    options: RefineOptions
    def __init__(self, request_id: _Optional[str] = ..., image: _Optional[bytes] = ..., image_tensor: _Optional[_Union[Tensor, _Mapping]] = ..., masks: _Optional[_Iterable[_Union[Mask, _Mapping]]] = ..., mask_tensor: _Optional[_Union[Tensor, _Mapping]] = ..., index_mask: _Optional[bytes] = ..., options: _Optional[_Union[RefineOptions, _Mapping]] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("shape", "dtype", "data")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    data: bytes
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("rle", "polygons", "png")
    RLE_FIELD_NUMBER: _ClassVar[int]
    POLYGONS_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    rle: Rle
    polygons: Polygons
    png: bytes
    def __init__(self, rle: _Optional[_Union[Rle, _Mapping]] = ..., polygons: _Optional[_Union[Polygons, _Mapping]] = ..., png: _Optional[bytes] = ...) -> None: ...

class Rle(_message.Message):
    __slots__ = ("size", "counts")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    size: _containers.RepeatedScalarFieldContainer[int]
    counts: bytes
    def __init__(self, size: _Optional[_Iterable[int]] = ..., counts: _Optional[bytes] = ...) -> None: ...

class Polygons(_message.Message):
    __slots__ = ("polygons",)
    POLYGONS_FIELD_NUMBER: _ClassVar[int]
    polygons: _containers.RepeatedCompositeFieldContainer[Polygon]
    def __init__(self, polygons: _Optional[_Iterable[_Union[Polygon, _Mapping]]] = ...) -> None: ...

class Polygon(_message.Message):
    __slots__ = ("coordinates",)
    COORDINATES_FIELD_NUMBER: _ClassVar[int]
    coordinates: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, coordinates: _Optional[_Iterable[float]] = ...) -> None: ...

class RefineOptions(_message.Message):
    __slots__ = ("refiner", "weights", "precision", "nms", "passes", "guard", "caution", "reach", "topology", "arbitrate", "exif_policy", "encoding", "report", "timeout_s", "tiles", "patches")
    REFINER_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    NMS_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    GUARD_FIELD_NUMBER: _ClassVar[int]
    CAUTION_FIELD_NUMBER: _ClassVar[int]
    REACH_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    ARBITRATE_FIELD_NUMBER: _ClassVar[int]
    EXIF_POLICY_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    PATCHES_FIELD_NUMBER: _ClassVar[int]
    refiner: str
    weights: str
    precision: str
    nms: float
    passes: int
    guard: bool
    caution: float
    reach: int
    topology: bool
    arbitrate: bool
    exif_policy: str
    encoding: str
    report: bool
    timeout_s: float
    tiles: bool
    patches: str
    def __init__(self, refiner: _Optional[str] = ..., weights: _Optional[str] = ..., precision: _Optional[str] = ..., nms: _Optional[float] = ..., passes: _Optional[int] = ..., guard: _Optional[bool] = ..., caution: _Optional[float] = ..., reach: _Optional[int] = ..., topology: _Optional[bool] = ..., arbitrate: _Optional[bool] = ..., exif_policy: _Optional[str] = ..., encoding: _Optional[str] = ..., report: _Optional[bool] = ..., timeout_s: _Optional[float] = ..., tiles: _Optional[bool] = ..., patches: _Optional[str] = ...) -> None: ...

class RefinedMask(_message.Message):
    __slots__ = ("index", "segmentation", "box", "area", "confidence", "score", "abstained", "changed_pixels", "max_displacement_px", "undone")
    class UndoneEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ABSTAINED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_DISPLACEMENT_PX_FIELD_NUMBER: _ClassVar[int]
    UNDONE_FIELD_NUMBER: _ClassVar[int]
    index: int
    segmentation: Mask
    box: _containers.RepeatedScalarFieldContainer[int]
    area: int
    confidence: float
    score: float
    abstained: str
    changed_pixels: int
    max_displacement_px: float
    undone: _containers.ScalarMap[str, int]
    def __init__(self, index: _Optional[int] = ..., segmentation: _Optional[_Union[Mask, _Mapping]] = ..., box: _Optional[_Iterable[int]] = ..., area: _Optional[int] = ..., confidence: _Optional[float] = ..., score: _Optional[float] = ..., abstained: _Optional[str] = ..., changed_pixels: _Optional[int] = ..., max_displacement_px: _Optional[float] = ..., undone: _Optional[_Mapping[str, int]] = ...) -> None: ...

class RefineResponse(_message.Message):
    __slots__ = ("request_id", "width", "height", "instances", "index_png", "timings", "provenance")
    class TimingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class ProvenanceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    INDEX_PNG_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    width: int
    height: int
    instances: _containers.RepeatedCompositeFieldContainer[RefinedMask]
    index_png: bytes
    timings: _containers.ScalarMap[str, float]
    provenance: _containers.MessageMap[str, Value]
    def __init__(self, request_id: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., instances: _Optional[_Iterable[_Union[RefinedMask, _Mapping]]] = ..., index_png: _Optional[bytes] = ..., timings: _Optional[_Mapping[str, float]] = ..., provenance: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("text", "whole", "real")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    REAL_FIELD_NUMBER: _ClassVar[int]
    text: str
    whole: int
    real: float
    def __init__(self, text: _Optional[str] = ..., whole: _Optional[int] = ..., real: _Optional[float] = ...) -> None: ...

class RefineEvent(_message.Message):
    __slots__ = ("request_id", "instance", "done", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    instance: RefinedMask
    done: RefineResponse
    error: Error
    def __init__(self, request_id: _Optional[str] = ..., instance: _Optional[_Union[RefinedMask, _Mapping]] = ..., done: _Optional[_Union[RefineResponse, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "field", "request_id")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    field: str
    request_id: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

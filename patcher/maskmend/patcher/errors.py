"""The one exception hierarchy of maskmend.

Every message names the field, the value (its size or kind, never the payload itself) and what to do about it.
"""

from __future__ import annotations


class MaskmendError(Exception):
    """Base of every error that maskmend raises on purpose.

    Attributes:
        code: short machine-readable word, stable across releases.
        field: the input field or option at fault, such as ``segmentation.counts``; empty when there is none.
        request_id: of the request that failed at a server, as its log has it; empty elsewhere.
    """

    code = "error"
    request_id: str = ""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class MaskError(MaskmendError):
    """A mask (RLE, polygon or array) that cannot be read."""

    code = "invalid_mask"


class ImageError(MaskmendError):
    """An image that cannot be read, or is larger than the limits allow."""

    code = "invalid_image"


class UnsupportedImageError(ImageError):
    """Bytes that are no image of a format we read, whatever their name says."""

    code = "unsupported_image"


class OptionError(MaskmendError, ValueError):
    """An option outside its range, or unknown."""

    code = "invalid_option"


class JobError(MaskmendError):
    """A COCO file that cannot be used as a whole: nothing is written."""

    code = "invalid_job"


class WeightsError(MaskmendError):
    """Weights that are missing, damaged, or not what their manifest says."""

    code = "invalid_weights"


class RuntimeUnavailableError(MaskmendError):
    """The runtime asked for is not installed or does not work on this machine."""

    code = "runtime_unavailable"


class RuntimeLostError(RuntimeUnavailableError):
    """The runtime is on other machines, and none of them answers, or not as it should.

    Attributes:
        retry_after: whole seconds after which trying again makes sense.
    """

    code = "runtime_lost"

    def __init__(self, message: str, *, field: str = "", retry_after: int = 5) -> None:
        super().__init__(message, field=field)
        self.retry_after = retry_after

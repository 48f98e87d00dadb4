"""Image files to bytes: libjpeg-turbo for ordinary JPEGs, Pillow for all it does not take.

Both give the same bytes for a JPEG in grey, YCbCr or RGB. Of ImageNet's own files Pillow is needed
for the 22 in CMYK, the PNG that is named ``.JPEG`` and the few with a broken part in the middle.
"""

import io
import warnings

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from attnlab.data.streamed import UnreadableSampleError

Pixels = UInt8[np.ndarray, "height width 3"]

_JPEG = b"\xff\xd8\xff"
_SPACES = {"YCbCr", "Gray", "RGB"}  # others leave libjpeg-turbo a grey level from Pillow
_MOST_PIXELS = 1 << 27  # Pillow, which takes over, says what is wrong with a header beyond
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_TEXT_STARTS = (b"<!", b"<?", b"<html", b"<head", b"<body", b"<error", b"{")


def is_text(start: bytes) -> bool:
    """Return whether a file that starts so is a web page or a message of a server."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_TEXT_STARTS)


def decode(content: bytes) -> Pixels:
    """Decode a file's content to RGB, as stored: EXIF orientation is not applied.

    Raises:
        UnreadableSampleError: It is empty, cut off, a web page, or no image at all.
    """
    if content.startswith(_JPEG):
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(content)
            if space in _SPACES and height * width <= _MOST_PIXELS:
                pixels: np.ndarray = simplejpeg.decode_jpeg(content)
                return pixels
        except ValueError:  # strict: also of files that Pillow reads to the end
            pass
    return _decode_otherwise(content)


def _decode_otherwise(content: bytes) -> Pixels:
    if not content:
        raise UnreadableSampleError("empty file (0 bytes)")
    if is_text(content[:256]):
        raise UnreadableSampleError(
            f"a text or web page saved as an image (starts with {content[:24]!r}): download it anew"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF blocks and palettes, which do not matter
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        reason = f"no image format known to Pillow (starts with {content[:8].hex(' ')})"
    except Exception as error:  # Pillow's readers raise a dozen types on bytes they do not expect
        reason = " ".join(str(error).split()) or type(error).__name__
    raise UnreadableSampleError(f"cannot be decoded, {len(content)} bytes: {reason}")

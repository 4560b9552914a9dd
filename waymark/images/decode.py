"""From the bytes of a file to upright, square pixels; what cannot be decoded has a status."""

import io
import os
import warnings
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from waymark.errors import ImageError
from waymark.images.tars import read_bytes

pillow_heif.register_heif_opener()
Image.MAX_IMAGE_PIXELS = None  # the limit is an argument here, checked before any pixel is decoded

Status = Literal["ok", "missing", "unreadable", "truncated", "giant", "crashed"]
EXIF_ORIENTATION = 0x0112
PNG_SIGNATURE_BYTES = 8
CUT_OFF = ("truncated", "end of file")  # what decoders say of a file whose end is missing
MAX_PIXELS = 200_000_000  # where nobody says otherwise

Fit = Literal["crop", "stretch"]  # how a picture becomes a square


class Picture(NamedTuple):
    """What came of one file: its pixels, or why there are none."""

    status: Status
    reason: str
    pixels: NDArray[np.uint8] | None  # (size_px, size_px, 3)


def square_pixels(data: bytes, size_px: int, *, max_pixels: int, fit: Fit = "crop") -> NDArray[np.uint8]:
    """Decode a picture to a square, upright, scaled to one size.

    Scaling is Pillow's LANCZOS in fixed point, which gives the same bytes on every CPU.

    Args:
        data: a file in any format that Pillow or libheif reads; of several frames the first.
        size_px: side of the square in pixels.
        max_pixels: width times height beyond which the picture is not decoded.
        fit: `crop` takes the largest centred square; `stretch` brings the whole picture into the square, so that
            nothing at the sides of a wide one is lost.

    Returns:
        `(size_px, size_px, 3)` RGB.

    Raises:
        ImageError: the picture has more than `max_pixels`.
        OSError: Pillow cannot decode it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of broken EXIF: what matters is whether pixels come out
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(f"{image.width} x {image.height} pixels, more than {max_pixels}")
            shrink = min(image.size) // (2 * size_px)
            if shrink > 1:  # JPEG decodes at 1/2, 1/4, 1/8 for a fraction of the time
                image.draft("RGB", (image.width // shrink, image.height // shrink))
            upright = _in_colour(ImageOps.exif_transpose(image))
    box = centred_square(upright) if fit == "crop" else None
    return np.asarray(upright.resize((size_px, size_px), Image.Resampling.LANCZOS, box=box))


def centred_square(image: Image.Image) -> tuple[int, int, int, int]:
    """Give left, top, right and bottom of the largest centred square."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side


def _in_colour(image: Image.Image) -> Image.Image:
    """Convert to RGB; of 16 bits the upper 8, where Pillow would make all above 255 white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise OSError(f"mode {image.mode}: nobody says which number is white")
    return image.convert("RGB")


def read_picture(path: Path, size_px: int, *, max_pixels: int, fit: Fit = "crop") -> Picture:
    """Decode a file or a member of a tar, or say why not; never raises for what is wrong with the picture."""
    try:
        data = read_bytes(path.parent, path.name)
        return Picture("ok", "", square_pixels(data, size_px, max_pixels=max_pixels, fit=fit))
    except FileNotFoundError:
        return Picture("missing", "no such file", None)
    except ImageError as error:
        return Picture("giant", str(error), None)
    except UnidentifiedImageError:
        return Picture("unreadable", "no known picture format", None)
    except Exception as error:  # decoders raise anything on hostile bytes; this is their border
        status: Status = "truncated" if any(sign in str(error).lower() for sign in CUT_OFF) else "unreadable"
        return Picture(status, f"{type(error).__name__}: {error}"[:200], None)


def jpeg_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Encode `(H, W, 3)` RGB pixels as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def upright_dimensions(file: Path | IO[bytes]) -> tuple[int, int] | None:
    """Read width and height as seen, without decoding; None where the header cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                return upright_size(image, exif_of(image))
    except Exception:  # the border again: broken headers raise anything
        return None


def upright_size(image: Image.Image, exif: Image.Exif) -> tuple[int, int]:
    """Give width and height of an open picture as seen."""
    turned = exif.get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else image.size


def exif_of(image: Image.Image) -> Image.Exif:
    """Read the EXIF of a picture that was just opened, without decoding any pixel.

    Pillow alone would decode a whole PNG to see whether EXIF stands behind the pixels.
    """
    if isinstance(image, PngImageFile) and "exif" not in image.info:
        image.info["exif"] = _late_exif(image.fp) if image.fp is not None else None
    return image.getexif()


def _late_exif(file: IO[bytes]) -> bytes | None:
    """Find the chunk eXIf of a PNG by walking over its chunks."""
    here = file.tell()
    file.seek(PNG_SIGNATURE_BYTES)
    found = None
    while found is None and len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            found = b"Exif\0\0" + file.read(length)
        file.seek(length + 4, os.SEEK_CUR)  # the content and its checksum
    file.seek(here)
    return found


def read_upright(path: Path, longest_px: int, *, max_pixels: int) -> Image.Image:
    """Decode a picture to be looked at: upright, in RGB, and where it is larger scaled down.

    Args:
        path: of a file, or of a member of a tar.
        longest_px: of the longer side.
        max_pixels: width times height beyond which it is not decoded.

    Raises:
        ImageError: it cannot be decoded.
    """
    try:
        data = read_bytes(path.parent, path.name)
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")
            if image.width * image.height > max_pixels:
                raise ImageError(f"{image.width} x {image.height} pixels, more than {max_pixels}")
            image.draft("RGB", (longest_px, longest_px))
            upright = _in_colour(ImageOps.exif_transpose(image))
            upright.thumbnail((longest_px, longest_px))
            return upright
    except Exception as error:  # the border again
        raise ImageError(f"{path}: {error}") from error

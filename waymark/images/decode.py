"""From the bytes of a file to upright, square pixels; what cannot be decoded gets a status."""

import io
import os
import warnings
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from waymark.errors import ImageError
from waymark.images.tars import open_member

Image.MAX_IMAGE_PIXELS = None  # the limit is an argument here, checked before any pixel is decoded

Status = Literal["ok", "missing", "unreadable", "truncated", "giant", "crashed"]
EXIF_ORIENTATION = 0x0112
PNG_SIGNATURE_BYTES = 8
CUT_OFF = ("truncated", "end of file")  # in messages of decoders about a file whose end is missing
MAX_PIXELS = 160_000_000  # by default: the largest cameras have 151 million, panoramas 134
MAX_SIDE_PX = 300_000  # the kernel has 48 bytes for each pixel along a side
BYTES_PER_PIXEL = 8  # four that Pillow decodes to, and as many if the picture is rotated or its colours are converted
HUNGRY = {"AVIF": 2, "JPEG2000": 3, "WEBP": 2}  # formats whose decoders need more memory, and may have fewer pixels
SPARE_BYTES = 64 * 2**20  # for decoders and the square
# EPS runs another program; the others contain or reference further files, whose size their header does not state.
REFUSED = ("CUR", "DCX", "EPS", "ICNS", "ICO", "WMF")
Image.preinit()  # the common ones first
Image.init()
pillow_heif.register_heif_opener()
FORMATS = tuple(name for name in Image.ID if name not in REFUSED)

Fit = Literal["crop", "stretch"]  # how a picture becomes square


class Picture(NamedTuple):
    """Result of decoding one file: its pixels, or why there are none."""

    status: Status
    reason: str
    pixels: NDArray[np.uint8] | None  # (size_px, size_px, 3)


def square_pixels(data: bytes, size_px: int, *, max_pixels: int, fit: Fit = "crop") -> NDArray[np.uint8]:
    """Decode a picture to a square, upright, scaled to one size.

    Scaling is Pillow's LANCZOS in fixed point, which gives the same bytes on every CPU. Only the picture itself is
    whole in memory, 4 bytes a pixel, and twice for a moment if it is rotated.

    Args:
        data: a file in any format that Pillow or libheif reads except those in `REFUSED`; of several frames the first.
        size_px: side of the square in pixels.
        max_pixels: width times height beyond which the picture is not decoded; a fraction of it for `HUNGRY` formats.
        fit: `crop` uses the largest centred square; `stretch` scales the whole picture to the square, so that nothing
            at the sides of a wide one is lost.

    Returns:
        `(size_px, size_px, 3)` RGB.

    Raises:
        ImageError: the picture has more than `max_pixels`, or a longer side than `MAX_SIDE_PX`.
        OSError: Pillow cannot decode it.
    """
    return _square(io.BytesIO(data), size_px, max_pixels=max_pixels, fit=fit)


def decoding_bytes(max_pixels: int) -> int:
    """Return the largest memory that decoding this many pixels takes, in addition to the process itself."""
    return BYTES_PER_PIXEL * max_pixels + SPARE_BYTES


def _square(file: IO[bytes] | Image.Image, size_px: int, *, max_pixels: int, fit: Fit) -> NDArray[np.uint8]:
    opened = file.copy() if isinstance(file, Image.Image) else open_picture(file)
    with warnings.catch_warnings(), opened as image:
        warnings.simplefilter("ignore")  # about broken EXIF: only the pixels matter
        _refuse_giants(image, max_pixels)
        shrink = min(image.size) // (2 * size_px)
        if shrink > 1:  # JPEG decodes at 1/2, 1/4, 1/8 in a fraction of the time
            image.draft("RGB", (image.width // shrink, image.height // shrink))
        ImageOps.exif_transpose(image, in_place=True)
        box = centred_square(image) if fit == "crop" else None
        return np.asarray(_in_colour(image).resize((size_px, size_px), Image.Resampling.LANCZOS, box=box))


def _refuse_giants(image: Image.Image, max_pixels: int) -> None:
    size, most = f"{image.width} x {image.height} pixels", max_pixels // HUNGRY.get(image.format or "", 1)
    if image.width * image.height > most:
        of_format = "" if most == max_pixels else f" of {image.format}"
        raise ImageError(f"{size}{of_format}, more than {most}")
    if max(image.size) > MAX_SIDE_PX:
        raise ImageError(f"{size}, a side longer than {MAX_SIDE_PX}")
    if isinstance(image, TiffImageFile):  # a tile is always decoded whole
        tile = [image.tag_v2.get(tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)]
        if tile[0] * tile[1] > most:
            raise ImageError(f"{size} in tiles of {tile[0]} x {tile[1]}, more than {most}")


def open_picture(file: Path | IO[bytes]) -> Image.Image:
    """Open a picture without decoding it, regardless of its name; the only way to open untrusted pictures.

    Raises:
        UnidentifiedImageError: it is in none of `FORMATS`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(file, formats=FORMATS)


def centred_square(image: Image.Image) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the largest centred square."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side


def _in_colour(image: Image.Image) -> Image.Image:
    """Convert to RGB; of 16 bits the upper 8, because Pillow would make all above 255 white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise OSError(f"mode {image.mode}: the value of white is unknown")
    return image if image.mode == "RGB" else image.convert("RGB")


def read_picture(path: Path, size_px: int, *, max_pixels: int, fit: Fit = "crop") -> Picture:
    """Decode a file or a member of a tar, or return why not; never raises for faults of the picture."""
    try:
        file = open_member(path.parent, path.name)
    except FileNotFoundError:
        return Picture("missing", "no such file", None)
    except Exception as error:  # such as an invalid tar, or a failing disk
        return Picture("unreadable", f"{type(error).__name__}: {error}"[:200], None)
    with file:
        return picture_of(file, size_px, max_pixels=max_pixels, fit=fit)


def picture_of(file: IO[bytes] | Image.Image, size_px: int, *, max_pixels: int, fit: Fit = "crop") -> Picture:
    """Decode an open file or picture, which stays open; never raises for faults of the picture."""
    try:
        return Picture("ok", "", _square(file, size_px, max_pixels=max_pixels, fit=fit))
    except ImageError as error:
        return Picture("giant", str(error), None)
    except UnidentifiedImageError:
        return Picture("unreadable", "no known picture format", None)
    except Exception as error:  # decoders raise anything on hostile bytes, which ends here
        return _undecoded(error)


def _undecoded(error: Exception) -> Picture:
    reason = f"{type(error).__name__}: {error}"[:200]
    if isinstance(error, MemoryError) or "memory" in reason:
        return Picture("giant", f"needs more memory than a picture of max_pixels ({reason})", None)
    status: Status = "truncated" if any(sign in reason.lower() for sign in CUT_OFF) else "unreadable"
    return Picture(status, reason, None)


def jpeg_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Encode `(H, W, 3)` RGB pixels as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def upright_dimensions(file: Path | IO[bytes]) -> tuple[int, int] | None:
    """Read upright width and height without decoding; None if the header cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(file) as image:
                return upright_size(image, exif_of(image))
    except Exception:  # likewise: broken headers raise anything
        return None


def upright_size(image: Image.Image, exif: Image.Exif) -> tuple[int, int]:
    """Return the upright width and height of an open picture."""
    turned = exif.get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else image.size


def exif_of(image: Image.Image) -> Image.Exif:
    """Read the EXIF of a picture that was just opened, without decoding any pixel.

    Pillow alone would decode a whole PNG to look for EXIF after the pixels.
    """
    if isinstance(image, PngImageFile) and "exif" not in image.info:
        image.info["exif"] = _late_exif(image.fp) if image.fp is not None else None
    return image.getexif()


def _late_exif(file: IO[bytes]) -> bytes | None:
    """Find the chunk eXIf of a PNG by iterating over its chunks."""
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
    """Decode a picture for display: upright, in RGB, scaled down if it is larger.

    Args:
        path: of a file, or of a member of a tar.
        longest_px: largest length of the longer side.
        max_pixels: width times height beyond which it is not decoded.

    Raises:
        ImageError: it cannot be decoded.
    """
    try:
        with open_member(path.parent, path.name) as file, warnings.catch_warnings(), open_picture(file) as image:
            warnings.simplefilter("ignore")
            _refuse_giants(image, max_pixels)
            image.draft("RGB", (longest_px, longest_px))
            ImageOps.exif_transpose(image, in_place=True)
            upright = _in_colour(image)
            upright.thumbnail((longest_px, longest_px))
            return upright.copy()  # detached from its file
    except Exception as error:  # likewise
        raise ImageError(f"{path}: {error}") from error

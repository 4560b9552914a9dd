"""Pictures for people: upright, scaled for display, with attention maps."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from waymark.images.decode import MAX_PIXELS, Fit, Picture, centred_square, read_picture, read_upright
from waymark.report.heat import draw_attention
from waymark.sources.walking import SKIPPED

SHOWN_PX = 480  # longer side of a picture on the page
DRAWN_PX = 1600  # longer side of a picture on which attention is drawn


def read_named(path: Path, size_px: int, fit: Fit) -> Picture:
    """Decode a picture; files that are skipped in a folder are refused here, with the reason."""
    if (kind := SKIPPED.get(path.suffix.lower())) is not None:
        return Picture("unreadable", f"{kind} files are not decoded; convert it to JPEG", None)
    return read_picture(path, size_px, max_pixels=MAX_PIXELS, fit=fit)


def open_upright(path: Path) -> Image.Image:
    """Open a picture upright, in RGB, its longer side at most about `DRAWN_PX`.

    Raises:
        ImageError: it cannot be decoded.
    """
    return read_upright(path, DRAWN_PX, max_pixels=MAX_PIXELS)


def as_jpeg(picture: Image.Image) -> bytes:
    """Encode a picture in the size of the page as JPEG."""
    small = picture.copy()
    small.thumbnail((SHOWN_PX, SHOWN_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def with_attention(picture: Image.Image, attention: NDArray[np.float32], fit: Fit = "crop") -> Image.Image:
    """Overlay the attention map on what the model saw; the rest turns grey.

    Args:
        picture: upright, RGB.
        attention: `(h, w)` from 0 to 1.
        fit: how the picture became the square that the model saw.
    """
    seen = picture.copy()
    seen.thumbnail((DRAWN_PX, DRAWN_PX))
    box = centred_square(seen) if fit == "crop" else (0, 0, *seen.size)
    drawn = seen.convert("L").convert("RGB")
    drawn.paste(Image.fromarray(draw_attention(np.asarray(seen.crop(box)), attention)), box[:2])
    return drawn

"""Maps of where something is, laid over a picture."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB

# From low to high: dark blue, green, yellow, after matplotlib's viridis, which also reads in grey.
VIRIDIS = np.array(
    [(68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
     (170, 220, 50), (253, 231, 37)]
)  # fmt: skip

SHARE = 0.5  # of the map in what is drawn; the rest is the picture

_GREY = (0.299, 0.587, 0.114)  # luma of Rec. 601


def coloured(values: NDArray[np.floating]) -> Pixels:
    """Colour `(h, w)` values from 0 to 1: `(h, w, 3)`.

    >>> coloured(np.array([[0.0, 1.0]])).tolist()
    [[[68, 1, 84], [253, 231, 37]]]
    """
    steps = np.linspace(0, 1, len(VIRIDIS))
    channels = [np.interp(values, steps, VIRIDIS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def draw_attention(pixels: Pixels, attention: NDArray[np.floating]) -> Pixels:
    """Lay a map of attention over a picture: dark blue where there is none, yellow where it is highest.

    The map is enlarged bilinearly, its pixels taken as squares that cover the whole picture. The picture below it is
    grey, so that its own colours are not taken for the map's.

    Args:
        pixels: `(H, W, 3)` RGB.
        attention: `(h, w)` from 0 to 1; what lies outside is cut.

    Returns:
        `(H, W, 3)` RGB.
    """
    height, width = pixels.shape[:2]
    small = Image.fromarray(np.asarray(attention, dtype=np.float32).clip(0, 1))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float64)
    grey = (pixels @ np.array(_GREY))[..., None]
    drawn: Pixels = (SHARE * coloured(smooth) + (1 - SHARE) * grey).round().astype(np.uint8)
    return drawn

"""The camera, which says nothing: crop, tilt, white balance, exposure, contrast, haze, grain, JPEG."""

import io

import numpy as np
from PIL import Image

from waymark.sources.synthetic.backdrop import HEIGHT, WIDTH
from waymark.sources.synthetic.draws import Draws

WIDTH_PX, HEIGHT_PX = 96, 72  # of a finished picture
QUALITY = 88


def take(scene: Image.Image, draws: Draws) -> bytes:
    """Take a picture of a scene.

    Args:
        scene: an RGB canvas of `WIDTH` times `HEIGHT`.
        draws: how the camera is held and set.

    Returns:
        A JPEG of `WIDTH_PX` times `HEIGHT_PX`.
    """
    framed = scene.transform(
        (2 * WIDTH_PX, 2 * HEIGHT_PX), Image.Transform.AFFINE, _frame(draws), Image.Resampling.BILINEAR
    ).reduce(2)
    developed = framed.point(_curve(draws))
    pixels = np.asarray(developed).astype(np.int16)
    noise = draws.grain((HEIGHT_PX, WIDTH_PX, 1)).astype(np.int16)
    pixels += (noise - 128) * draws.whole(2, 9) // 128
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _frame(draws: Draws) -> tuple[float, float, float, float, float, float]:
    """Draw crop and tilt: the affine map from the picture to the canvas, a rotation in rationals."""
    half_tilt = draws.bell(0, 0.04)  # tangent of half the angle: up to 4.6 degrees
    zoom = draws.between(0.84, 1.12)
    cos = zoom * (1 - half_tilt * half_tilt) / (1 + half_tilt * half_tilt)
    sin = zoom * 2 * half_tilt / (1 + half_tilt * half_tilt)
    x = WIDTH / 2 + draws.between(-12, 12)
    y = HEIGHT / 2 + draws.between(-10, 4)
    return cos, -sin, x - cos * WIDTH_PX + sin * HEIGHT_PX, sin, cos, y - sin * WIDTH_PX - cos * HEIGHT_PX


def _curve(draws: Draws) -> list[int]:
    """Draw exposure, contrast, haze and white balance as one table of 256 entries for each channel."""
    bend = draws.between(-0.3, 0.7)  # brightens the middle tones above 0
    gain = draws.between(0.8, 1.12)
    haze, veil = draws.between(0, 0.25), draws.whole(120, 230)
    tone = np.arange(256) / 255
    tone = tone * (1 + bend) / (1 + bend * tone) * gain  # one product, one quotient at a time: the same on every CPU
    table: list[int] = []
    for _ in range(3):
        tint = draws.between(0.9, 1.08)
        lit = 255 * tone * tint * (1 - haze) + veil * haze
        table.extend(np.clip(lit, 0, 255).astype(np.int64).tolist())
    return table

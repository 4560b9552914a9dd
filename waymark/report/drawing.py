"""A picture with the answer written on it."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

INK = "#22303c"  # that of `theme`, which would import Plotly for every guess
WIDTH_PX = 1600  # of a single picture at most, and of several together
COLUMNS = 4


def draw_answer(pictures: Sequence[Image.Image], lines: Sequence[str]) -> Image.Image:
    """Write lines below one picture, or below several side by side.

    Args:
        pictures: upright, RGB; they are left as they are.
        lines: of text.

    Returns:
        A new RGB picture.
    """
    columns = min(len(pictures), COLUMNS)
    width_px = min(WIDTH_PX, sum(picture.width for picture in pictures[:columns]))
    side_px = max(1, width_px // columns)
    fitted = [_fitted(picture, side_px) for picture in pictures]
    height_px = max(picture.height for picture in fitted)
    rows = math.ceil(len(fitted) / columns)
    font_px = max(12, min(width_px // 40, 36))
    font = ImageFont.load_default(font_px)
    wrapped = [part for line in lines for part in _wrapped(line, font, width_px - 2 * font_px)]
    band_px = int((1.4 * len(wrapped) + 1) * font_px)
    sheet = Image.new("RGB", (side_px * columns, height_px * rows + band_px), INK)
    for place, picture in enumerate(fitted):
        sheet.paste(picture, (place % columns * side_px, place // columns * height_px))
    pen = ImageDraw.Draw(sheet)
    for row, text in enumerate(wrapped):
        top = height_px * rows + (0.6 + 1.4 * row) * font_px
        pen.text((font_px, top), text, font=font, fill="#ffffff")
    return sheet


def _fitted(picture: Image.Image, width_px: int) -> Image.Image:
    if picture.width == width_px:
        return picture
    height_px = max(1, round(picture.height * width_px / picture.width))
    return picture.resize((width_px, height_px), Image.Resampling.LANCZOS)


def _wrapped(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> list[str]:
    """Break a line between words where it is too long."""
    broken = [""]
    for word in line.split():
        longer = f"{broken[-1]} {word}".strip()
        if broken[-1] and font.getlength(longer) > width_px:
            broken.append(word)
        else:
            broken[-1] = longer
    return broken

"""Fields: rows, furrows, stones and walls, told apart by pattern rather than by colour."""

from collections.abc import Callable

from PIL.ImageDraw import ImageDraw

from waymark.sources.synthetic.draws import Draws
from waymark.sources.synthetic.trees import Colour, disc, shade, shape

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels

SOILS: dict[str, tuple[Colour, ...]] = {
    "red": ((158, 92, 66), (150, 104, 76)),
    "straw": ((196, 172, 106), (182, 164, 120)),
    "grey": ((168, 160, 146), (150, 148, 138)),
    "green": ((112, 134, 74), (128, 150, 88)),
    "brown": ((122, 98, 72), (138, 110, 84)),
}


def _tones(soil: Colour, draws: Draws) -> tuple[Colour, Colour]:
    """Return the pattern's colour and its shade; light on dark as often as dark on light."""
    share = draws.between(0.5, 0.66) if draws.chance(0.5) else draws.between(1.32, 1.5)
    return shade(soil, share), shade(soil, 1 + (share - 1) * 0.5)


def _fan(box: Box, gap: float, draws: Draws) -> list[tuple[float, float, float]]:
    """Spread rows that meet far behind the field: x at the top, x at the bottom, half width at the bottom."""
    left, _, right, _ = box
    vanish = draws.between(left, right)
    shrink = draws.between(0.3, 0.45)
    count = int((right - left) / gap * 1.6) + 2
    offset = draws.between(0, gap)
    feet = [vanish + (k - count // 2) * gap + offset for k in range(count)]
    return [(vanish + (foot - vanish) * shrink, foot, gap * 0.22) for foot in feet]


def vines(pen: ImageDraw, box: Box, soil: Colour, spacing: float, draws: Draws) -> None:
    """Rows of bushes that meet in the distance."""
    bush, _ = _tones(soil, draws)
    _, top, _, bottom = box
    for far, near, wide in _fan(box, 12 + 22 * spacing, draws):
        for k in range(7):
            depth = (k + 1) / 7
            disc(pen, far + (near - far) * depth, top + (bottom - top) * depth * depth, wide * (0.4 + 0.8 * depth),
                 wide * (0.35 + 0.5 * depth), bush)  # fmt: skip


def strips(pen: ImageDraw, box: Box, soil: Colour, spacing: float, draws: Draws) -> None:
    """Narrow plots side by side, each of one colour."""
    tones = (*_tones(soil, draws), soil)
    _, top, _, bottom = box
    gap = 14 + 26 * spacing
    for k, (far, near, wide) in enumerate(_fan(box, gap, draws)):
        shape(pen, [(far - wide * 0.9, top), (far + wide * 0.9, top), (near + wide * 2.3, bottom),
                    (near - wide * 2.3, bottom)], tones[k % 2])  # fmt: skip


def furrows(pen: ImageDraw, box: Box, soil: Colour, spacing: float, draws: Draws) -> None:
    """Ploughed lines across the view."""
    tone, _ = _tones(soil, draws)
    left, top, right, bottom = box
    tilt = draws.between(-5, 5)
    y, gap = top + 2.0, 3 + 3 * spacing
    while y < bottom:
        pen.line([(left, int(y + tilt)), (right, int(y - tilt))], fill=tone, width=max(1, int(gap * 0.4)))
        y, gap = y + gap, gap * (1.1 + 0.07 * spacing)


def sunflowers(pen: ImageDraw, box: Box, soil: Colour, spacing: float, draws: Draws) -> None:
    """A chequer of heads."""
    tone, _ = _tones(soil, draws)
    left, top, right, bottom = box
    y, gap, odd = top + 3.0, 6 + 5 * spacing, 0.0
    while y < bottom:
        x = left + gap * odd
        while x < right:
            disc(pen, x, y, gap * 0.3, gap * 0.24, tone)
            x += gap
        y, gap, odd = y + gap * 0.8, gap * 1.14, 0.5 - odd


def meadow(pen: ImageDraw, box: Box, soil: Colour, spacing: float, draws: Draws) -> None:
    """Grass with hay drying on stakes."""
    tone, half = _tones(soil, draws)
    left, top, right, bottom = box
    for _ in range(26):
        x, y = draws.between(left, right), draws.between(top, bottom)
        pen.line([(int(x), int(y)), (int(x + 1), int(y - 4))], fill=half)
    for _ in range(int(9 - 4 * spacing)):
        x, depth = draws.between(left, right), draws.between(0.15, 1)
        y, size = top + (bottom - top) * depth, (5 + 8 * depth) * (0.8 + 0.6 * spacing)
        shape(pen, [(x - size * 0.6, y), (x, y - size * 1.7), (x + size * 0.6, y)], tone)


def stones(pen: ImageDraw, box: Box, soil: Colour, spacing: float, draws: Draws) -> None:
    """Karst: angular stones, smaller in the distance."""
    left, top, right, bottom = box
    tone, half = _tones(soil, draws)
    for k in range(int(64 - 36 * spacing)):
        depth = draws.between(0, 1)
        x, y = draws.between(left, right), top + (bottom - top) * depth * depth
        size = (2.5 + 6 * depth) * (0.8 + 0.7 * spacing)
        peak, shoulder = size * draws.between(0.6, 1.1), size * draws.between(0.3, 0.8)
        corners = [(x - size, y), (x - size * 0.4, y - peak), (x + shoulder, y - size * 0.7), (x + size, y)]
        shape(pen, corners, (tone, half)[k % 2])


def walls(pen: ImageDraw, box: Box, soil: Colour, spacing: float, draws: Draws) -> None:
    """Small plots between dry stone walls."""
    left, top, right, bottom = box
    tone, _ = _tones(soil, draws)
    for far, near, _wide in _fan(box, 26 + 34 * spacing, draws):
        pen.line([(int(far), top), (int(near), bottom)], fill=tone, width=3)
    y, gap = top + 3.0, 7 + 7 * spacing
    while y < bottom:
        pen.line([(left, int(y)), (right, int(y))], fill=tone, width=2 + int(gap * 0.08))
        y, gap = y + gap, gap * 1.45


def terraces(pen: ImageDraw, box: Box, soil: Colour, spacing: float, draws: Draws) -> None:
    """Steps up a slope: broken zigzag walls one above the other."""
    left, top, right, bottom = box
    tone, _ = _tones(soil, draws)
    y, gap = top + 4.0, 8 + 6 * spacing
    while y < bottom + gap:
        teeth = int((right - left) / (gap * 1.6)) + 2
        start = draws.between(-gap, 0)
        line = [(int(left + start + k * gap * 1.6), int(y - (k % 2) * gap * 0.75)) for k in range(teeth)]
        pen.line(line, fill=tone, width=2 + int(gap * 0.1))
        y, gap = y + gap, gap * 1.2


FIELDS: dict[str, Callable[[ImageDraw, Box, Colour, float, Draws], None]] = {
    "furrows": furrows,
    "meadow": meadow,
    "stones": stones,
    "strips": strips,
    "sunflowers": sunflowers,
    "terraces": terraces,
    "vines": vines,
    "walls": walls,
}

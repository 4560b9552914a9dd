"""Silhouettes of trees: the kinds differ in shape, never in colour."""

from collections.abc import Callable

from PIL.ImageDraw import ImageDraw

from waymark.sources.synthetic.draws import Draws

Colour = tuple[int, int, int]
BARK = (84, 66, 52)


def shade(colour: Colour, share: float) -> Colour:
    """Lighten (share above 1) or darken a colour.

    >>> shade((100, 50, 200), 1.5)
    (150, 75, 255)
    """
    red, green, blue = (max(0, min(255, int(part * share))) for part in colour)
    return red, green, blue


def disc(pen: ImageDraw, x: float, y: float, wide: float, high: float, colour: Colour) -> None:
    """Draw a filled ellipse around a middle, with whole pixels."""
    pen.ellipse((int(x - wide), int(y - high), int(x + wide), int(y + high)), fill=colour)


def shape(pen: ImageDraw, points: list[tuple[float, float]], colour: Colour) -> None:
    """Draw a filled polygon with whole pixels."""
    pen.polygon([(int(x), int(y)) for x, y in points], fill=colour)


def trunk(pen: ImageDraw, x: float, y: float, high: float, wide: float, colour: Colour = BARK) -> None:
    """Draw a stem from the ground up."""
    pen.rectangle((int(x - wide / 2), int(y - high), int(x + wide / 2), int(y)), fill=colour)


def cypress(pen: ImageDraw, x: float, y: float, h: float, leaf: Colour, _: Draws) -> None:
    """A dark column with a point."""
    trunk(pen, x, y, h * 0.2, h * 0.05)
    for side, tone in ((0.11, 0.75), (0.05, 1.15)):
        shape(pen, [(x, y - h * 1.15), (x + h * side, y - h * 0.5), (x + h * side * 0.8, y - h * 0.08),
                    (x - h * 0.11, y - h * 0.08), (x - h * 0.11, y - h * 0.5)], shade(leaf, tone))  # fmt: skip


def pine(pen: ImageDraw, x: float, y: float, h: float, leaf: Colour, _: Draws) -> None:
    """A stone pine: an umbrella on a long stem."""
    trunk(pen, x, y, h * 0.8, h * 0.06)
    pen.line([(int(x), int(y - h * 0.45)), (int(x + h * 0.25), int(y - h * 0.75))], fill=BARK, width=2)
    disc(pen, x, y - h * 0.8, h * 0.48, h * 0.16, shade(leaf, 0.7))
    disc(pen, x - h * 0.06, y - h * 0.86, h * 0.36, h * 0.09, shade(leaf, 1.15))


def olive(pen: ImageDraw, x: float, y: float, h: float, leaf: Colour, draws: Draws) -> None:
    """Low, wide and in clumps, on a forked stem."""
    for lean in (-0.16, 0.16):
        pen.line([(int(x), int(y)), (int(x + h * lean), int(y - h * 0.35))], fill=BARK, width=2)
    for off, tone in ((-0.28, 0.8), (0.28, 0.75), (0.0, 1.15)):
        disc(pen, x + h * off, y - h * draws.between(0.38, 0.46), h * 0.2, h * 0.15, shade(leaf, tone))


def palm(pen: ImageDraw, x: float, y: float, h: float, leaf: Colour, draws: Draws) -> None:
    """Drooping fronds around the top of a bare stem."""
    trunk(pen, x, y, h * 0.8, h * 0.06)
    top = y - h * 0.8
    for reach, rise in ((0.4, 0.05), (0.34, -0.22), (0.16, -0.34), (0.34, 0.26)):
        for side in (-1, 1):
            tip = (int(x + side * h * reach), int(top + h * rise))
            bend = (int(x + side * h * reach * 0.55), int(top + h * rise * 0.5 - h * 0.1))
            pen.line([(int(x), int(top)), bend, tip], fill=shade(leaf, draws.between(0.7, 1.2)), width=2)


def spruce(pen: ImageDraw, x: float, y: float, h: float, leaf: Colour, _: Draws) -> None:
    """Three triangles, one above the other."""
    trunk(pen, x, y, h * 0.15, h * 0.06)
    for foot, top, wide, tone in ((0.1, 0.5, 0.3, 0.7), (0.35, 0.78, 0.23, 0.85), (0.6, 1.1, 0.15, 1.0)):
        shape(pen, [(x - h * wide, y - h * foot), (x, y - h * top), (x + h * wide, y - h * foot)], shade(leaf, tone))


def oak(pen: ImageDraw, x: float, y: float, h: float, leaf: Colour, draws: Draws) -> None:
    """A big round crown on a short thick stem."""
    trunk(pen, x, y, h * 0.35, h * 0.1)
    disc(pen, x, y - h * 0.6, h * 0.38, h * 0.36, shade(leaf, 0.75))
    for _ in range(3):
        disc(pen, x + h * draws.between(-0.2, 0.2), y - h * draws.between(0.5, 0.8), h * 0.14, h * 0.1,
             shade(leaf, 1.1))  # fmt: skip


def poplar(pen: ImageDraw, x: float, y: float, h: float, leaf: Colour, _: Draws) -> None:
    """Three tall brooms in a row."""
    for off in (-0.26, 0.0, 0.26):
        trunk(pen, x + h * off, y, h * 0.3, h * 0.04)
        disc(pen, x + h * off, y - h * 0.66, h * 0.095, h * 0.5, shade(leaf, 0.75))
        disc(pen, x + h * off - h * 0.03, y - h * 0.7, h * 0.035, h * 0.36, shade(leaf, 1.2))


def willow(pen: ImageDraw, x: float, y: float, h: float, leaf: Colour, draws: Draws) -> None:
    """A dome whose branches hang to the ground."""
    trunk(pen, x, y, h * 0.5, h * 0.08)
    pen.pieslice((int(x - h * 0.42), int(y - h * 0.85), int(x + h * 0.42), int(y - h * 0.05)), 180, 360,
                 fill=shade(leaf, 0.8))  # fmt: skip
    for k in range(-5, 6):
        foot = y - h * draws.between(0.05, 0.25)
        side = int(x + h * 0.082 * k)
        pen.line([(side, int(y - h * 0.5)), (side, int(foot))], fill=shade(leaf, (0.7, 1.25)[k % 2]), width=2)


def birch(pen: ImageDraw, x: float, y: float, h: float, leaf: Colour, draws: Draws) -> None:
    """A white stem with dark marks, seen through a thin crown."""
    for k in range(6):
        disc(pen, x + h * draws.between(0.06, 0.2) * (-1) ** k, y - h * (0.42 + 0.11 * k), h * 0.13, h * 0.07,
             shade(leaf, draws.between(0.8, 1.2)))  # fmt: skip
    trunk(pen, x, y, h * 0.95, h * 0.06, (232, 232, 226))
    for k in range(4):
        pen.line([(int(x - h * 0.03), int(y - h * 0.2 * (k + 1))), (int(x + h * 0.03), int(y - h * 0.2 * (k + 1)))],
                 fill=(40, 38, 36))  # fmt: skip


def plum(pen: ImageDraw, x: float, y: float, h: float, leaf: Colour, _: Draws) -> None:
    """An orchard row of small balls on sticks."""
    for off in (-0.36, 0.0, 0.36):
        trunk(pen, x + h * off, y, h * 0.35, h * 0.045)
        disc(pen, x + h * off, y - h * 0.42, h * 0.14, h * 0.14, shade(leaf, 0.8))
        disc(pen, x + h * off - h * 0.03, y - h * 0.46, h * 0.06, h * 0.06, shade(leaf, 1.25))


TREES: dict[str, Callable[[ImageDraw, float, float, float, Colour, Draws], None]] = {
    "birch": birch,
    "cypress": cypress,
    "oak": oak,
    "olive": olive,
    "palm": palm,
    "pine": pine,
    "plum": plum,
    "poplar": poplar,
    "spruce": spruce,
    "willow": willow,
}

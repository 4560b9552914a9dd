"""Houses, church towers, utility poles and cars."""

from PIL.ImageDraw import ImageDraw

from waymark.sources.synthetic.draws import Draws
from waymark.sources.synthetic.trees import Colour, disc, shade, shape, trunk

WALLS = ((232, 224, 206), (214, 196, 160), (190, 182, 170), (226, 206, 190), (170, 120, 100), (206, 214, 214))
ROOFS = ((176, 84, 60), (140, 72, 58), (108, 100, 98), (150, 110, 84), (88, 84, 92), (198, 120, 90))
DARK = (52, 48, 50)
WOOD = (92, 80, 70)


def house(pen: ImageDraw, x: float, y: float, size: float, pitch: float, sprawl: float, draws: Draws) -> None:
    """Draw a house.

    Args:
        pen: draws on the picture.
        x: middle of the foot, pixels.
        y: foot, pixels.
        size: side of the house, pixels.
        pitch: 0 for a flat roof with a parapet's slope, 1 for one twice as high as the wall.
        sprawl: 0 for a tall house, 1 for a long one.
        draws: colours, and which side it shows.
    """
    wall, roof = draws.pick(WALLS), draws.pick(ROOFS)
    half = size * (0.36 + 0.34 * sprawl)
    eaves = y - size * (0.78 - 0.38 * sprawl)
    ridge = eaves - size * (0.08 + 0.62 * pitch)
    pen.rectangle((int(x - half), int(eaves), int(x + half), int(y)), fill=wall)
    if draws.chance(0.5):  # the gable faces us
        shape(pen, [(x - half, eaves), (x, ridge), (x + half, eaves)], shade(wall, 0.88))
        for side in (-1, 1):
            pen.line([(int(x), int(ridge)), (int(x + side * half * 1.15), int(eaves + 1))], fill=roof, width=3)
    else:
        slant = half * 0.3 * pitch
        shape(pen, [(x - half * 1.1, eaves), (x - half + slant, ridge), (x + half - slant, ridge),
                    (x + half * 1.1, eaves)], roof)  # fmt: skip
    windows = 2 + int(2 * sprawl + 0.5)
    high = (y - eaves) * 0.32
    for k in range(windows):
        middle = x - half + half * 2 * (k + 0.5) / windows
        top = eaves + (y - eaves) * 0.22
        pen.rectangle((int(middle - size * 0.06), int(top), int(middle + size * 0.06), int(top + high)), fill=DARK)


def tower(pen: ImageDraw, kind: str, x: float, y: float, h: float, draws: Draws) -> None:
    """Draw a church with a tower of the given kind: campanile, onion, needle or gable."""
    wall, roof = draws.pick(WALLS), draws.pick(ROOFS)
    side = draws.pick((-1, 1))
    shape(pen, [(x, y), (x, y - h * 0.3), (x + side * h * 0.18, y - h * 0.42), (x + side * h * 0.42, y - h * 0.42),
                (x + side * h * 0.42, y)], shade(wall, 0.9))  # fmt: skip
    shape(pen, [(x, y - h * 0.28), (x + side * h * 0.06, y - h * 0.45), (x + side * h * 0.46, y - h * 0.45),
                (x + side * h * 0.46, y - h * 0.28)], roof)  # fmt: skip
    half = h * 0.11
    if kind == "gable":  # a bare wall with bells in its openings
        shape(pen, [(x - half * 1.6, y), (x - half * 1.6, y - h * 0.5), (x, y - h * 0.72),
                    (x + half * 1.6, y - h * 0.5), (x + half * 1.6, y)], wall)  # fmt: skip
        for off in (-0.7, 0.7):
            disc(pen, x + half * off, y - h * 0.45, half * 0.42, half * 0.75, DARK)
        return
    top = y - h * {"campanile": 0.95, "onion": 0.62, "needle": 0.5}[kind]
    pen.rectangle((int(x - half), int(top), int(x + half), int(y)), fill=wall)
    pen.rectangle((int(x - half * 0.45), int(top + h * 0.06), int(x + half * 0.45), int(top + h * 0.18)), fill=DARK)
    if kind == "campanile":
        shape(pen, [(x - half * 1.2, top), (x, top - h * 0.16), (x + half * 1.2, top)], roof)
    elif kind == "onion":
        disc(pen, x, top - h * 0.1, half * 1.35, h * 0.12, shade(roof, 0.8))
        disc(pen, x, top - h * 0.26, half * 0.6, h * 0.07, shade(roof, 0.8))
        pen.line([(int(x), int(top - h * 0.45)), (int(x), int(top - h * 0.2))], fill=shade(roof, 0.7), width=2)
    else:
        shape(pen, [(x - half * 1.3, top), (x, top - h * 0.72), (x + half * 1.3, top)], shade(roof, 0.8))


def pole(pen: ImageDraw, kind: str, x: float, y: float, h: float) -> None:
    """Draw a utility pole of the given kind: tee, double, frame, lattice or trident."""

    def line(*points: tuple[float, float]) -> None:
        pen.line([(int(x + h * right), int(y - h * up)) for right, up in points], fill=WOOD, width=2)

    if kind == "frame":
        line((-0.13, 0), (0, 1), (0.13, 0))
        line((-0.08, 0.4), (0.08, 0.4))
        line((-0.16, 0.88), (0.16, 0.88))
    elif kind == "lattice":
        line((-0.12, 0), (-0.03, 1), (0.03, 1), (0.12, 0))
        for up in (0.1, 0.3, 0.5, 0.7):
            line((-0.1, up), (0.08, up + 0.18))
        line((-0.22, 0.82), (0.22, 0.82))
    else:
        line((0, 0), (0, 1))
    if kind == "tee":
        line((-0.16, 0.94), (0.16, 0.94))
    elif kind == "double":
        line((-0.2, 0.92), (0.2, 0.92))
        line((-0.2, 0.74), (0.2, 0.74))
    elif kind == "trident":
        line((-0.16, 1.05), (-0.16, 0.82), (0.16, 0.82), (0.16, 1.05))


def car(pen: ImageDraw, x: float, y: float, size: float, draws: Draws) -> None:
    """Draw a car, which says nothing about where it is."""
    paint: Colour = (draws.whole(30, 240), draws.whole(30, 240), draws.whole(30, 240))
    pen.rectangle((int(x - size), int(y - size * 0.55), int(x + size), int(y - size * 0.15)), fill=paint)
    shape(pen, [(x - size * 0.7, y - size * 0.5), (x - size * 0.4, y - size * 0.95), (x + size * 0.4, y - size * 0.95),
                (x + size * 0.7, y - size * 0.5)], shade(paint, 0.6))  # fmt: skip
    for off in (-0.6, 0.6):
        disc(pen, x + size * off, y - size * 0.15, size * 0.2, size * 0.2, DARK)


def lamp(pen: ImageDraw, x: float, y: float, h: float) -> None:
    """Draw a street lamp, which says nothing either."""
    trunk(pen, x, y, h, 2, DARK)
    disc(pen, x, y - h, h * 0.06, h * 0.06, (250, 240, 200))

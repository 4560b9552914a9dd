"""Made-up landmarks: buildings put together from wings and towers, photographed a long-tailed number of times."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

from waymark.sources.synthetic.backdrop import HEIGHT, WIDTH, Weather, hills, sky
from waymark.sources.synthetic.buildings import DARK, ROOFS, WALLS, car, house
from waymark.sources.synthetic.draws import Draws
from waymark.sources.synthetic.ground import FIELDS, SOILS
from waymark.sources.synthetic.places import Outlook
from waymark.sources.synthetic.trees import TREES, Colour, disc, shade, shape
from waymark.sources.synthetic.world import AREAS, Area

FEWEST = 2  # pictures of the rarest landmark
UNNAMED = 10  # one photo in so many shows no landmark
NOUNS = {
    "battlement": "Fortress",
    "dome": "Basilica",
    "flat": "Palace",
    "gable": "Hall",
    "lantern": "Lighthouse",
    "onion": "Abbey",
    "pyramid": "Tower",
    "spire": "Cathedral",
}
FIRST = ("Bre", "Sto", "Kra", "Lu", "Vi", "Mra", "Pe", "Du", "Ja", "Tre", "Go", "Sli")
LAST = ("zje", "binj", "kovac", "drava", "levo", "stina", "mir", "grad", "pole", "vac")
Pen = ImageDraw.ImageDraw


@dataclass(frozen=True)
class Part:
    """A wing or a tower, in shares of the landmark's size: its middle, half its width, its height, its top."""

    middle: float
    half: float
    high: float
    top: str
    columns: int
    rows: int


@dataclass(frozen=True)
class Landmark:
    """A landmark: its label, its name, the area it stands in, its parts from left to right, its colours."""

    label: str
    name: str
    area: Area
    parts: tuple[Part, ...]
    wall: Colour
    roof: Colour


def build(landmarks: int, seed: int) -> list[Landmark]:
    """Make up landmarks; with the same seed, more landmarks begin with the same ones."""
    built: list[Landmark] = []
    names: set[str] = set()
    for number in range(landmarks):
        draws = Draws(seed, "landmark", number)
        parts, left = [], -0.5
        while left < 0.4:
            half = draws.between(0.06, 0.2)
            high = draws.between(0.35, 0.6) if half > 0.12 else draws.between(0.65, 1.0)
            parts.append(Part(left + half, half, high, draws.pick(list(NOUNS)), draws.whole(1, 4), draws.whole(1, 3)))
            left += 2 * half
        noun = NOUNS[max(parts, key=lambda part: part.high).top]
        name = f"{noun} of {draws.pick(FIRST)}{draws.pick(LAST)}"
        while name in names:
            name = f"{name} {draws.pick(FIRST)}{draws.pick(LAST)}"
        names.add(name)
        label = f"L{number:02d}"
        built.append(Landmark(label, name, draws.pick(AREAS), tuple(parts), draws.pick(WALLS), draws.pick(ROOFS)))
    return built


def subjects(landmarks: int, photos: int, seed: int) -> list[int | None]:
    """Choose which landmark each photo shows, in a drawn order; one photo in ten shows none.

    The share of the k-th landmark goes with 1 / (k + 2), less what brings the last ones near nothing.
    """
    named = photos - photos // UNNAMED
    weights = [(landmarks + 15 - k - 2) / (k + 2) for k in range(landmarks)]
    counts = [max(FEWEST, int(named * weight / math.fsum(weights))) for weight in weights]
    if counts:
        counts[0] += max(0, named - sum(counts))
    shown = [number for number, count in enumerate(counts) for _ in range(count)][:named]
    everything: list[int | None] = [*shown, *[None] * (photos - len(shown))]
    return Draws(seed, "subjects").shuffled(everything)


def draw_photo(landmark: Landmark | None, draws: Draws) -> Image.Image:
    """Draw a photo of a landmark in its area, or of no landmark anywhere.

    Returns:
        An RGB picture of the canvas' size, larger than what the camera takes of it.
    """
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    pen = ImageDraw.Draw(picture)
    horizon, weather = draws.whole(80, 110), Weather.draw(draws)
    home = (landmark.area if landmark else draws.pick(AREAS)).character
    heading = draws.pick((0, 90, 180, 270))
    sky(picture, pen, horizon, weather, heading, draws)
    hills(pen, horizon, Outlook(heading, home, home, None, ()), weather, draws)
    soil = draws.pick(SOILS[draws.weighted(home.soils)])
    pen.rectangle((0, horizon, WIDTH, HEIGHT), fill=soil)
    FIELDS[draws.weighted(home.fields)](pen, (0, horizon, WIDTH, HEIGHT), soil, home.spacing, draws)
    if landmark:
        foot = horizon + draws.between(24, 50)
        _landmark(pen, landmark, WIDTH / 2 + draws.between(-24, 24), foot, draws.between(92, 132), draws)
    else:
        for _ in range(draws.whole(1, 3)):
            x, foot, size = draws.between(20, WIDTH - 20), horizon + draws.between(10, 30), draws.between(30, 60)
            house(pen, x, foot, size, home.pitch, home.sprawl, draws)
    for _ in range(draws.whole(1, 5)):
        kind = draws.weighted(home.trees)
        TREES[kind](pen, draws.between(0, WIDTH), horizon + draws.between(40, 80), draws.between(30, 66),
                    weather.leaf, draws)  # fmt: skip
    if draws.chance(0.4):
        car(pen, draws.between(0, WIDTH), HEIGHT - draws.between(20, 50), draws.between(12, 24), draws)
    return picture


def _landmark(pen: Pen, landmark: Landmark, x: float, foot: float, size: float, draws: Draws) -> None:
    """Draw a landmark as seen a little from the side, lit from either side."""
    turn = draws.between(0.8, 1.05)
    lit = draws.between(0.82, 1.0)
    for number, part in enumerate(landmark.parts):
        wall = shade(landmark.wall, lit if number % 2 else 1.0)
        middle, half = x + part.middle * size * turn, part.half * size * turn
        top = foot - part.high * size * 0.8
        TOPS[part.top](pen, middle, top, half, landmark.roof)
        pen.rectangle((int(middle - half), int(top), int(middle + half), int(foot)), fill=wall)
        across, down = 2 * half / (part.columns + 0.5), (foot - top) / (part.rows + 0.5)
        for column in range(part.columns):
            for row in range(part.rows):
                hole_x, hole_y = middle - half + across * (column + 0.75), top + down * (row + 0.6)
                wide, high = min(across * 0.24, 6), min(down * 0.28, 12)
                disc(pen, hole_x, hole_y - high * 0.5, wide, wide, DARK)
                pen.rectangle((int(hole_x - wide), int(hole_y - high * 0.5), int(hole_x + wide), int(hole_y + high)),
                              fill=DARK)  # fmt: skip


def _flat(pen: Pen, x: float, top: float, half: float, roof: Colour) -> None:
    pen.rectangle((int(x - half * 1.1), int(top - 4), int(x + half * 1.1), int(top)), fill=roof)


def _battlement(pen: Pen, x: float, top: float, half: float, roof: Colour) -> None:
    for k in range(-2, 3):
        middle = x + k * half * 0.45
        pen.rectangle((int(middle - half * 0.13), int(top - 8), int(middle + half * 0.13), int(top)), fill=roof)


def _spire(pen: Pen, x: float, top: float, half: float, roof: Colour) -> None:
    shape(pen, [(x - half, top), (x, top - 12 - half * 2.6), (x + half, top)], roof)


def _pyramid(pen: Pen, x: float, top: float, half: float, roof: Colour) -> None:
    shape(pen, [(x - half * 1.15, top), (x, top - half * 1.1), (x + half * 1.15, top)], roof)


def _gable(pen: Pen, x: float, top: float, half: float, roof: Colour) -> None:
    shape(pen, [(x - half * 1.1, top), (x - half * 0.7, top - half * 0.8), (x + half * 0.7, top - half * 0.8),
                (x + half * 1.1, top)], roof)  # fmt: skip


def _dome(pen: Pen, x: float, top: float, half: float, roof: Colour) -> None:
    disc(pen, x, top, half, half * 1.1, roof)
    pen.line([(int(x), int(top - half * 1.1 - 8)), (int(x), int(top - half))], fill=DARK, width=2)


def _onion(pen: Pen, x: float, top: float, half: float, roof: Colour) -> None:
    disc(pen, x, top - half * 0.5, half * 1.2, half * 0.9, roof)
    disc(pen, x, top - half * 1.7, half * 0.45, half * 0.5, roof)
    pen.line([(int(x), int(top - half * 2.2 - 10)), (int(x), int(top - half))], fill=roof, width=2)


def _lantern(pen: Pen, x: float, top: float, half: float, roof: Colour) -> None:
    pen.rectangle((int(x - half * 0.6), int(top - 14), int(x + half * 0.6), int(top)), fill=(250, 236, 170))
    pen.line([(int(x), int(top - 14)), (int(x), int(top))], fill=DARK, width=2)
    _pyramid(pen, x, top - 14, half * 0.75, roof)


TOPS: dict[str, Callable[[Pen, float, float, float, Colour], None]] = {
    "battlement": _battlement,
    "dome": _dome,
    "flat": _flat,
    "gable": _gable,
    "lantern": _lantern,
    "onion": _onion,
    "pyramid": _pyramid,
    "spire": _spire,
}

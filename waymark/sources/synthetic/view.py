"""One view of a place, put together from far to near."""

import math

from PIL import Image, ImageDraw

from waymark.sources.synthetic.backdrop import HEIGHT, LEAVES, WIDTH, Weather, blend, hills, sea, sky
from waymark.sources.synthetic.buildings import car, house, lamp, pole, tower
from waymark.sources.synthetic.draws import Draws
from waymark.sources.synthetic.ground import FIELDS, SOILS
from waymark.sources.synthetic.places import Outlook, nearness
from waymark.sources.synthetic.trees import TREES, Colour, shade, shape
from waymark.sources.synthetic.world import Mix

SEA_IN_VIEW_KM = 12.0  # nearer sea shows; hills hide what is further off
Pen = ImageDraw.ImageDraw


def tempered(mix: Mix) -> Mix:
    """Square the weights, so that what is common at a place stands out.

    >>> tempered({"oak": 2.0, "palm": 1.0})
    {'oak': 4.0, 'palm': 1.0}
    """
    return {kind: weight * weight for kind, weight in mix.items()}


def draw_view(outlook: Outlook, weather: Weather, draws: Draws) -> Image.Image:
    """Draw what a view shows.

    Args:
        outlook: what lies in that heading.
        weather: what the views of a place share.
        draws: everything that says nothing about the place.

    Returns:
        An RGB picture of `WIDTH` times `HEIGHT`, larger than what the camera takes of it.
    """
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    pen = ImageDraw.Draw(picture)
    horizon = draws.whole(70, 96)
    sky(picture, pen, horizon, weather, outlook.heading, draws)
    shore = horizon
    if outlook.sea_km is not None and outlook.sea_km <= SEA_IN_VIEW_KM:
        shore = horizon + int(8 + 44 * nearness(outlook.sea_km))
        sea(pen, horizon, shore, outlook, draws)
    else:
        hills(pen, horizon, outlook, weather, draws)
    _fields(pen, shore, outlook, draws)
    _village(pen, shore, outlook, draws)
    _road(pen, shore, outlook, draws)
    _trees(pen, shore, outlook, weather, draws)
    return picture


def _fields(pen: Pen, shore: int, outlook: Outlook, draws: Draws) -> None:
    """Draw a far and a near field."""
    place = outlook.near
    border = shore + int((HEIGHT - shore) * draws.between(0.3, 0.45))
    for top, bottom in ((shore, border), (border, HEIGHT)):
        soil: Colour = draws.pick(SOILS[draws.weighted(place.soils) if draws.chance(0.7) else draws.pick(list(SOILS))])
        pen.rectangle((0, top, WIDTH, bottom), fill=soil)
        kind = draws.weighted(tempered(place.fields))
        FIELDS[kind](pen, (0, top, WIDTH, bottom), soil, draws.bell(place.spacing, 0.12), draws)


def _village(pen: Pen, shore: int, outlook: Outlook, draws: Draws) -> None:
    """Draw houses along the far edge of the fields, often with a church."""
    place = outlook.near
    for k in draws.shuffled(range(5))[: draws.whole(2, 4)]:
        x, y = (k + draws.between(0.3, 0.7)) * WIDTH / 5, shore + draws.between(6, 20)
        house(pen, x, y, draws.between(28, 40), draws.bell(place.pitch, 0.12), place.sprawl, draws)
    if draws.chance(0.6):
        x, y = draws.between(0.2, 0.8) * WIDTH, shore + draws.between(4, 12)
        tower(pen, draws.weighted(tempered(place.towers)), x, y, draws.between(56, 76), draws)


def _road(pen: Pen, shore: int, outlook: Outlook, draws: Draws) -> None:
    """Draw a road to the horizon in some views, poles, and cars that say nothing."""
    if draws.chance(0.4):
        foot, goal = draws.between(0.1, 0.9) * WIDTH, draws.between(0.3, 0.7) * WIDTH
        grey = draws.whole(90, 150)
        shape(pen, [(goal - 2, shore), (goal + 2, shore), (foot + 34, HEIGHT), (foot - 34, HEIGHT)], (grey, grey, grey))
        shape(pen, [(goal, shore), (foot + 2, HEIGHT), (foot - 2, HEIGHT)], (236, 232, 220))
    kind = draws.weighted(tempered(outlook.near.poles))
    start, gap = draws.between(0, 60), draws.between(64, 90)
    for k in range(4):
        pole(pen, kind, start + k * gap, shore + 30, draws.between(66, 76))
    for _ in range(draws.whole(0, 2)):
        depth = draws.between(0.3, 1)
        car(pen, draws.between(0, WIDTH), shore + (HEIGHT - shore) * depth * 0.8, 8 + 16 * depth, draws)
    if draws.chance(0.15):
        lamp(pen, draws.between(0, WIDTH), shore + 50, 60)


def _trees(pen: Pen, shore: int, outlook: Outlook, weather: Weather, draws: Draws) -> None:
    """Draw trees and their shadows, the far ones first."""
    mix = tempered(outlook.near.trees)
    depths = sorted(draws.between(0.1, 0.6) for _ in range(draws.whole(6, 9)))
    sun = weather.sun_deg(outlook.heading)
    low = 0.5 + abs(weather.hour - 12.5) * 0.25  # shadows are longer in the morning and in the evening
    slots = draws.shuffled(range(len(depths)))
    for slot, depth in zip(slots, depths, strict=True):
        x, y = (slot + draws.between(0.1, 0.9)) * WIDTH / len(depths), shore + (HEIGHT - shore) * depth
        high = (34 + 46 * depth) * draws.between(0.85, 1.15)
        aside = -sun / 90 if abs(sun) <= 90 else -math.copysign(180 - abs(sun), sun) / 90
        down = 0.12 if abs(sun) < 90 else -0.12  # towards us when the sun is ahead
        shadow = (x + aside * high * low * 0.5, y + down * high)
        shape(pen, [(x - high * 0.08, y), (x + high * 0.08, y), (shadow[0] + high * 0.12, shadow[1]),
                    (shadow[0] - high * 0.12, shadow[1])], (66, 64, 60))  # fmt: skip
        leaf = shade(blend(weather.leaf, draws.pick(LEAVES), draws.between(0, 0.6)), draws.between(0.8, 1.3))
        TREES[draws.weighted(mix)](pen, x, y, high, leaf, draws)

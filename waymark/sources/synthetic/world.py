"""The country as the generator knows it: what grows, stands and rises where.

Twelve areas of Croatia are described by hand; in between, the descriptions blend, so that the look of a place
tells its position a little at every point. Only sums, products and quotients are used: the same bits everywhere.
"""

import math
from dataclasses import dataclass
from typing import Literal

from waymark.errors import ParameterError

KM_PER_DEGREE = 111.195  # of latitude, on a sphere of 6371.0088 km
BLEND_KM = 38.0  # about how far an area reaches into its neighbours
Heading = Literal[0, 90, 180, 270]
HEADINGS: tuple[Heading, ...] = (0, 90, 180, 270)
Mix = dict[str, float]


@dataclass(frozen=True)
class Character:
    """How a place looks; numbers from 0 to 1 where no unit is given, mixes as weights.

    Attributes:
        relief: height of the hills around.
        jagged: from rolling to jagged hills.
        spacing: from narrow to wide rows in the fields.
        pitch: from flat to steep roofs.
        sprawl: from tall to long houses.
        trees: kinds of trees.
        fields: kinds of fields.
        towers: kinds of church towers.
        poles: kinds of utility poles.
        soils: colours of the bare ground.
    """

    relief: float
    jagged: float
    spacing: float
    pitch: float
    sprawl: float
    trees: Mix
    fields: Mix
    towers: Mix
    poles: Mix
    soils: Mix


def _mix(text: str) -> Mix:
    """Read `"oak 3, plum 1"`."""
    pairs = (item.split() for item in text.split(","))
    return {name: float(weight) for name, weight in pairs}


@dataclass(frozen=True)
class Area:
    """An area of the country: its name, its middle in degrees, and its character."""

    name: str
    latitude: float
    longitude: float
    character: Character


def _area(name: str, latitude: float, longitude: float, numbers: tuple[float, ...], *mixes: str) -> Area:
    return Area(name, latitude, longitude, Character(*numbers, *(_mix(mix) for mix in mixes)))  # type: ignore[arg-type]


# name, middle, (relief, jagged, spacing, pitch, sprawl), trees, fields, towers, poles, soils
AREAS = (
    _area("Istria", 45.15, 13.90, (0.25, 0.10, 0.15, 0.25, 0.2),
          "pine 4, olive 2, oak 1", "vines 4, walls 1", "campanile 1", "tee 1", "red 3, straw 1"),
    _area("Kvarner", 45.05, 14.60, (0.60, 0.45, 0.35, 0.30, 0.1),
          "pine 2, cypress 1, spruce 2", "walls 3, stones 1", "campanile 2, needle 1", "tee 1, frame 1", "grey 1"),
    _area("Gorski kotar", 45.40, 14.90, (0.85, 0.30, 0.55, 0.95, 0.1),
          "spruce 6, birch 1", "meadow 4", "needle 1", "frame 1", "green 2, brown 1"),
    _area("Zagorje", 46.05, 15.90, (0.50, 0.00, 0.05, 0.80, 0.3),
          "birch 3, plum 3, spruce 1", "strips 3, vines 1", "onion 1", "double 1", "green 2, brown 1"),
    _area("Podravina", 46.15, 16.90, (0.12, 0.00, 0.40, 0.65, 0.7),
          "poplar 4, birch 2", "strips 3, furrows 1", "onion 1", "double 1, lattice 1", "green 1, straw 1"),
    _area("Banovina", 45.30, 16.20, (0.35, 0.10, 0.60, 0.75, 0.4),
          "oak 3, plum 4", "meadow 2, strips 2", "onion 1, needle 1", "frame 1, double 1", "green 2, brown 1"),
    _area("Slavonia", 45.40, 17.70, (0.22, 0.05, 0.75, 0.55, 0.8),
          "oak 5, willow 1, poplar 1", "furrows 3, sunflowers 1", "onion 2, needle 1", "lattice 1", "brown 2, straw 1"),
    _area("Baranja", 45.40, 18.80, (0.03, 0.00, 0.98, 0.45, 1.0),
          "willow 5, poplar 1", "sunflowers 3, furrows 2", "needle 1, onion 1", "lattice 1", "brown 2, straw 1"),
    _area("Lika", 44.60, 15.50, (0.80, 0.75, 0.80, 0.85, 0.3),
          "spruce 2, plum 2, birch 1", "meadow 2, stones 2", "needle 1", "frame 1", "straw 1, green 1"),
    _area("Zadar", 44.05, 15.60, (0.45, 0.70, 0.45, 0.15, 0.2),
          "olive 5, pine 1", "walls 3, stones 2", "campanile 1, gable 1", "tee 1, trident 1", "grey 1, red 1"),
    _area("Split", 43.50, 16.70, (0.75, 0.90, 0.65, 0.10, 0.1),
          "cypress 4, olive 2", "stones 4, vines 1", "gable 1, campanile 1", "trident 1", "grey 2, straw 1"),
    _area("Dubrovnik", 42.80, 17.80, (0.95, 1.00, 0.95, 0.05, 0.0),
          "palm 4, cypress 2", "terraces 4, stones 1", "gable 1", "trident 1", "grey 2, red 1"),
)  # fmt: skip


def cosine(latitude: float) -> float:
    """Return the cosine of a latitude by its series, to 1e-6 at up to 60 degrees.

    >>> round(cosine(60.0), 5)
    0.5
    """
    square = (latitude * 0.017453292519943295) * (latitude * 0.017453292519943295)
    return 1 - square / 2 * (1 - square / 12 * (1 - square / 30 * (1 - square / 56)))


def step(latitude: float, longitude: float, heading: float, distance_km: float) -> tuple[float, float]:
    """Walk straight along one of the four headings.

    Returns:
        Latitude and longitude in degrees, right to about 1 % up to 50 km.

    Raises:
        ParameterError: the heading is none of 0, 90, 180, 270.
    """
    degrees = distance_km / KM_PER_DEGREE
    if heading in (0, 180):
        return latitude + (degrees if heading == 0 else -degrees), longitude
    if heading in (90, 270):
        return latitude, longitude + (degrees if heading == 90 else -degrees) / cosine(latitude)
    raise ParameterError(f"heading {heading} is none of the four; use 0, 90, 180 or 270")


def character(latitude: float, longitude: float) -> Character:
    """Blend the areas' characters at a place, by inverse distance to the fourth power.

    Args:
        latitude: degrees.
        longitude: degrees.
    """
    shares = []
    for area in AREAS:
        north = (latitude - area.latitude) * KM_PER_DEGREE / BLEND_KM
        east = (longitude - area.longitude) * KM_PER_DEGREE * cosine(latitude) / BLEND_KM
        near = 1 / (1 + north * north + east * east)
        shares.append(near * near)
    total = math.fsum(shares)  # exact; sum() of floats differs between Pythons
    weighted = [(share / total, area.character) for share, area in zip(shares, AREAS, strict=True)]

    def number(name: str) -> float:
        return math.fsum(share * getattr(each, name) for share, each in weighted)

    def mix(name: str) -> Mix:
        blend: Mix = {}
        for share, each in weighted:
            kinds: Mix = getattr(each, name)
            for kind, weight in kinds.items():
                blend[kind] = blend.get(kind, 0.0) + share * weight / math.fsum(kinds.values())
        return blend

    numbers = (number(name) for name in ("relief", "jagged", "spacing", "pitch", "sprawl"))
    mixes = (mix(name) for name in ("trees", "fields", "towers", "poles", "soils"))
    return Character(*numbers, *mixes)  # type: ignore[arg-type]

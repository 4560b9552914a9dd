"""An answer, and how it is put to people."""

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd


@dataclass(frozen=True)
class Answer:
    """What a model says of one place or photo.

    Args:
        name: of the place, or of its picture.
        latitude: in degrees.
        longitude: in degrees.
        radius_50_km: that holds the truth in half the cases, None where unknown.
        radius_90_km: likewise in 90 %.
        cell: the most probable, None for models without cells.
        probability: of that cell.
        cells: `cell`, `probability`, `latitude`, `longitude` and `geometry` in EPSG:4326 of all cells, or None.
        jpegs: its pictures, as they are shown.
    """

    name: str
    latitude: float
    longitude: float
    radius_50_km: float | None = None
    radius_90_km: float | None = None
    cell: int | None = None
    probability: float | None = None
    cells: gpd.GeoDataFrame | None = None
    jpegs: Sequence[bytes] = ()


def facts(answer: Answer) -> dict[str, str]:
    """The figures of an answer in words, for people."""
    known = {
        "place": place_in_words(answer.latitude, answer.longitude),
        "radius": radius_in_words(answer.radius_50_km, answer.radius_90_km),
    }
    if answer.cell is not None and answer.probability is not None:
        known["cell"] = f"{answer.cell}, probability {answer.probability:.3f}"
    return known


def place_in_words(latitude: float, longitude: float) -> str:
    """A place with its five decimals, which are about a metre.

    >>> place_in_words(45.8131, -15.97)
    '45.81310, -15.97000'
    """
    return f"{latitude:.5f}, {longitude:.5f}"


def radius_in_words(radius_50_km: float | None, radius_90_km: float | None) -> str:
    """How far off the answer may be.

    >>> radius_in_words(3.21, 120.4)
    '3.2 km holds the truth in 50 % of cases, 120.4 km in 90 %'
    """
    known = {share: km for share, km in ((50, radius_50_km), (90, radius_90_km)) if km is not None}
    if not known:
        return "unknown: validation was too small to promise one"
    (first, km), *more = known.items()
    return ", ".join([f"{km:.1f} km holds the truth in {first} % of cases", *(f"{k:.1f} km in {s} %" for s, k in more)])

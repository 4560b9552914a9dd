"""Parts of a test in which a model is judged separately, so that a good mean hides no bad region or class."""

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.metrics.breakdown import region_of
from waymark.metrics.landmarks import UNSEEN, parts_of

PARTS = 8  # into so many at most a region is cut that holds all records
OTHERS = "other regions"


def place_slices(lat_lon: NDArray[np.float64], regions: gpd.GeoDataFrame, least: int) -> NDArray[np.object_]:
    """Name the region of each place, and cut regions that hold much of a test into parts.

    A part with more than a quarter of all places is halved at the median of its longer side, as long as both halves
    hold an eighth of all places and `least`. So a test of one country has four to eight parts. Regions with fewer
    places than `least` go together.

    Args:
        lat_lon: `(N,)` latitude, longitude in degrees, NaN where unknown.
        regions: with `name`, as `waymark.metrics.breakdown.named_regions` gives them.
        least: places that a part holds at least.

    Returns:
        `(N,)` names; None for an unknown place, and for those that are too few even together.
    """
    names = region_of(lat_lon, regions)
    counts = pd.Series(names, dtype=object).value_counts()
    small = set(counts[counts < least].index)
    slices = np.array([OTHERS if name in small else name for name in names], dtype=object)
    smallest = max(least, int(counts.sum()) // PARTS)
    for name in sorted(set(slices) - {None, OTHERS}):
        for part, rows in _halved(np.flatnonzero(slices == name), lat_lon, smallest):
            slices[rows] = f"{name}, {part}" if part else name
    slices[slices == OTHERS] = OTHERS if (slices == OTHERS).sum() >= least else None
    return slices


def _halved(rows: NDArray[np.int64], lat_lon: NDArray[np.float64], smallest: int) -> list[tuple[str, Any]]:
    queue, done = [rows], []
    while queue:
        part = queue.pop(0)
        halves = _halves(part, lat_lon) if len(part) >= 2 * smallest else []
        if halves and min(map(len, halves)) >= smallest:
            queue += halves
        else:
            done.append(part)
    return [("" if len(done) == 1 else _bounds(lat_lon[part]), part) for part in done]


def _halves(rows: NDArray[np.int64], lat_lon: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Cut at the median of the longer side, as it is on the ground."""
    places = lat_lon[rows]
    sides = np.ptp(places, axis=0) * [1.0, np.cos(np.radians(places[:, 0].mean()))]
    along = places[:, int(np.argmax(sides))]
    below = along <= np.median(along)
    return [rows[below], rows[~below]]


def _bounds(places: NDArray[np.float64]) -> str:
    """Write within which degrees places lie.

    >>> _bounds(np.array([[44.11, -1.5], [45.3, 2.04]]))
    '44.1N-45.3N 1.5W-2.0E'
    """
    low, high = places.min(axis=0), places.max(axis=0)
    (south, north), (west, east) = zip(low, high, strict=True)
    latitude = "-".join(f"{abs(degrees):.1f}{'N' if degrees >= 0 else 'S'}" for degrees in (south, north))
    longitude = "-".join(f"{abs(degrees):.1f}{'E' if degrees >= 0 else 'W'}" for degrees in (west, east))
    return f"{latitude} {longitude}"


def landmark_slices(landmark: "pd.Series[Any]", trained: "pd.Series[Any]") -> NDArray[np.object_]:
    """Tell for each record whether its landmark is frequent or rare in training: head, middle, tail or unseen.

    Args:
        landmark: `(N,)` first landmark of each record, null for one without.
        trained: `(M,)` first landmark of each training record, null likewise.

    Returns:
        `(N,)` the part of `waymark.metrics.landmarks.parts_of`; None for a record without a landmark.
    """
    parts = parts_of(trained.dropna().value_counts().sort_index())
    found: NDArray[np.object_] = landmark.map(parts).fillna(UNSEEN).to_numpy(dtype=object)
    found[landmark.isna().to_numpy()] = None
    return found

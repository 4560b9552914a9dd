"""Longitudes and outlines made ready for a flat map."""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

Coordinates = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """The part of the world that a map shows, in degrees; `east` exceeds 180 where it crosses the antimeridian."""

    west: float
    south: float
    east: float
    north: float

    @property
    def stretch(self) -> float:
        """Length of a degree of latitude as a multiple of one of longitude, in the middle of the map."""
        middle = np.radians((self.south + self.north) / 2)
        return float(1 / max(np.cos(middle), 0.2))

    def unroll(self, longitude: npt.ArrayLike) -> Coordinates:
        """Longitudes as the map's x, so that Fiji is in one piece; those off the map go to its nearer side."""
        x = np.asarray(longitude, dtype=float)
        middle = (self.west + self.east) / 2
        return (x - middle + 180) % 360 - 180 + middle


def frame(region: gpd.GeoDataFrame | None, latitude: npt.ArrayLike, longitude: npt.ArrayLike) -> Frame:
    """The smallest map that holds a region and places, with a small margin.

    Args:
        region: outline in EPSG:4326, or None.
        latitude: `(N,)` degrees, NaN where unknown.
        longitude: `(N,)` degrees, NaN where unknown.
    """
    points = np.stack([np.asarray(longitude, dtype=float), np.asarray(latitude, dtype=float)], axis=1)
    points = points[np.isfinite(points).all(axis=1)]
    boxes = np.concatenate([points, points], axis=1)  # west, south, east, north
    if region is not None and len(region):
        parts = shapely.get_parts(region.geometry.to_numpy())
        boxes = np.concatenate([boxes, shapely.bounds(parts[~shapely.is_empty(parts)])])
    if not len(boxes):
        return Frame(-180, -60, 180, 75)
    west, east = _span(boxes[:, 0], boxes[:, 2])
    south, north = float(boxes[:, 1].min()), float(boxes[:, 3].max())
    margin = max(0.03 * (east - west), 0.03 * (north - south), 0.01)
    return Frame(west - margin, max(south - margin, -90), east + margin, min(north + margin, 90))


def _span(west: Coordinates, east: Coordinates) -> tuple[float, float]:
    """Shortest stretch of longitudes that holds all intervals, found as what is left without the widest gap."""
    order = np.argsort(west, kind="stable")
    west, reached = west[order], np.maximum.accumulate(east[order])
    gaps = np.append(west[1:] - reached[:-1], west[0] + 360 - reached[-1])
    widest = int(np.argmax(gaps))
    if widest == len(gaps) - 1 or gaps[widest] <= gaps[-1]:
        return float(west[0]), float(reached[-1])
    return float(west[widest + 1]), float(reached[widest] + 360)


def rings(shapes: npt.NDArray[np.object_], view: Frame, *, detail: int = 2000) -> tuple[Coordinates, Coordinates]:
    """Rings of polygons as one line with a NaN between them, no finer than a map can show.

    Args:
        shapes: polygons in EPSG:4326.
        view: the map; a polygon that lies across its far side is drawn where its middle is.
        detail: steps over the width of the map that a simplified outline still keeps apart; 0 keeps every corner.

    Returns:
        x and y of the corners, `(N,)` each.
    """
    if detail:
        shapes = shapely.simplify(shapes, (view.east - view.west) / detail)
    lines = shapely.get_rings(shapely.get_parts(shapes))
    corners, line = shapely.get_coordinates(lines, return_index=True)
    if not len(corners):
        return np.empty(0), np.empty(0)
    first = np.flatnonzero(np.diff(line, prepend=-1))
    boxes = shapely.bounds(lines)
    middle = (boxes[:, 0] + boxes[:, 2]) / 2
    shift = view.unroll(middle) - middle
    x = corners[:, 0] + np.repeat(shift, np.diff(np.append(first, len(corners))))
    return np.insert(x, first[1:], np.nan), np.insert(corners[:, 1], first[1:], np.nan)

"""Circles on the sphere, and shapes across the antimeridian, as polygons that any map can draw."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Geod
from shapely.geometry import MultiPolygon, Polygon, box

from waymark.geo.sphere import EARTH_RADIUS_KM

STEPS = 180  # corners of a circle
SPHERE = Geod(a=1000 * EARTH_RADIUS_KM, b=1000 * EARTH_RADIUS_KM)

Degrees = npt.NDArray[np.float64]


def circle(latitude: float, longitude: float, radius_km: float) -> Any:
    """All places within a great-circle distance, in EPSG:4326, cut at the antimeridian.

    A circle around a pole reaches it; one of more than half the circumference is the whole world.

    Args:
        latitude: of the middle in degrees.
        longitude: of the middle in degrees.
        radius_km: in km.

    Returns:
        A polygon or several, in x longitude, y latitude.

    >>> [round(bound, 2) for bound in circle(45.0, 16.0, 111.195).bounds]
    [14.59, 44.0, 17.41, 46.0]
    """
    angle = math.degrees(radius_km / EARTH_RADIUS_KM)
    if angle >= 180:
        return box(-180, -90, 180, 90)
    over_north, over_south = latitude + angle > 90, latitude - angle < -90
    if over_north and over_south:  # what it leaves out is a circle around the antipode without any pole
        rest = circle(-latitude, longitude + 180, math.radians(180 - angle) * EARTH_RADIUS_KM)
        return box(-180, -90, 180, 90).difference(rest)
    y, x = _rim(latitude, longitude, radius_km)
    if not (over_north or over_south):
        return cut(Polygon(np.stack([x, y], axis=1)))
    pole = 90.0 if over_north else -90.0
    x = (x + 180) % 360 - 180
    order = np.argsort(x)
    x, y = x[order], y[order]
    at_edge = float(np.interp(180, [x[-1], x[0] + 360], [y[-1], y[0]]))
    corners = [(-180, at_edge), *zip(x, y, strict=True), (180, at_edge), (180, pole), (-180, pole)]
    return shapely.make_valid(Polygon(corners))


def _rim(latitude: float, longitude: float, radius_km: float) -> tuple[Degrees, Degrees]:
    """Latitudes and longitudes of the rim, the latter without a jump."""
    bearing = np.linspace(0, 360, STEPS, endpoint=False)
    here = np.full(STEPS, longitude), np.full(STEPS, latitude)
    x, y, _ = SPHERE.fwd(*here, bearing, np.full(STEPS, 1000 * radius_km))
    return y, longitude + (x - longitude + 180) % 360 - 180


def cut(shape: Any) -> Any:
    """Bring a shape to longitudes from -180 to 180, in two parts where it lies across the antimeridian.

    A polygon wider than half the world is taken for one whose corners stand at both ends of the map.
    """
    parts = [_unrolled(part) for part in shapely.get_parts(shape)]
    pieces = [
        shapely.transform(
            shapely.intersection(part, box(turn - 180, -90, turn + 180, 90)), lambda xy, by=turn: xy - [by, 0]
        )
        for part in parts
        for turn in (-360, 0, 360)
        if part.bounds[0] < turn + 180 and part.bounds[2] > turn - 180
    ]
    polygons = [polygon for piece in pieces for polygon in shapely.get_parts(piece) if isinstance(polygon, Polygon)]
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def _unrolled(part: Any) -> Any:
    west, _, east, _ = part.bounds
    if east - west <= 180:
        return part
    return shapely.transform(part, lambda xy: np.stack([xy[:, 0] % 360, xy[:, 1]], axis=1))

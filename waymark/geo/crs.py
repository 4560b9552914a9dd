"""Degrees to metres and back: the only module that creates pyproj transformers.

Coordinates are `(N, 2)` arrays: degrees WGS84 in the order latitude, longitude, and metres in
the order x, y.
"""

import logging
from functools import cache
from typing import Any

import numpy as np
import pyproj
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from waymark.errors import CoordinateError
from waymark.geo.sphere import EARTH_RADIUS_KM, great_circle_km

log = logging.getLogger(__name__)

# Correction grids fetched from the network would make a run differ from the same run offline.
pyproj.network.set_network_enabled(False)  # type: ignore[attr-defined]  # typed as private

GRACE_DEG = 0.5  # outlines extend slightly beyond the area of use: Croatia's by 0.005 degrees beyond EPSG:3765
UTM_EXTENT_DEG = 6.0  # the width of one zone
UTM_SOUTH_DEG, UTM_NORTH_DEG = -80.0, 84.0  # where UTM is defined
CONTINENT_RADIUS_DEG = 45.0  # about 5000 km; Lambert's angles have errors up to 9 degrees there, and more beyond
LONGEST = 60  # characters of an invalid CRS in messages; WKT fills a page
WORLD_CRS = "EPSG:8857"  # Equal Earth: the whole Earth, equal-area

Points = NDArray[np.float64]


def project(lat_lon: ArrayLike, crs: str, *, anywhere: bool = False) -> Points:
    """Project degrees to metres, rounded to the millimetre, because the last bits of PROJ depend on the CPU.

    A swapped pair projects to a finite wrong place, so the area of use is checked. A CRS without one (a PROJ string
    such as `resolve_crs` returns) accepts every place with finite coordinates in it.

    Args:
        lat_lon: `(N, 2)` latitude, longitude in degrees.
        crs: a projected CRS in metres, such as `EPSG:3765`, a PROJ string or WKT.
        anywhere: skip the check of the area of use.

    Returns:
        `(N, 2)` x, y in metres.

    Raises:
        CoordinateError: a point is not finite, not on Earth, or more than half a degree outside the area of use;
            or the CRS is unknown or not in metres.

    >>> project([[45.815, 15.982]], "EPSG:3765").tolist()
    [[459744.533, 5075146.206]]
    """
    points = _as_points(lat_lon)
    _check_on_earth(points)
    if not anywhere:
        _check_area_of_use(points, crs)
    x_m, y_m = _transformer(crs).transform(points[:, 1], points[:, 0])
    xy_m = np.round(np.column_stack([x_m, y_m]), 3) + 0.0  # + 0.0 turns -0.0 into 0.0
    bad = ~np.isfinite(xy_m.sum(axis=1))
    if bad.any():
        raise CoordinateError(f"{_name_points(points, bad)} cannot be projected to {crs}; set crs: auto or remove it")
    return xy_m


def unproject(xy_m: ArrayLike, crs: str, *, anywhere: bool = False) -> Points:
    """Convert metres back to degrees, rounded to 1e-9 degrees (0.1 mm) for the same reason as in `project`.

    Args:
        xy_m: `(N, 2)` x, y in metres.
        crs: their CRS.
        anywhere: skip the check of the area of use, for predictions of a model.

    Returns:
        `(N, 2)` latitude, longitude in degrees.

    Raises:
        CoordinateError: a point is not finite, is not a place on Earth in this CRS, or is more than half a degree
            outside its area of use; or the CRS is unknown or not in metres.

    >>> unproject([[459744.533, 5075146.206]], "EPSG:3765").round(6).tolist()
    [[45.815, 15.982]]
    """
    points = _as_points(xy_m)
    longitude, latitude = _transformer(crs).transform(points[:, 0], points[:, 1], direction="INVERSE")
    lat_lon = np.round(np.column_stack([latitude, longitude]), 9) + 0.0
    bad = ~np.isfinite(points.sum(axis=1)) | ~np.isfinite(lat_lon.sum(axis=1))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        x_m, y_m = points[first]
        raise CoordinateError(
            f"point {first} (x {x_m:g}, y {y_m:g}){_and_others(bad)} is not a place on Earth in {crs}; "
            "check that these are metres of this CRS in the order x, y"
        )
    if not anywhere:
        _check_area_of_use(lat_lon, crs)
    return lat_lon


def check_crs(crs: str) -> None:
    """Refuse a CRS that `resolve_crs` and `project` would refuse for any data.

    Raises:
        CoordinateError: the CRS is unknown or not in metres.
    """
    if crs != "auto":
        _parse(crs)


def resolve_crs(crs: str, lat_lon: ArrayLike) -> str:
    """Check a CRS, or choose one for the data if it is `auto`, and log which.

    `auto` chooses by the smallest box of latitude and longitude around the points (across the antimeridian if that is
    smaller):

    - up to 6 degrees of longitude between 80 S and 84 N, the UTM zone of its centre. Points outside the zone's area of
      use (a box across two zones, or across the equator) get the same zone as a PROJ string, with the same metres.
      The wider zones of Norway and Svalbard are not used;
    - up to 45 degrees from its centre, Lambert's azimuthal equal-area projection around the centre in whole degrees, so
      that a few more records rarely change it;
    - beyond that, or without any point, Equal Earth (EPSG:8857), which has a seam at the antimeridian.

    Args:
        crs: `auto`, an authority code, a PROJ string or WKT.
        lat_lon: `(N, 2)` latitude, longitude in degrees of the data.

    Returns:
        An authority code, a PROJ string or WKT.

    Raises:
        CoordinateError: the CRS is unknown or not in metres, or a point is not on Earth.

    >>> resolve_crs("auto", [[45.815, 15.982], [43.508, 16.440]])
    'EPSG:32633'
    """
    if crs != "auto":
        authority = _parse(crs).to_authority(min_confidence=100)
        return crs if authority is None else ":".join(authority)
    points = _as_points(lat_lon)
    _check_on_earth(points)
    chosen = _choose(points) if len(points) else WORLD_CRS
    log.info("crs auto: %s", describe_crs(chosen))
    return chosen


def describe_crs(crs: str) -> str:
    """Describe a CRS for people.

    >>> describe_crs("EPSG:3765")
    'HTRS96 / Croatia TM (EPSG:3765)'
    """
    parsed = _parse(crs)
    authority = parsed.to_authority(min_confidence=100)
    if authority is not None:
        return f"{parsed.name} ({':'.join(authority)})"
    if parsed.name != "unknown":
        return str(parsed.name)
    if parsed.utm_zone:
        return f"UTM zone {parsed.utm_zone}, extended beyond its borders"
    operation = parsed.coordinate_operation
    if operation is None:
        return crs
    values = {parameter.name: parameter.value for parameter in operation.params}
    latitude, longitude = (values.get(f"{axis} of natural origin", 0) for axis in ("Latitude", "Longitude"))
    return f"{operation.method_name} around latitude {latitude:g}, longitude {longitude:g}"


def smallest_arc(longitude: Points) -> tuple[float, float]:
    """Find the smallest arc that contains all longitudes: west, and east, which exceeds 180 across the antimeridian.

    >>> smallest_arc(np.array([179.0, -178.0, 178.5]))
    (178.5, 182.0)
    """
    ordered = np.unique(longitude)
    gaps = np.diff(ordered, append=ordered[0] + 360)
    last = int(np.argmax(gaps))  # the arc ends where the widest gap begins
    west, east = float(ordered[(last + 1) % len(ordered)]), float(ordered[last])
    return west, east if east >= west else east + 360


def _choose(points: Points) -> str:
    west, east = smallest_arc(points[:, 1])
    south, north = float(points[:, 0].min()), float(points[:, 0].max())
    latitude, longitude = (south + north) / 2, ((west + east) / 2 + 180) % 360 - 180
    if east - west <= UTM_EXTENT_DEG and south >= UTM_SOUTH_DEG and north <= UTM_NORTH_DEG:
        zone = int((longitude + 180) // 6) + 1
        code = f"EPSG:{32600 + zone if latitude >= 0 else 32700 + zone}"
        hemisphere = "" if latitude >= 0 else " +south"
        inside = not _outside(points, _parse(code).area_of_use).any()
        return code if inside else f"+proj=utm +zone={zone}{hemisphere} +datum=WGS84 +units=m +no_defs +type=crs"
    centre = np.round(np.array([latitude, longitude])) + 0.0
    if great_circle_km(points, centre).max() <= np.radians(CONTINENT_RADIUS_DEG) * EARTH_RADIUS_KM:
        return f"+proj=laea +lat_0={centre[0]:.0f} +lon_0={centre[1]:.0f} +datum=WGS84 +units=m +no_defs +type=crs"
    return WORLD_CRS


@cache
def _parse(crs: str) -> CRS:
    if crs == "auto":
        raise CoordinateError("crs auto depends on the data; pass the result of resolve_crs")
    try:
        parsed = CRS.from_user_input(crs)
    except CRSError as error:
        raise CoordinateError(
            f"crs {crs[:LONGEST]!r} is unknown to PROJ; use a code such as EPSG:3765, or auto"
        ) from error
    if not parsed.is_projected or any(axis.unit_conversion_factor != 1 for axis in parsed.axis_info[:2]):
        unit = parsed.axis_info[0].unit_name if parsed.axis_info else "no unit"
        raise CoordinateError(
            f"crs {crs[:LONGEST]} is not a projection in metres (unit: {unit}); use one such as EPSG:3765, or auto"
        )
    return parsed


@cache
def _transformer(crs: str) -> Transformer:
    return Transformer.from_crs("EPSG:4326", _parse(crs), always_xy=True)


def _as_points(values: ArrayLike) -> Points:
    points = np.asarray(values, dtype=np.float64)
    if points.size == 0:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise CoordinateError(
            f"coordinates have the shape {points.shape}; they need two columns, one row for each point"
        )
    return points


def _check_on_earth(points: Points) -> None:
    bad = ~((np.abs(points[:, 0]) <= 90) & (np.abs(points[:, 1]) <= 180))  # NaN is bad, too
    if bad.any():
        first = points[bad][0]
        swap = abs(first[1]) <= 90 and abs(first[0]) <= 180
        remedy = "swap latitude and longitude" if swap else "remove it"
        raise CoordinateError(f"{_name_points(points, bad)} is not a place on Earth; {remedy}")


def _check_area_of_use(points: Points, crs: str) -> None:
    area = _parse(crs).area_of_use
    if area is None:
        return
    bad = _outside(points, area)
    if bad.any():
        swapped = bool(~_outside(points[bad][:1, ::-1], area)[0])
        remedy = "swapped it is inside: swap latitude and longitude" if swapped else "remove it or set crs: auto"
        raise CoordinateError(
            f"{_name_points(points, bad)} is outside the area of use of {describe_crs(crs)}, latitude {area.south:g} "
            f"to {area.north:g}, longitude {area.west:g} to {area.east:g}; {remedy}"
        )


def _outside(points: Points, area: Any) -> NDArray[np.bool_]:
    """Mark points beyond the tolerance of an area of use; west > east means across the antimeridian."""
    width = (area.east - area.west) % 360 if area.east - area.west < 360 else 360.0
    beyond_west = (points[:, 1] - area.west + GRACE_DEG) % 360
    too_high_or_low = (points[:, 0] < area.south - GRACE_DEG) | (points[:, 0] > area.north + GRACE_DEG)
    return np.asarray(too_high_or_low | (beyond_west > width + 2 * GRACE_DEG))


def _name_points(points: Points, bad: NDArray[np.bool_]) -> str:
    first = int(np.flatnonzero(bad)[0])
    latitude, longitude = points[first]
    return f"point {first} (latitude {latitude:g}, longitude {longitude:g}){_and_others(bad)}"


def _and_others(bad: NDArray[np.bool_]) -> str:
    others = int(bad.sum()) - 1
    return f" and {others} more of {len(bad)}" if others else ""

"""Faulty coordinates: swapped, unreadable, null islands, outside the region."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from geopandas import GeoDataFrame
from numpy.typing import NDArray

from waymark.check.findings import Example, Finding, counted, first
from waymark.check.survey import Survey
from waymark.data.filters import bad_coordinates, off_region_km
from waymark.geo.sphere import great_circle_km

WIDEST_KM = 3000.0  # data that extends farther has no centre to test swapped coordinates against
NARROWEST_KM = 100.0
ROOM = 2.0  # times the distance from the centre within which three of four records are
QUARTER = 0.75
MOST_CENTRES = 200  # records that are candidates for the centre


@dataclass(frozen=True)
class Places:
    """State of the coordinates of N records.

    Attributes:
        fate: `(N,)` one of `in place`, `no coordinates`, `swapped`, `unreadable`, `null island`, `outside`, `far off`.
        detail: the coordinates of those that are wrong, as text.
        centre: latitude, longitude and radius in km of the data, if used in place of a region.
    """

    fate: NDArray[np.str_]
    detail: list[str]
    centre: tuple[float, float, float] | None

    def rows(self, fate: str) -> NDArray[np.int64]:
        """Return the rows of the records with one fate."""
        return np.flatnonzero(self.fate == fate)


def place_records(survey: Survey, region: GeoDataFrame | None, *, shore_km: float) -> Places:
    """Determine for each record whether its coordinates are plausible.

    Without a region the records are compared with the centre of the data, which three of four records define. More
    than a quarter of swapped records, or data that covers half the world, cannot be distinguished that way.

    Args:
        survey: the records.
        region: polygons in EPSG:4326, or None.
        shore_km: how far off the region a record may lie.
    """
    lat_lon = survey.lat_lon
    known = np.isfinite(lat_lon).all(axis=1)
    bad = bad_coordinates(survey.records)
    unusable = np.array([record_id in bad for record_id in survey.ids], dtype=bool)
    fate = np.where(known, "in place", "no coordinates").astype("<U16")
    detail = ["" for _ in survey.ids]
    for row in np.flatnonzero(unusable).tolist():
        reason = bad[survey.ids[row]]
        fate[row] = "null island" if reason.startswith("null island") else "unreadable"
        detail[row] = _degrees(lat_lon[row])
    centre = None if region is not None else _centre(lat_lon[known & ~unusable])
    for row, reason in _off(lat_lon, known & (fate != "null island"), region, centre, shore_km):
        if fate[row] != "unreadable" or reason == "swapped":
            fate[row] = reason
            detail[row] = _degrees(lat_lon[row])
    return Places(fate, detail, centre)


def _off(
    lat_lon: NDArray[np.float64],
    asked: NDArray[np.bool_],
    region: GeoDataFrame | None,
    centre: tuple[float, float, float] | None,
    shore_km: float,
) -> Iterator[tuple[int, str]]:
    """Find records outside the region or far from the others; `swapped` if exchanging the pair brings them in."""

    def inside(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        on_earth = (np.abs(points) <= (90, 180)).all(axis=1)
        within = np.zeros(len(points), dtype=bool)
        if region is not None:
            within[on_earth] = off_region_km(points[on_earth], region) <= shore_km
        elif centre is not None:
            within[on_earth] = great_circle_km(points[on_earth], np.array(centre[:2])) <= centre[2]
        return within

    if region is None and centre is None:
        return
    rows = np.flatnonzero(asked)
    out = rows[~inside(lat_lon[rows])]
    exchanged = inside(lat_lon[out][:, ::-1])
    for row, back in zip(out.tolist(), exchanged.tolist(), strict=True):
        yield row, "swapped" if back else "outside" if region is not None else "far off"


def _centre(lat_lon: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Find the centre of the data and the radius that contains plausible records; None if it is too wide."""
    if len(lat_lon) < 4:
        return None
    some = lat_lon[:: math.ceil(len(lat_lon) / MOST_CENTRES)]
    latitude, longitude = min(some, key=lambda place: float(great_circle_km(lat_lon, place).mean())).tolist()
    distance_km = great_circle_km(lat_lon, np.array([latitude, longitude]))
    radius_km = max(NARROWEST_KM, ROOM * float(np.quantile(distance_km, QUARTER)))
    return (latitude, longitude, radius_km) if radius_km <= WIDEST_KM else None


def _degrees(place: NDArray[np.float64]) -> str:
    latitude, longitude = ("none" if np.isnan(value) else f"{value:.5g}" for value in place)
    return f"latitude {latitude}, longitude {longitude}"


def coordinate_findings(survey: Survey, places: Places, region_name: str | None) -> Iterator[Finding]:
    """Report records that are swapped, outside, at null island or not on Earth."""
    where = f"in the region {region_name}" if region_name else "among the other records"

    def examples(fate: str) -> tuple[Example, ...]:
        rows = places.rows(fate).tolist()
        return first(Example((survey.ids[row],), places.detail[row], survey.paths_of(row)[:1]) for row in rows)

    if count := len(places.rows("swapped")):
        yield Finding(
            "swapped",
            f"{counted(count, 'record')} would be {where} with latitude and longitude exchanged",
            "A swapped pair is a valid place somewhere else: nothing fails, and the model is trained on a wrong place.",
            "Exchange the two numbers of these records in the source; if it is all of them, exchange the column names.",
            count,
            examples("swapped"),
        )
    if count := len(places.rows("unreadable")):
        yield Finding(
            "unreadable",
            f"{counted(count, 'record')} with coordinates that are not a place on Earth",
            "A half is missing, is not a number, or is beyond 90 or 180 degrees. The filter drops these records.",
            "Correct them in the source: degrees with a decimal point, latitude -90 to 90, longitude -180 to 180; leave"
            " both empty if the place is not known.",
            count,
            examples("unreadable"),
        )
    if count := len(places.rows("null island")):
        yield Finding(
            "null_island",
            f"{counted(count, 'record')} at latitude 0, longitude 0",
            "A device without a GPS fix writes 0, 0. The filter drops these records.",
            "Correct them, or leave both coordinates empty to keep the pictures for landmarks.",
            count,
            examples("null island"),
        )
    if count := len(places.rows("outside")):
        yield Finding(
            "outside",
            f"{counted(count, 'record')} outside the region {region_name}",
            "The filter drops records farther than shore_km from the outline.",
            "If they belong to your data, set a larger region (null accepts every place), or raise"
            " filter.shore_km for places at sea; otherwise the filter drops them.",
            count,
            examples("outside"),
        )
    if (count := len(places.rows("far off"))) and places.centre is not None:
        latitude, longitude, radius_km = places.centre
        yield Finding(
            "far_off",
            f"{counted(count, 'record')} far from all the others",
            f"They are more than {radius_km:,.0f} km from the centre of the data ({latitude:.2f}, {longitude:.2f}).",
            "If they are mistakes, correct them or list them in filter.exclude; otherwise leave them. Setting region"
            " makes this check more precise.",
            count,
            examples("far off"),
            needs_look=False,
        )
    if region_name is None and places.centre is None and len(places.rows("in place")) >= 4:
        yield Finding(
            "no_middle",
            "Swapped coordinates cannot be detected: the records are spread over the world",
            "Without a region, swapped coordinates are detected by comparison with the other records.",
            "Set region, if there is one, and check again.",
            len(places.rows("in place")),
            needs_look=False,
        )

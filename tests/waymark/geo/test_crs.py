import numpy as np
import pyproj
import pytest
from pyproj import Geod

from waymark.errors import CoordinateError
from waymark.geo import describe_crs, project, resolve_crs, unproject
from waymark.geo.crs import smallest_arc

HTRS = "EPSG:3765"
ZAGREB, SPLIT = (45.815, 15.982), (43.508, 16.440)


def croatian_points(number=2000):
    generator = np.random.default_rng(7)
    return generator.uniform((42.4, 13.5), (46.5, 19.4), (number, 2))


def test_project_then_unproject_returns_within_two_millimetres():
    points = croatian_points()
    back = unproject(project(points, HTRS), HTRS)
    _, _, apart_m = Geod(ellps="GRS80").inv(points[:, 1], points[:, 0], back[:, 1], back[:, 0])
    assert apart_m.max() < 0.002


def test_project_agrees_with_pyproj_asked_in_the_authoritys_own_axis_order():
    points = croatian_points(100)
    easting, northing = pyproj.Transformer.from_crs("EPSG:4258", HTRS).transform(points[:, 0], points[:, 1])
    np.testing.assert_allclose(project(points, HTRS), np.column_stack([easting, northing]), atol=0.0006)


def test_project_rounds_to_the_millimetre_and_has_no_negative_zero():
    xy_m = project(croatian_points(), HTRS)
    assert (xy_m == np.round(xy_m, 3)).all()
    assert not np.signbit(project([[-1e-12, -1e-12]], "EPSG:8857")).any()


def test_pair_distances_over_croatia_are_up_to_255_m_wrong_as_the_docs_say():
    points = croatian_points(4000)
    xy_m = project(points, HTRS)
    _, _, true_m = Geod(ellps="GRS80").inv(points[::2, 1], points[::2, 0], points[1::2, 1], points[1::2, 0])
    error_m = np.abs(np.hypot(*(xy_m[::2] - xy_m[1::2]).T) - true_m)
    assert 20 < error_m.max() < 255


def test_empty_input_gives_empty_output():
    assert project(np.empty((0, 2)), HTRS).shape == (0, 2)
    assert unproject([], HTRS).shape == (0, 2)


@pytest.mark.parametrize("bad", [(np.nan, 16.0), (np.inf, 16.0), (90.1, 0.0), (0.0, -180.1)])
def test_points_off_the_earth_raise_and_name_the_first(bad):
    with pytest.raises(CoordinateError, match=r"point 1 .* and 1 more of 3 is not a place on Earth"):
        project([ZAGREB, bad, bad], "EPSG:8857")


def test_swapped_points_are_named_and_the_swap_is_told():
    with pytest.raises(CoordinateError, match=r"point 1 \(latitude 15.982, longitude 45.815\).*swap latitude and long"):
        project([SPLIT, ZAGREB[::-1]], HTRS)
    with pytest.raises(CoordinateError, match="not a place on Earth; swap latitude and longitude"):
        project([(139.7, 35.7)], "EPSG:8857")


def test_null_island_is_outside_and_a_swap_is_not_proposed():
    with pytest.raises(CoordinateError, match=r"outside the area of use of HTRS96.*remove it or set crs: auto"):
        project([(0.0, 0.0)], HTRS)


def test_half_a_degree_of_grace_and_no_more():
    area = pyproj.CRS(HTRS).area_of_use
    assert len(project([(area.north + 0.49, 16.0), (45.0, area.west - 0.49)], HTRS)) == 2
    for point in [
        (area.north + 0.51, 16.0),
        (area.south - 0.51, 16.0),
        (45.0, area.west - 0.51),
        (45.0, area.east + 0.51),
    ]:
        with pytest.raises(CoordinateError, match="outside the area of use"):
            project([point], HTRS)


def test_area_of_use_across_the_antimeridian():
    new_zealand = "EPSG:3851"  # NZGD2000 / NZCS2000, 160.6 E to 171.2 W
    area = pyproj.CRS(new_zealand).area_of_use
    assert area.west > area.east
    points = [(-44.0, -176.5), (-41.3, 174.8), (-41.3, 180.0), (-41.3, -180.0)]
    np.testing.assert_allclose(unproject(project(points, new_zealand), new_zealand)[:2], points[:2], atol=1e-7)
    with pytest.raises(CoordinateError, match="outside the area of use"):
        project([(-41.3, 0.0)], new_zealand)


def test_unproject_checks_the_area_of_use_unless_told_not_to():
    with pytest.raises(CoordinateError, match="outside the area of use"):
        unproject([(0.0, 0.0)], HTRS)
    assert abs(unproject([(0.0, 0.0)], HTRS, anywhere=True)[0, 0]) < 1e-6
    for xy_m in [(np.nan, 0.0), (1e9, 1e9)]:
        with pytest.raises(CoordinateError, match="is not a place on Earth in EPSG:3765"):
            unproject([xy_m], HTRS, anywhere=True)


@pytest.mark.parametrize(
    ("crs", "message"),
    [
        ("EPSG:4326", "not a projection in metres .*degree.*use one such as EPSG:3765, or auto"),
        ("EPSG:2263", "not a projection in metres .*foot"),
        ("EPSG:999999", "unknown to PROJ; use a code"),
        ("Croatia", "unknown to PROJ; use a code"),
    ],
)
def test_crs_that_is_unknown_or_not_metric_is_refused_with_a_remedy(crs, message):
    for call in (lambda: resolve_crs(crs, []), lambda: project([ZAGREB], crs)):
        with pytest.raises(CoordinateError, match=message):
            call()


def test_unresolved_auto_is_refused():
    with pytest.raises(CoordinateError, match="resolve_crs"):
        project([ZAGREB], "auto")


@pytest.mark.parametrize(
    ("points", "crs"),
    [
        ([ZAGREB, SPLIT], "EPSG:32633"),
        ([(-33.9, 18.4)], "EPSG:32734"),
        ([(-17.0, 179.5), (-17.0, 178.0)], "EPSG:32760"),
        ([(45.0, 13.5), (43.0, 19.4)], "+proj=utm +zone=33 +datum=WGS84"),  # beyond the border of the zone at 18 E
        ([(-2.0, 37.0), (3.0, 38.0)], "+proj=utm +zone=37 +datum=WGS84"),  # across the equator
        ([(-17.0, 179.0), (-17.0, -179.0)], "+proj=utm +zone=1 +south"),  # 2 degrees, not 358
        ([(85.0, 10.0)], "+proj=laea +lat_0=85 +lon_0=10"),
        ([(36.0, -9.0), (60.0, 30.0)], "+proj=laea +lat_0=48 +lon_0=10"),
        ([(-40.0, 150.0), (40.0, -100.0), (0.0, 0.0)], "EPSG:8857"),
        ([], "EPSG:8857"),
    ],
)
def test_auto_chooses_by_the_extent_and_what_it_chooses_holds_the_data(points, crs):
    chosen = resolve_crs("auto", points)
    assert chosen.startswith(crs)
    back = unproject(project(points, chosen), chosen)
    np.testing.assert_allclose(back, np.reshape(points, (-1, 2)), atol=1e-7)
    assert describe_crs(chosen)


def test_a_zone_as_a_proj_string_has_the_same_metres_as_its_code():
    inside = [ZAGREB, SPLIT]
    assert (project(inside, "+proj=utm +zone=33 +datum=WGS84 +type=crs") == project(inside, "EPSG:32633")).all()


def test_a_few_more_records_do_not_change_the_lambert_centre():
    points = [(36.0, -9.0), (60.0, 31.0)]
    assert resolve_crs("auto", points) == resolve_crs("auto", [*points, (60.4, 31.3), (50.0, 10.0)])


def test_crs_given_is_kept_in_the_authoritys_spelling():
    assert resolve_crs("epsg:3765", [(0.0, 0.0)]) == HTRS
    assert describe_crs("+proj=laea +lat_0=48 +lon_0=10 +datum=WGS84 +type=crs").endswith("latitude 48, longitude 10")


def test_smallest_arc_of_one_point_and_of_both_ends():
    assert smallest_arc(np.array([16.0])) == (16.0, 16.0)
    assert smallest_arc(np.array([-180.0, 180.0])) == (180.0, 180.0)
    assert smallest_arc(np.array([-10.0, 100.0])) == (-10.0, 100.0)


def test_the_network_stays_off():
    assert not pyproj.network.is_network_enabled()

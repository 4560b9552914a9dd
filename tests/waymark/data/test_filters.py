import time
import unicodedata
from collections import Counter

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import shapely
from pyproj import Geod
from scipy.stats import kstest

from waymark.data.filters import (
    Rules,
    bad_coordinates,
    beyond_fraction,
    by_landmark,
    coordinates,
    count_reasons,
    exact_duplicates,
    excluded,
    hash_share,
    outside_region,
    select,
)
from waymark.data.records import records_table
from waymark.data.splits import by_hash
from waymark.errors import CoordinateError
from waymark.geo import load_region

GEOD = Geod(ellps="WGS84")
ZAGREB = (45.815, 15.982)


def row(record_id, **more):
    return {"record_id": record_id, "views": [{"path": f"images/{record_id}.jpg", "heading_deg": None}], **more}


def places(lat_lon):
    """Records p0000, p0001, ... at these places."""
    return records_table(
        [
            row(f"p{number:04}", latitude=latitude, longitude=longitude)
            for number, (latitude, longitude) in enumerate(lat_lon)
        ]
    )


@pytest.fixture(scope="module")
def croatia():
    return load_region("HRV")


def test_hash_share_is_uniform():
    shares = [hash_share(f"place-{number:05}", 1) for number in range(10_000)]
    assert 0 <= min(shares) < max(shares) < 1
    assert kstest(shares, "uniform").pvalue > 0.01
    other = [hash_share(f"place-{number:05}", 2) for number in range(10_000)]
    assert abs(np.corrcoef(shares, other)[0, 1]) < 0.03


def test_coordinates_are_nan_where_there_are_none():
    found = coordinates(places([(45.0, 16.0), (None, None), (None, 16.0)]))
    np.testing.assert_array_equal(found, [[45, 16], [np.nan, np.nan], [np.nan, 16]])


def test_excluded_goes_by_id_and_by_any_landmark():
    records = records_table(
        [row("a", landmarks=["tower"]), row("b", landmarks=["arch", "tower"]), row("c", landmarks=["arch"]), row("d")]
    )
    assert excluded(records, ["tower", "d", "nobody"]).keys() == {"a", "b", "d"}
    assert excluded(records, []) == {}
    assert set(excluded(records, ["d"]).values()) == {"excluded by name"}
    records = records_table([row("Café"), row("x", landmarks=["Đé"]), row("y")])
    assert set(excluded(records, [unicodedata.normalize("NFD", name) for name in ("Café", "Đé")])) == {"Café", "x"}


@pytest.mark.parametrize(
    ("latitude", "longitude", "reason"),
    [
        (45.0, None, "unreadable coordinates"),
        (None, 16.0, "unreadable coordinates"),
        (float("nan"), 16.0, "unreadable coordinates"),
        (45.0, float("nan"), "unreadable coordinates"),
        (float("nan"), float("nan"), "unreadable coordinates"),
        (90.01, 16.0, "unreadable coordinates: 90.01, 16.0 is no place on Earth"),
        (-91.0, 16.0, "is no place on Earth"),
        (45.0, 180.5, "is no place on Earth"),
        (45.0, -181.0, "is no place on Earth"),
        (float("inf"), 16.0, "is no place on Earth"),
        (0.0, 0.0, "null island"),
        (-0.0099, 0.0099, "null island"),
    ],
)
def test_bad_coordinates_are_dropped_with_their_reason(latitude, longitude, reason):
    dropped = bad_coordinates(places([ZAGREB, (latitude, longitude)]))
    assert dropped.keys() == {"p0001"}
    assert reason in dropped["p0001"]


def test_good_coordinates_and_none_at_all_stay():
    assert bad_coordinates(places([ZAGREB, (None, None), (90, 180), (-90, -180), (0.0, 16.0), (0.011, 0.0)])) == {}


@pytest.fixture(scope="module")
def geodesic_km(croatia):
    """Distance to the nearest of the outline's vertices on the ellipsoid, its edges cut to about 100 m."""
    vertices = shapely.get_coordinates(shapely.segmentize(croatia.geometry.union_all(), 0.001))

    def measure(latitude, longitude):
        flat = (vertices - [longitude, latitude]) * [np.cos(np.radians(latitude)), 1]
        near = vertices[np.argsort((flat**2).sum(axis=1))[:500]]
        start = np.full((2, len(near)), [[longitude], [latitude]])
        return GEOD.inv(*start, *near.T)[2].min() / 1000

    return measure


@pytest.mark.parametrize("tolerance_km", [0, 5, 20])
def test_outside_region_agrees_with_distances_on_the_ellipsoid(croatia, geodesic_km, tolerance_km):
    draws = np.random.default_rng(3)
    points = np.column_stack([draws.uniform(42.2, 46.8, 150), draws.uniform(13.2, 19.7, 150)])
    outline = croatia.geometry.union_all()
    truth_km = np.array(
        [0 if outline.contains(shapely.Point(lon, lat)) else geodesic_km(lat, lon) for lat, lon in points]
    )
    inside = np.concatenate([points, points[truth_km == 0]])  # most inside, or swapped columns would be looked for
    dropped = outside_region(places(inside), croatia, tolerance_km=tolerance_km)
    for number, km in enumerate(truth_km):
        if km == 0 or abs(km - tolerance_km) > 0.005 * km + 0.1:
            assert (f"p{number:04}" in dropped) == (km > tolerance_km), (points[number], km)
    assert 0 < len(dropped) < len(points)


def test_outside_region_says_by_how_far(croatia, geodesic_km):
    dropped = outside_region(places([ZAGREB, ZAGREB, (45.0, 12.5), (-33.9, 18.4)]), croatia, tolerance_km=5)
    assert dropped.keys() == {"p0002", "p0003"}
    assert float(dropped["p0002"].split()[-2]) == pytest.approx(geodesic_km(45.0, 12.5), abs=1)
    assert dropped["p0003"] == "outside the region: by far"


def test_records_without_coordinates_have_no_region_to_leave(croatia):
    assert outside_region(places([ZAGREB, (None, None)]), croatia, tolerance_km=0) == {}
    assert outside_region(places([(None, None)]), croatia, tolerance_km=0) == {}


def test_a_tolerance_reaches_beyond_the_zone_of_its_projection():
    """UTM zone 33 begins at 12 E; the record lies 0.55 degrees west of it."""
    box = gpd.GeoDataFrame(geometry=[shapely.box(12, 45, 13, 46)], crs="EPSG:4326")
    records = places([(45.5, 12.5), (45.5, 12.6), (45.5, 11.45)])
    assert GEOD.inv(11.45, 45.5, 12, 45.5)[2] == pytest.approx(43_000, abs=100)
    assert outside_region(records, box, tolerance_km=60) == {}
    assert outside_region(records, box, tolerance_km=40).keys() == {"p0002"}


def test_swapped_coordinates_are_an_error_that_says_so(croatia):
    draws = np.random.default_rng(4)
    inland = np.column_stack([draws.uniform(45.4, 45.7, 50), draws.uniform(17, 18.5, 50)])
    with pytest.raises(
        CoordinateError, match="look swapped: 50 of 50 records lie in the region once they are exchanged"
    ):
        outside_region(places(inland[:, ::-1]), croatia, tolerance_km=5)
    mixed = np.concatenate([inland[:20, ::-1], inland[20:]])
    assert len(outside_region(places(mixed), croatia, tolerance_km=5)) == 20  # a few are dropped, not refused


def test_records_elsewhere_are_dropped_not_called_swapped(croatia):
    dropped = outside_region(places([(48.85, 2.35), (52.5, 13.4), (10.0, 170.0)]), croatia, tolerance_km=5)
    assert len(dropped) == 3


def test_of_exact_duplicates_the_first_by_id_stays():
    digests = {f"images/{name}.jpg": content for name, content in [("a", "1"), ("b", "1"), ("c", "2"), ("d", "1")]}
    records = records_table([row(name) for name in "dbca"])
    assert exact_duplicates(records, digests) == {"b": "exact duplicate: of a", "d": "exact duplicate: of a"}


def test_a_duplicate_shares_all_views_in_their_order():
    def record(record_id, *paths):
        return {"record_id": record_id, "views": [{"path": path, "heading_deg": None} for path in paths]}

    digests = {"1": "x", "2": "y", "3": "x", "4": "y", "5": "x"}
    records = records_table(
        [record("a", "1", "2"), record("b", "3", "4"), record("c", "2", "1"), record("d", "5"), record("e", "1", "4")]
    )
    assert exact_duplicates(records, digests).keys() == {"b", "e"}


def test_missing_pictures_are_nobodys_duplicates():
    assert exact_duplicates(records_table([row("a"), row("b")]), {}) == {}


def test_fraction_is_stable_and_nested():
    records = records_table([row(f"r{number:05}") for number in range(4000)])
    kept = {}
    for fraction in (0.1, 0.5, 1.0):
        dropped = beyond_fraction(records, fraction, 1)
        kept[fraction] = set(records["record_id"].to_pylist()) - dropped.keys()
        assert len(kept[fraction]) / 4000 == pytest.approx(fraction, abs=0.025)
        assert beyond_fraction(records.slice(1000, 50), fraction, 1).items() <= dropped.items()
    assert kept[0.1] < kept[0.5] < kept[1.0]
    assert beyond_fraction(records, 0.1, 1).keys() != beyond_fraction(records, 0.1, 2).keys()
    assert beyond_fraction(records, 0.1, 1).popitem()[1] == "not in the fraction: of 0.1"


def test_fraction_keeps_groups_together():
    records = records_table([row(f"r{number:03}", group=f"g{number % 40}") for number in range(400)])
    dropped = beyond_fraction(records, 0.5, 1)
    groups = {}
    for record in records.to_pylist():
        groups.setdefault(record["group"], set()).add(record["record_id"] in dropped)
    assert all(len(fates) == 1 for fates in groups.values())
    assert 0 < len(dropped) < 400


def test_what_a_fraction_keeps_is_divided_as_all_would_be():
    """The seeds of filter and split are both 1 by default: one hash for both would leave training only."""
    ids = [f"r{number:05}" for number in range(10_000)]
    dropped = beyond_fraction(records_table([row(record_id) for record_id in ids]), 0.1, 1)
    counts = Counter(by_hash([record_id for record_id in ids if record_id not in dropped], (0.8, 0.1, 0.1), 1).values())
    assert counts["test"] / counts.total() == pytest.approx(0.1, abs=0.04)
    assert counts["val"] / counts.total() == pytest.approx(0.1, abs=0.04)


def test_what_max_images_keeps_is_divided_as_all_would_be():
    ids = [f"r{number:05}" for number in range(10_000)]
    records = records_table([row(record_id, landmarks=["tower"]) for record_id in ids])
    dropped = by_landmark(records, min_images=None, max_images=1000, largest=None, seed=1)
    counts = Counter(by_hash([record_id for record_id in ids if record_id not in dropped], (0.8, 0.1, 0.1), 1).values())
    assert counts.total() == 1000
    assert counts["test"] / 1000 == pytest.approx(0.1, abs=0.04)


@pytest.fixture
def landmarks():
    """Arch has 5, bridge and tower 3, dome 1, and two records show none."""
    names = ["arch"] * 5 + ["tower"] * 3 + ["bridge"] * 3 + ["dome"]
    rows = [row(f"{name}{number:02}", landmarks=[name, "dome"]) for number, name in enumerate(names)]
    return records_table([*rows, row("none-1"), row("none-2")])


def kept_landmarks(records, **limits):
    limits = {"min_images": None, "max_images": None, "largest": None, "seed": 1, **limits}
    dropped = by_landmark(records, **limits)
    kept = records.filter(pc.invert(pc.is_in(records["record_id"], pc.cast(list(dropped), "string"))))
    return Counter(its[0] if its else None for its in kept["landmarks"].to_pylist())


def test_landmarks_with_too_few_go_and_records_without_one_stay(landmarks):
    assert kept_landmarks(landmarks) == {"arch": 5, "tower": 3, "bridge": 3, "dome": 1, None: 2}
    assert kept_landmarks(landmarks, min_images=3) == {"arch": 5, "tower": 3, "bridge": 3, None: 2}
    assert kept_landmarks(landmarks, min_images=4) == {"arch": 5, None: 2}
    assert kept_landmarks(landmarks, min_images=6) == {None: 2}


def test_the_largest_are_kept_with_ties_by_name(landmarks):
    assert kept_landmarks(landmarks, largest=2) == {"arch": 5, "bridge": 3, None: 2}
    assert kept_landmarks(landmarks, largest=3) == {"arch": 5, "bridge": 3, "tower": 3, None: 2}
    assert kept_landmarks(landmarks, largest=9, min_images=2) == {"arch": 5, "bridge": 3, "tower": 3, None: 2}


def test_a_cap_keeps_some_of_each_and_the_same_ones_every_time(landmarks):
    assert kept_landmarks(landmarks, max_images=2) == {"arch": 2, "tower": 2, "bridge": 2, "dome": 1, None: 2}
    limits = {"min_images": None, "max_images": 2, "largest": None}
    chosen = [by_landmark(landmarks, **limits, seed=seed).keys() for seed in (1, 1, *range(2, 8))]
    assert chosen[0] == chosen[1]
    assert len({tuple(sorted(keys)) for keys in chosen}) > 1


@pytest.fixture(scope="module")
def many():
    """40 landmarks with 10, 30, 50 ... 790 records."""
    names = [f"L{number:02}" for number in range(40) for _ in range(10 + 20 * number)]
    return records_table([row(f"r{number:05}", landmarks=[name]) for number, name in enumerate(names)])


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({"min_images": 250}, range(12, 40)),
        ({"min_images": 500}, range(25, 40)),
        ({"min_images": 1000}, ()),
        ({"largest": 27}, range(13, 40)),
        ({"min_images": 250, "largest": 27}, range(13, 40)),
        ({"min_images": 500, "largest": 27}, range(25, 40)),
        ({"min_images": 250, "largest": 27, "max_images": 100}, range(13, 40)),
        ({"min_images": 250, "largest": 5, "max_images": 740}, range(35, 40)),
    ],
)
def test_the_least_number_comes_first_then_the_largest_then_the_cap(many, limits, kept):
    """`largest` ranks by all of a landmark's records, and the cap leaves nobody with too few."""
    cap = limits.get("max_images") or 10_000
    assert kept_landmarks(many, **limits) == {f"L{number:02}": min(cap, 10 + 20 * number) for number in kept}


def test_rules_count_after_copies_and_exclusions_are_gone():
    """Three of `arch` share their bytes and one is excluded by name: two are left, fewer than `dome` has."""
    names = ["arch"] * 6 + ["dome"] * 3
    records = records_table([row(f"r{number}", landmarks=[name]) for number, name in enumerate(names)])
    content = {f"images/r{number}.jpg": "same" if number < 4 else number for number in range(9)}
    kept, dropped = select(records, Rules(min_images=2, largest=1, exclude=["r5"]), None, lambda _: content)
    assert kept["record_id"].to_pylist() == ["r6", "r7", "r8"]
    assert dropped["r4"] == "not among the largest: landmark arch has 2"


def test_rules_see_chunks_and_slices_as_they_see_one_table(many):
    whole, _ = select(many, Rules(min_images=100, largest=20, exclude=["L38", "r00003"]), None, lambda _: {})
    parts = pa.concat_tables([many.slice(0, 7), many.slice(7, 5000), many.slice(5007)])
    cut, _ = select(parts, Rules(min_images=100, largest=20, exclude=["L38", "r00003"]), None, lambda _: {})
    assert cut.equals(whole)
    assert Counter(whole["landmarks"].to_pylist()[0]) == {"L19": 1}


def test_a_hundred_thousand_records_take_seconds():
    names = [f"L{number % 5000}" for number in range(100_000)]
    records = records_table([row(f"r{number:06}", landmarks=[name]) for number, name in enumerate(names)])
    digests = {f"images/r{number:06}.jpg": str(number) for number in range(100_000)}
    start = time.process_time()
    kept, _ = select(records, Rules(min_images=20, max_images=19, largest=4000), None, lambda _: digests)
    assert kept.num_rows == 4000 * 19
    assert time.process_time() - start < 10


def test_dropped_landmarks_say_why(landmarks):
    dropped = by_landmark(landmarks, min_images=2, max_images=4, largest=2, seed=1)
    assert dropped["dome11"] == "too few images: landmark dome has 1"
    assert dropped["tower05"] == "not among the largest: landmark tower has 3"
    assert Counter(dropped.values())["above max_images: landmark arch has more than 4"] == 1


@pytest.fixture
def mixed():
    """One record for each rule; digests by path, of which `copy` bears that of `first`."""
    inland = {"latitude": 45.5, "longitude": 17.0}
    rows = [
        row("first", **inland),
        row("copy", **inland),
        row("named", **inland),
        row("island", latitude=0, longitude=0),
    ]
    rows += [row("paris", latitude=48.85, longitude=2.35), row("dome-1", landmarks=["dome"]), row("other", **inland)]
    return records_table(rows)


def test_rules_go_one_after_the_other_and_each_says_why(mixed, croatia):
    asked = []

    def digests(records):
        asked.append(records["record_id"].to_pylist())
        return {f"images/{name}.jpg": "same" if name in ("first", "copy") else name for name in asked[0]}

    kept, dropped = select(mixed, Rules(min_images=2, exclude=["named"]), croatia, digests)
    assert asked == [["copy", "dome-1", "first", "other"]]  # those that places and names leave, once
    assert kept["record_id"].to_pylist() == ["copy", "other"]
    assert count_reasons(dropped) == {"excluded by name": 1, "null island": 1, "outside the region": 1,
                                      "exact duplicate": 1, "too few images": 1}  # fmt: skip
    assert dropped["first"] == "exact duplicate: of copy"


def test_without_rules_only_faults_go(mixed):
    kept, dropped = select(mixed, Rules(), None, lambda records: {})
    assert dropped.keys() == {"island"}
    assert kept.num_rows == mixed.num_rows - 1


def test_fraction_limits_and_seed_reach_their_rules():
    records = records_table([row(f"r{number:03}", landmarks=[f"L{number % 3}"]) for number in range(90)])

    def kept(**rules):
        return select(records, Rules(**rules), None, lambda records: {})[0]["record_id"].to_pylist()

    assert 20 < len(kept(fraction=0.5)) < 70
    assert kept(fraction=0.5) != kept(fraction=0.5, seed=2)
    assert len(kept(max_images=10)) == 30
    assert kept(max_images=10) != kept(max_images=10, seed=2)
    assert len(kept(largest=1)) == 30
    assert len(kept(min_images=31)) == 0

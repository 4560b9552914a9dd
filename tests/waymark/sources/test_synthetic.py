import hashlib
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import shapely
from PIL import Image
from pydantic import ValidationError

from waymark.data.records import RECORD_SCHEMA
from waymark.geo import load_land, load_region
from waymark.sources import SyntheticSource
from waymark.sources.synthetic import backdrop
from waymark.sources.synthetic.backdrop import Weather
from waymark.sources.synthetic.camera import take
from waymark.sources.synthetic.draws import Draws
from waymark.sources.synthetic.landmarks import subjects
from waymark.sources.synthetic.places import Place, outlooks, scatter
from waymark.sources.synthetic.view import draw_view
from waymark.sources.synthetic.world import AREAS, character, cosine

# Names that NumPy 2.4 knows (it ignores others without a word), older ones, and libjpeg-turbo's own switch.
PLAIN_CPU = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR AVX2 FMA3 AVX512F",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-FMA,-FMA4,-AVX2_Usable,-FMA_Usable",
    "JSIMD_FORCENONE": "1",
}
MAKE = """
import sys
from pathlib import Path
from waymark.data.records import write_table
from waymark.sources import SyntheticSource
folder = Path(sys.argv[1])
write_table(SyntheticSource(places=12, landmarks=6, photos=20, workers=1).fetch(folder).records, folder / "records")
"""


def digest(folder):
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return folder, SyntheticSource(places=60, landmarks=8, photos=60, workers=1).fetch(folder)


@pytest.fixture(scope="module")
def croatia():
    return load_region("HRV").geometry.union_all()


@pytest.fixture(scope="module")
def land():
    return load_land().clip((11, 41, 22, 48)).geometry.union_all()


def jpeg(place, heading_index, nuisance, land):
    draws = Draws("nuisance", nuisance)
    return take(draw_view(outlooks(place, land)[heading_index], Weather.draw(draws), draws), draws)


def test_any_number_of_workers_gives_the_same_bytes(made, tmp_path):
    folder, fetched = made
    again = SyntheticSource(places=60, landmarks=8, photos=60, workers=3).fetch(tmp_path)
    assert again.records.equals(fetched.records)
    assert digest(tmp_path) == digest(folder)


def test_a_plain_cpu_gives_the_same_bytes(tmp_path):
    folders = []
    for name, extra in (("here", {}), ("plain", PLAIN_CPU)):
        folder = tmp_path / name
        folder.mkdir()
        subprocess.run([sys.executable, "-W", "ignore", "-c", MAKE, str(folder)], env=os.environ | extra, check=True)
        folders.append(digest(folder))
    assert len(folders[0]) == 12 * 4 + 20 + 1
    assert folders[0] == folders[1]


def test_more_places_begin_with_the_same_ones(made, tmp_path):
    folder, _ = made
    few = SyntheticSource(places=5, landmarks=0, workers=1).fetch(tmp_path)
    assert few.records.num_rows == 5
    whole = digest(folder)
    assert all(whole[path] == value for path, value in digest(tmp_path).items())


def test_another_seed_gives_other_places_and_pictures(made, tmp_path):
    folder, fetched = made
    other = SyntheticSource(places=5, landmarks=0, seed=2).fetch(tmp_path)
    old = {row["record_id"]: row for row in fetched.records.to_pylist()}
    for row in other.records.to_pylist():
        assert row["latitude"] != old[row["record_id"]]["latitude"]
    assert not set(digest(tmp_path).values()) & set(digest(folder).values())


def test_counts_are_as_asked_and_every_picture_is_there(made):
    folder, fetched = made
    rows = fetched.records.to_pylist()
    assert fetched.records.schema.equals(RECORD_SCHEMA)
    places = [row for row in rows if row["latitude"] is not None]
    assert (len(places), len(rows)) == (60, 120)
    for row in rows:
        headings = [view["heading_deg"] for view in row["views"]]
        assert headings == ([0.0, 90.0, 180.0, 270.0] if row in places else [None])
        for view in row["views"]:
            with Image.open(folder / view["path"]) as picture:
                assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (row["width"], row["height"]))
    assert len(digest(folder)) == 60 * 4 + 60
    assert len(set(digest(folder).values())) == 60 * 4 + 60


def test_it_says_plainly_that_it_is_made_up(made):
    _, fetched = made
    assert "Made-up" in fetched.origin["description"]
    assert fetched.origin["licence"] == "CC0-1.0"
    assert fetched.origin["seed"] == 1


def test_photos_have_no_coordinates_and_places_no_landmark(made):
    _, fetched = made
    for row in fetched.records.to_pylist():
        if row["record_id"].startswith("photo-"):
            assert (row["latitude"], row["longitude"], row["group"]) == (None, None, None)
        else:
            assert row["landmarks"] == []
    shown = {label for labels in fetched.records["landmarks"].to_pylist() for label in labels}
    assert shown <= set(fetched.landmark_names)
    assert len(set(fetched.landmark_names.values())) == 8


def test_places_lie_in_croatia_and_spread_over_it(croatia):
    places = scatter(croatia, 400, seed=5)
    assert all(croatia.covers(shapely.Point(place.longitude, place.latitude)) for place in places)
    # Even by area: the share south of 44.5 N is that of the outline, in an equal-area projection.
    flat = load_region("HRV").to_crs("EPSG:3035")
    south = load_region("HRV").clip((10, 40, 22, 44.5)).to_crs("EPSG:3035").area.sum() / flat.area.sum()
    assert np.mean([place.latitude < 44.5 for place in places]) == pytest.approx(south, abs=0.08)


def test_a_tenth_of_the_places_are_on_drives_a_few_hundred_metres_long(croatia):
    places = scatter(croatia, 2000, seed=3)
    assert [place.record_id for place in places] == [f"place-{k:05d}" for k in range(2000)]
    groups = Counter(place.group for place in places if place.group)
    assert 0.05 < sum(groups.values()) / 2000 < 0.15
    assert set(groups.values()) <= {2, 3}
    for one, other in pairwise(places):
        if one.group and one.group == other.group:
            north = (one.latitude - other.latitude) * 111.2
            east = (one.longitude - other.longitude) * 111.2 * np.cos(np.radians(one.latitude))
            assert 0.2 < np.hypot(north, east) < 0.4


def test_landmarks_have_a_long_tail():
    counts = Counter(subjects(24, 400, seed=1))
    assert sum(counts.values()) == 400
    assert 30 <= counts.pop(None) <= 60
    tail = [count for _, count in sorted(counts.items())]
    assert len(tail) == 24
    assert tail == sorted(tail, reverse=True)
    assert tail[0] > 60
    assert sum(count < 5 for count in tail) >= 5
    assert sum(count >= 10 for count in tail) >= 8
    assert min(tail) >= 2


def test_the_sea_shows_in_the_heading_where_it_is(land, monkeypatch):
    monkeypatch.setattr(backdrop, "WATERS", ((255, 0, 255),))
    rovinj = Place("rovinj", 45.085, 13.66, None)  # open sea to the west, Istria to the east
    zagreb = Place("zagreb", 45.81, 15.98, None)
    seen = {}
    for place in (rovinj, zagreb):
        for outlook in outlooks(place, land):
            draws = Draws("water", place.record_id)
            pixels = np.asarray(draw_view(outlook, Weather.draw(draws), draws))
            seen[place.record_id, outlook.heading] = (pixels == (255, 0, 255)).all(axis=2).sum()
    assert seen["rovinj", 270] > 500
    assert seen["rovinj", 90] == 0
    assert not any(seen["zagreb", heading] for heading in (0, 90, 180, 270))


def test_a_place_keeps_its_character_under_other_nuisance(land):
    split, osijek = Place("split", 43.6, 16.8, None), Place("osijek", 45.5, 18.6, None)
    pictures = {jpeg(place, 0, nuisance, land) for place in (split, osijek) for nuisance in range(3)}
    assert len(pictures) == 6
    assert outlooks(split, land)[0].near == character(43.6, 16.8)


def test_characters_blend_smoothly_and_peak_in_their_areas():
    for area in AREAS:
        here = character(area.latitude, area.longitude)
        common = max(area.character.trees, key=area.character.trees.__getitem__)
        assert here.trees[common] > 0.3
        moved = character(area.latitude + 0.01, area.longitude)
        assert abs(moved.relief - here.relief) < 0.02


def test_the_cosine_series_is_right():
    for latitude in (0.0, 42.3, 46.6, 60.0):
        assert cosine(latitude) == pytest.approx(np.cos(np.radians(latitude)), abs=1e-6)


def test_draws_stay_in_their_ranges():
    draws = Draws("ranges")
    assert {draws.whole(1, 3) for _ in range(200)} == {1, 2, 3}
    bells = [draws.bell(2.0, 0.5) for _ in range(500)]
    assert 1.5 <= min(bells) < max(bells) <= 2.5
    assert sorted(draws.shuffled(range(9))) == list(range(9))
    counts = Counter(draws.weighted({"oak": 3.0, "plum": 1.0}) for _ in range(2000))
    assert counts["oak"] / 2000 == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"places": 0}, "places\n.*greater than or equal to 1 "),
        ({"places": -5}, "places\n.*greater than or equal to 1 .*input_value=-5"),
        ({"landmarks": -1}, "landmarks\n.*greater than or equal to 0 .*input_value=-1"),
        ({"photos": -1}, "photos\n.*greater than or equal to 0 "),
        ({"workers": 0}, "workers\n.*greater than or equal to 1 "),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        SyntheticSource(**settings)

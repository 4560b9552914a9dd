import time

import numpy as np
import pandas as pd
import pytest
from pyproj import Geod

from waymark.leakage import audit, near_duplicates, nearest_km

SPHERE = Geod(a=6371008.8, b=6371008.8)


def test_the_nearest_training_place_is_that_of_pyproj():
    rng = np.random.default_rng(1)
    places, training = (np.stack([rng.uniform(-89, 89, n), rng.uniform(-180, 180, n)], axis=1) for n in (40, 70))
    training[3] = [-16.0, -179.9]
    places[0] = [-16.0, 179.9]  # over the antimeridian
    places[1] = training[5] + [0.00005, 0]  # six metres
    expected = [
        min(SPHERE.inv(place[1], place[0], other[1], other[0])[2] for other in training) / 1000 for place in places
    ]
    assert nearest_km(places, training) == pytest.approx(expected, rel=1e-9, abs=1e-7)


def test_unknown_places_have_no_nearest_one():
    places = np.array([[45.0, 16.0], [np.nan, np.nan]])
    found = nearest_km(places, np.array([[np.nan, np.nan], [45.0, 16.0]]))
    assert found[0] == 0
    assert np.isnan(found[1])
    assert np.isnan(nearest_km(places, np.empty((0, 2)))).all()


def flipped(value, bits):
    for bit in bits:
        value ^= 1 << bit
    return value


def test_near_duplicates_differ_in_few_bits():
    rng = np.random.default_rng(2)
    training = rng.integers(0, 2**64, 500, dtype=np.uint64)
    bits = [(), (0,), (63, 1), (5, 6, 7), (5, 20, 40, 63), (1, 2, 3, 4, 5)]
    hashes = np.array([flipped(int(training[10 * row]), its) for row, its in enumerate(bits)], dtype=np.uint64)
    row, differing = near_duplicates(hashes, training)
    assert row.tolist() == [0, 10, 20, 30, 40, -1]
    assert differing.tolist() == [0, 1, 2, 3, 4, -1]
    assert near_duplicates(hashes, training, most_bits=5)[0].tolist() == [0, 10, 20, 30, 40, 50]
    assert near_duplicates(hashes, training[:0])[0].tolist() == [-1] * 6


def test_the_nearest_hash_is_that_of_counting_bit_by_bit():
    rng = np.random.default_rng(3)
    hashes, training = (rng.integers(0, 2**9, count, dtype=np.uint64) for count in (60, 40))
    row, bits = near_duplicates(hashes, training, most_bits=2)
    for value, found, differing in zip(hashes, row, bits, strict=True):
        counts = [bin(int(value) ^ int(other)).count("1") for other in training]
        if min(counts) <= 2:
            assert (found, differing) == (counts.index(min(counts)), min(counts))
        else:
            assert (found, differing) == (-1, -1)


def test_twelve_thousand_pictures_take_seconds():
    rng = np.random.default_rng(4)
    hashes, training = (rng.integers(0, 2**64, count, dtype=np.uint64) for count in (4000, 8000))
    start = time.perf_counter()
    near_duplicates(hashes, training)
    assert time.perf_counter() - start < 5


def records():
    """Eight of training, three of val, four of test, about ten kilometres apart."""
    split = ["train"] * 8 + ["val"] * 3 + ["test"] * 4
    return pd.DataFrame(
        {
            "record_id": [f"r{row}" for row in range(15)],
            "split": split,
            "latitude": 45.0 + np.arange(15) * 0.09,
            "longitude": 16.0,
            "group": [None] * 15,
        }
    )


def pictures(seed=5):
    hashes = np.random.default_rng(seed).integers(2**62, 2**63, 30, dtype=np.uint64)
    return pd.DataFrame(
        {"record_id": np.repeat(records()["record_id"], 2).to_numpy(), "perceptual_hash": [f"{v:016x}" for v in hashes]}
    )


def remedies(found):
    return {finding.what: finding.remedy for finding in found.findings if finding.verdict == "leak"}


def test_a_clean_split_is_called_clean():
    found = audit(records(), pictures())
    assert found.verdict == "ok"
    assert remedies(found) == {}
    assert found.copies == []
    test = found.splits["test"]
    assert (test["records"], test["places"], test["pictures"]) == (4, 4, 8)
    assert test["nearest_train_km"]["q50_km"] == pytest.approx(np.radians(5.5 * 0.09) * 6371.0088)
    assert (test["same_place"], test["shared_groups"], test["near_duplicates"]) == (0, 0, 0)


def test_a_panorama_on_both_sides_is_a_leak():
    table = records()
    table.loc[[0, 12], "group"] = "pano-1"
    table.loc[[8, 13, 14], "group"] = "pano-2"  # val and test
    table.loc[[1, 2], "group"] = "pano-3"
    found = audit(table, pictures())
    assert found.verdict == "leak"
    test, val = found.splits["test"], found.splits["val"]
    assert (test["grouped"], test["shared_groups"], test["in_shared_groups"]) == (3, 2, 3)
    assert (val["grouped"], val["shared_groups"], val["in_shared_groups"]) == (1, 1, 1)
    ((what, remedy),) = remedies(found).items()
    assert "1 val record and 3 test records" in what
    assert "split.by: hash or blocks" in remedy


def test_a_picture_of_training_in_test_is_a_leak():
    shown = pictures()
    of_training = int(shown.loc[6, "perceptual_hash"], 16)
    shown.loc[24, "perceptual_hash"] = f"{flipped(of_training, (3, 9)):016x}"
    shown.loc[25, "perceptual_hash"] = f"{flipped(of_training, (3, 9, 11)):016x}"  # the record's second view
    found = audit(records(), shown)
    assert found.verdict == "leak"
    assert found.splits["test"]["near_duplicates"] == 1
    assert found.splits["val"]["near_duplicates"] == 0
    assert found.copies == [{"record_id": "r12", "split": "test", "train_record_id": "r3", "bits": 2}]
    assert "blocks" in next(iter(remedies(found).values()))


def test_pictures_without_structure_are_no_near_duplicates():
    shown = pictures()
    shown.loc[[0, 24], "perceptual_hash"] = ["0000000000000000", "0000000000000003"]
    shown.loc[[2, 26], "perceptual_hash"] = ["ffffffffffffffff", "fffffffffffffff7"]
    found = audit(records(), shown)
    assert found.splits["test"]["near_duplicates"] == 0
    assert found.splits["test"]["flat_pictures"] == 2


def test_the_same_place_in_train_and_test_is_a_leak():
    table = records()
    table.loc[11, ["latitude", "longitude"]] = table.loc[2, ["latitude", "longitude"]].to_numpy()
    found = audit(table, pictures())
    assert found.splits["test"]["same_place"] == 1
    assert (found.splits["test"]["within_10m"], found.splits["test"]["within_1000m"]) == (0.25, 0.25)
    assert any("same coordinates" in what for what in remedies(found))
    assert any("25.0% of test lie within 100 m" in what for what in remedies(found))


def test_places_a_few_metres_off_are_near_but_not_the_same():
    table = records()
    table.loc[11, "latitude"] = table.loc[2, "latitude"] + 50 / 111_195  # fifty metres north
    found = audit(table, pictures()).splits["test"]
    assert found["same_place"] == 0
    assert (found["within_10m"], found["within_100m"], found["within_1000m"]) == (0.0, 0.25, 0.25)


def test_records_without_places_or_pictures_are_audited_for_the_rest():
    table = records().assign(latitude=np.nan, longitude=np.nan)
    found = audit(table, pictures().head(0))
    assert found.verdict == "ok"
    assert found.splits["test"]["places"] == 0
    assert found.splits["test"]["within_100m"] is None
    assert any("No held-out record has a place" in finding.what for finding in found.findings)

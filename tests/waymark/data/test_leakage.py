import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pyproj import Geod

from waymark.data.duplicates import Looks
from waymark.data.leakage import audit
from waymark.geo.sphere import nearest_km

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


def looks(seed=5):
    """Two views of each of the records, none like another."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(2**62, 2**63, (15, 2), dtype=np.uint64)
    return Looks(hashes, np.ones((15, 2), bool), rng.uniform(0, 255, (15, 2, 3)), np.full((15, 2, 3), 40.0))


def copy(shown, source, target, flipped_bits=0):
    for part in (shown.hashes, shown.mean, shown.std):
        part[target] = part[source]
    shown.hashes[target] ^= np.uint64(flipped_bits)


def remedies(found):
    return {finding.what: finding.remedy for finding in found.findings if finding.verdict == "leak"}


def test_a_clean_split_is_called_clean():
    found = audit(records(), looks())
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
    found = audit(table, looks())
    assert found.verdict == "leak"
    test, val = found.splits["test"], found.splits["val"]
    assert (test["grouped"], test["shared_groups"], test["in_shared_groups"]) == (3, 2, 3)
    assert (val["grouped"], val["shared_groups"], val["in_shared_groups"]) == (1, 1, 1)
    ((what, remedy),) = remedies(found).items()
    assert "1 val record and 3 test records" in what
    assert "(1 and 2 groups)" in what
    assert "split.by: hash, stratified or blocks" in remedy


def test_a_record_of_training_in_test_is_a_leak():
    shown = looks()
    copy(shown, 3, 12, flipped_bits=0b1010)
    copy(shown, 3, 4, flipped_bits=0b1110)
    found = audit(records(), shown)
    assert found.verdict == "leak"
    test, val = found.splits["test"], found.splits["val"]
    assert (test["near_duplicates"], test["training_copies"]) == (1, 2)
    assert (val["near_duplicates"], val["training_copies"]) == (0, 0)
    assert found.copies == [{"record_id": "r12", "split": "test", "train_record_id": "r4", "bits": 1}]
    json.dumps(found.document())
    ((what, remedy),) = remedies(found).items()
    assert "0 val records and 1 test record look like one of training (0 and 2 training records)" in what
    assert "split.duplicates: yield" in remedy


def test_the_most_alike_copies_come_first_and_no_more_than_twenty():
    table = pd.concat([records()] * 4, ignore_index=True)
    table["record_id"] = [f"r{row:02}" for row in range(60)]
    shown = Looks(*(np.concatenate([part] * 4) for part in vars(looks()).values()))
    for test in np.flatnonzero(table["split"] == "test"):
        copy(shown, 0, test, flipped_bits=1 if test % 2 else 3)
    for val in np.flatnonzero(table["split"] == "val"):
        copy(shown, 1, val)
    found = audit(table, shown)
    assert len(found.copies) == 20
    assert [pair["bits"] for pair in found.copies] == [0] * 12 + [1] * 8
    assert [pair["record_id"] for pair in found.copies[:12]] == table.loc[table["split"] == "val", "record_id"].tolist()


def test_pictures_without_structure_are_no_near_duplicates():
    shown = looks()
    shown.hashes[[0, 12]] = [[0], [3]]
    shown.hashes[[1, 13], 0] = 2**64 - 1, 2**64 - 9
    found = audit(records(), shown)
    assert found.splits["test"]["near_duplicates"] == 0
    assert found.splits["test"]["flat_pictures"] == 3


def test_the_same_place_in_train_and_test_is_a_leak():
    table = records()
    table.loc[11, ["latitude", "longitude"]] = table.loc[2, ["latitude", "longitude"]].to_numpy()
    found = audit(table, looks())
    assert found.splits["test"]["same_place"] == 1
    assert (found.splits["test"]["within_10m"], found.splits["test"]["within_1000m"]) == (0.25, 0.25)
    assert any("same coordinates" in what for what in remedies(found))
    assert any("25.0% of test lie within 100 m" in what for what in remedies(found))


def test_places_a_few_metres_off_are_near_but_not_the_same():
    table = records()
    table.loc[11, "latitude"] = table.loc[2, "latitude"] + 50 / 111_195  # fifty metres north
    found = audit(table, looks()).splits["test"]
    assert found["same_place"] == 0
    assert (found["within_10m"], found["within_100m"], found["within_1000m"]) == (0.0, 0.25, 0.25)


def test_records_without_places_or_pictures_are_audited_for_the_rest():
    table = records().assign(latitude=np.nan, longitude=np.nan)
    unseen = replace(looks(), seen=np.zeros((15, 2), bool))
    found = audit(table, unseen)
    assert found.verdict == "ok"
    assert found.splits["test"]["places"] == 0
    assert found.splits["test"]["within_100m"] is None
    assert any("No held-out record has a place" in finding.what for finding in found.findings)

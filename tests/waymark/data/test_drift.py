"""Data drift, against references that share nothing with ours."""

import numpy as np
import pandas as pd
import pytest
from pyproj import Geod

from waymark.data.drift import DRIFT, STEADY, TOO_FEW, compare, inhomogeneity, markdown

SPHERE = Geod(a=6371008.8, b=6371008.8)


def records(count=200, *, seed=1, first=0, shift_deg=0.0, darker=0.0, landmarks=("L1", "L2")):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "record_id": [f"r{number}" for number in range(first, first + count)],
            "latitude": rng.normal(45.0 + shift_deg, 0.5, count),
            "longitude": rng.normal(16.0, 0.7, count),
            "landmark": rng.choice([*landmarks, None], count),
            **{colour: rng.normal(120 - darker, 20, count) for colour in ("red", "green", "blue")},
        }
    )


def drifting(before, now):
    return [row.what.split(" farther")[0] for row in compare(before, now) if row.verdict == DRIFT]


def test_identical_data_show_no_drift():
    rows = compare(records(), records())
    assert {row.verdict for row in rows} == {STEADY}
    assert markdown(rows).startswith("No drift.")


@pytest.mark.parametrize("seed", range(5))
def test_new_records_of_the_same_kind_show_no_drift(seed):
    grown = pd.concat([records(), records(20, seed=10 + seed, first=200)], ignore_index=True)
    assert drifting(records(), grown) == []


def test_what_changed_is_named():
    assert drifting(records(), records(shift_deg=1.5)) == ["places", "where the places lie (mean)"]
    colours = [f"{colour} of pictures (median)" for colour in ("red", "green", "blue")]
    assert drifting(records(), records(darker=15)) == colours
    red = next(row for row in compare(records(), records(darker=15)) if row.what.startswith("red"))
    assert red.measure.startswith("darker, D ")
    with_new = records()
    with_new.loc[0, "landmark"] = "L3"
    assert drifting(records(), with_new) == ["new landmarks"]
    assert "| new landmarks |  | 1 | L3 | none | drift |" in markdown(compare(records(), with_new))
    assert drifting(with_new, records()) == ["vanished landmarks"]
    assert drifting(records(), records(100)) == ["records", "records that went"]
    assert drifting(records(), records(first=20)) == ["records that went"]
    assert "**Drift** in records that went." in markdown(compare(records(), records(first=20)))


def test_far_places_are_counted_as_geodesy_counts_them():
    before, now = records(60, seed=3), records(60, seed=4, shift_deg=0.8)

    def nearest_km(place, others):
        metres = [SPHERE.inv(place.longitude, place.latitude, o.longitude, o.latitude)[2] for o in others]
        return min(metres) / 1000

    places = [list(its.itertuples()) for its in (before, now)]
    gaps = [nearest_km(place, [o for o in places[0] if o is not place]) for place in places[0]]
    far_km = np.quantile(gaps, 0.99)
    share = np.mean([nearest_km(place, places[0]) > far_km for place in places[1]])
    row = next(row for row in compare(before, now) if row.what.startswith("places farther"))
    assert row.what == f"places farther than {far_km:.3g} km from all"
    assert row.now == f"{share:.1%}"


def test_the_coefficient_is_that_of_the_definition():
    """Székely and Rizzo, with chords computed from great circles."""
    one, other = (records(30, seed=seed)[["latitude", "longitude"]].to_numpy() for seed in (1, 2))

    def mean_chord(first, second):
        chords = [
            2 * np.sin(SPHERE.inv(b[1], b[0], a[1], a[0])[2] / 6371008.8 / 2) for a in first for b in second
        ]  # of the unit sphere
        return np.mean(chords)

    across = mean_chord(one, other)
    expected = (2 * across - mean_chord(one, one) - mean_chord(other, other)) / (2 * across)
    assert inhomogeneity(one, other)[0] == pytest.approx(expected, abs=1e-8)
    far = np.array([[-45.0, -164.0]]).repeat(30, axis=0)
    h, p = inhomogeneity(np.array([[45.0, 16.0]]).repeat(30, axis=0), far)
    assert (round(h, 6), p) == (1.0, 1 / 200)


def test_chance_alone_is_seldom_called_a_drift():
    found = [inhomogeneity(*(records(100, seed=seed)[["latitude", "longitude"]].to_numpy() for seed in (k, k + 100)))[1]
             for k in range(20)]  # fmt: skip
    assert sum(p < 0.01 for p in found) <= 2


def test_small_and_missing_data_are_not_judged():
    few = compare(records(10), records(10, seed=2))
    assert {row.verdict for row in few if row.what.split()[0] in ("places", "where", "red", "green", "blue")} == {
        TOO_FEW
    }
    nothing = records().assign(latitude=np.nan, longitude=np.nan, landmark=None, red=np.nan, green=np.nan, blue=np.nan)
    assert [row.what for row in compare(nothing, records())][:2] == ["records", "records that went"]
    assert compare(records(0), records(0))[0].verdict == STEADY

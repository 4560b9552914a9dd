import numpy as np
import pandas as pd
import pytest

from waymark.metrics.intervals import statistic_interval
from waymark.metrics.nearness import error_by_nearness, nearness_quantiles


def predictions(number=160):
    rng = np.random.default_rng(1)
    near = rng.permutation(np.geomspace(0.05, 60, number))
    return pd.DataFrame({"distance_km": near * 2 + rng.uniform(0, 5, number), "nearest_train_km": near})


def test_bins_hold_equally_many_records_and_their_median():
    frame = predictions()
    found = error_by_nearness(frame)
    ordered = frame.sort_values("nearest_train_km")
    for row, start in zip(found.to_dict("records"), range(0, 160, 20), strict=True):
        its = ordered.iloc[start : start + 20]
        assert row["records"] == 20
        assert row["median_km"] == pytest.approx(np.median(its["distance_km"]))
        near = its["nearest_train_km"]
        assert (row["nearest_low_km"], row["nearest_high_km"]) == (near.min(), near.max())
        assert row["nearest_km"] == pytest.approx(np.median(near))
        assert (row["low_km"], row["high_km"]) == statistic_interval(its["distance_km"].to_numpy(), 0.5)


def test_records_at_the_same_distance_share_a_bin():
    frame = predictions(40).assign(nearest_train_km=[0.0] * 30 + [1.0] * 5 + [2.0] * 5)
    found = error_by_nearness(frame, bins=4)
    assert found["records"].tolist() == [30, 10]
    on_the_edge = frame.head(9).assign(nearest_train_km=np.arange(9.0))
    assert error_by_nearness(on_the_edge, bins=2)["nearest_high_km"].tolist() == [4.0, 8.0]
    assert error_by_nearness(frame.assign(nearest_train_km=0.0))["records"].tolist() == [40]


def test_unknown_places_are_left_out():
    frame = predictions(40)
    frame.loc[:9, "nearest_train_km"] = np.nan
    frame.loc[10:19, "distance_km"] = np.nan
    assert error_by_nearness(frame, bins=2)["records"].tolist() == [10, 10]
    assert error_by_nearness(frame.head(15)).empty


def test_quantiles_are_numpys():
    near = predictions()["nearest_train_km"]
    found = nearness_quantiles(pd.concat([near, pd.Series([np.nan])]))
    assert list(found) == ["q05_km", "q25_km", "q50_km", "q75_km", "q95_km"]
    assert list(found.values()) == pytest.approx(np.percentile(near, [5, 25, 50, 75, 95]))
    assert nearness_quantiles(near.head(0)) == {}

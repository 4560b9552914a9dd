import json

import numpy as np
import pandas as pd
import pytest

from waymark.data.splits import by_blocks
from waymark.geo import project
from waymark.metrics.figures import place_figures
from waymark.metrics.generalization import generalization_gap, squares_of
from waymark.metrics.intervals import place_intervals, ratio_of_means


def predictions(times, seed=1, number=240):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "record_id": [f"{seed}-{row}" for row in range(number)],
            "split": np.where(np.arange(number) % 3, "test", "val"),
            "distance_km": rng.lognormal(3, 0.6, number) * times,
            "cell": pd.array([pd.NA] * number, dtype="Int64"),
            "predicted_cell": pd.array([pd.NA] * number, dtype="Int64"),
            "oracle_km": np.nan,
            "constant_km": rng.uniform(40, 90, number),
            "radius_50_km": np.nan,
            "radius_90_km": np.nan,
            "nearest_train_km": rng.lognormal(0, 1, number) * times**3,
        }
    )


def test_both_sides_are_the_test_figures_of_their_own_predictions():
    random, blocks = predictions(1.0), predictions(1.5, seed=2)
    gap = generalization_gap(random, blocks)
    for side, frame in ((gap["random"], random), (gap["blocks"], blocks)):
        test = frame[frame["split"] == "test"]
        figures = place_figures(test)
        for name in ("records", "mean_km", "median_km", "constant_mean_km"):
            assert side[name] == figures[name]
        assert side["times_constant"] == pytest.approx(test["distance_km"].mean() / test["constant_km"].mean())
        assert side["intervals"]["mean_km"] == list(place_intervals(test).figures["mean_km"])
        assert side["nearest_train_km"]["q50_km"] == pytest.approx(np.median(test["nearest_train_km"]))
    tests = [frame[frame["split"] == "test"] for frame in (blocks, random)]
    assert gap["ratio"] == ratio_of_means(*tests)
    assert gap["ratio"]["value"] == pytest.approx(tests[0]["distance_km"].mean() / tests[1]["distance_km"].mean())
    json.dumps(gap, allow_nan=False)


@pytest.mark.parametrize(
    ("times", "says", "beside"),
    [
        (1.6, "larger errors", "still beats its constant baseline"),
        (1.0, "do not differ clearly", "still beats its constant baseline"),
        (0.5, "happens to be easier", "still beats its constant baseline"),
        (3.0, "larger errors", "not clearly better than always answering the same place"),
    ],
)
def test_the_gap_is_put_in_words(times, says, beside):
    meaning = generalization_gap(predictions(1.0), predictions(times))["meaning"]
    assert says in meaning
    assert beside in meaning


def alike_in_sixes(seed):
    frame = predictions(1.0 + 0.2 * seed, seed=seed)
    frame["distance_km"] = np.repeat(frame["distance_km"].to_numpy()[::6], 6)
    return frame, pd.Series([f"g{row // 6}" for row in range(len(frame))], index=frame["record_id"])


def test_groups_and_squares_make_the_gap_less_sure():
    (random, groups), (blocks, squares) = alike_in_sixes(1), alike_in_sixes(2)
    alone, grouped, squared = (
        generalization_gap(random, blocks),
        generalization_gap(random, blocks, groups),
        generalization_gap(random, blocks, None, squares),
    )
    both = generalization_gap(random, blocks, groups, squares)
    width = {id(gap): gap["ratio"]["high"] - gap["ratio"]["low"] for gap in (alone, grouped, squared, both)}
    assert 1.15 * width[id(alone)] < min(width[id(grouped)], width[id(squared)])
    assert max(width[id(grouped)], width[id(squared)]) < width[id(both)]
    assert (alone["random"]["unit"], both["random"]["unit"]) == ("record", "group")
    assert (both["blocks"]["unit"], both["blocks"]["units"]) == ("group", 40)
    assert alone["blocks"]["intervals"]["mean_km"] != both["blocks"]["intervals"]["mean_km"]


def test_few_squares_are_said_to_be_few():
    frame = predictions(1.0)
    few, enough = (pd.Series(np.arange(240) % count, index=frame["record_id"]).astype(str) for count in (7, 10))
    assert "only 7 squares" in generalization_gap(frame, frame, None, few)["meaning"]
    assert "only" not in generalization_gap(frame, frame, None, enough)["meaning"]
    assert "only" not in generalization_gap(frame, frame)["meaning"]


def test_records_of_both_tests_may_bear_the_same_name():
    """A record may be tested in both splits: its group there says nothing here."""
    random, groups = alike_in_sixes(1)
    blocks, squares = alike_in_sixes(1)
    expected = generalization_gap(
        random, blocks.assign(record_id="b" + blocks["record_id"]), groups, squares.rename("b{}".format)
    )
    assert generalization_gap(random, blocks, groups, squares)["ratio"] == expected["ratio"]


def test_squares_are_those_of_the_block_split():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "record_id": [f"r{row}" for row in range(300)],
            "latitude": [*rng.uniform(43, 46, 299), np.nan],
            "longitude": [*rng.uniform(14, 18.5, 299), np.nan],
        }
    )
    squares = squares_of(frame, 20_000, "EPSG:3765")
    assert len(squares) == 299
    its_split = by_blocks(
        project(frame[["latitude", "longitude"]].to_numpy()[:299], "EPSG:3765"),
        block_m=20_000,
        fractions=(0.6, 0.2, 0.2),
        seed=1,
    )
    assert pd.Series(its_split).groupby(squares.to_numpy()).nunique().max() == 1
    assert squares.nunique() > 60


def test_without_places_there_is_no_gap():
    nothing = predictions(1.0).assign(distance_km=np.nan, constant_km=np.nan, nearest_train_km=np.nan)
    gap = generalization_gap(predictions(1.0), nothing)
    assert gap["ratio"] is None
    assert "no record with a place" in gap["meaning"]
    json.dumps(gap, allow_nan=False)
    few = generalization_gap(predictions(1.0), predictions(1.0, seed=2).iloc[:2])
    assert few["ratio"]["low"] is None
    assert "too few records" in few["meaning"]

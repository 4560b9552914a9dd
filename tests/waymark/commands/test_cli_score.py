import json
import math
import unicodedata

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyproj import Geod
from scipy.stats import norm
from typer.testing import CliRunner

from waymark.cli import app
from waymark.metrics.figures import landmark_figures

SPHERE = Geod(a=6371008.8, b=6371008.8)
RECORDS = 400
WITHIN_KM = (1, 5, 10, 25, 50, 100, 200, 750, 2500)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tables():
    """Answers scattered around places all over the world, also across the antimeridian."""
    rng = np.random.default_rng(5)
    names = [f"p{number:03d}" for number in range(RECORDS)]
    truth = pd.DataFrame({"uuid": names, "latitude": rng.uniform(-80, 80, RECORDS)})
    truth["longitude"] = rng.uniform(-180, 180, RECORDS)
    bearing, metres = rng.uniform(0, 360, RECORDS), rng.lognormal(11, 2, RECORDS)
    longitude, latitude, _ = SPHERE.fwd(truth["longitude"], truth["latitude"], bearing, metres)
    predictions = pd.DataFrame({"uuid": names, "latitude": latitude, "longitude": longitude})
    return predictions.sample(frac=1, random_state=1), truth, np.minimum(metres / 1000, math.pi * 6371.0088)


def run(*arguments):
    return CliRunner().invoke(app, ["score", *arguments])


def score(predictions, truth, *arguments):
    predictions.to_csv("predictions.csv", index=False)
    truth.to_csv("truth.csv", index=False)
    result = run("predictions.csv", "truth.csv", "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), result.stderr


def refusal(predictions, truth, *arguments):
    predictions.to_csv("predictions.csv", index=False)
    truth.to_csv("truth.csv", index=False)
    result = run("predictions.csv", "truth.csv", *arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_figures_are_those_of_an_independent_calculation(tables):
    predictions, truth, km = tables
    figures, said = score(predictions, truth)
    assert said == ""
    expected = {
        "records": RECORDS,
        "missing": 0,
        "mean_km": km.mean(),
        "median_km": np.median(km),
        "p90_km": np.percentile(km, 90),
        **{f"within_{limit}km": np.mean(km <= limit) for limit in WITHIN_KM},
        "geoscore": np.mean([5000 * math.exp(-each / 1492.7) for each in km]),
    }
    intervals = figures.pop("intervals_95")
    assert figures == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}
    low, high = intervals["mean_km"]
    error = norm.ppf(0.975) * km.std(ddof=1) / math.sqrt(RECORDS)  # the central limit theorem
    assert low == pytest.approx(km.mean() - error, rel=0.05)
    assert high == pytest.approx(km.mean() + error, rel=0.05)


def test_people_read_a_line_for_each_figure(tables):
    predictions, truth, km = tables
    score(predictions, truth)
    lines = run("predictions.csv", "truth.csv").stdout.splitlines()
    assert lines[0].split() == ["records", "400"]
    mean = next(line for line in lines if line.startswith("mean_km"))
    assert f"{km.mean():,.2f} km" in mean
    assert " to " in mean
    assert not any("nan" in line for line in lines)


def test_evaluates_own_table_gives_evaluates_own_figures(tables):
    predictions, truth, km = tables
    both = truth.rename(columns={"uuid": "record_id"}).merge(
        predictions.set_axis(["record_id", "predicted_latitude", "predicted_longitude"], axis=1), on="record_id"
    )
    both["split"] = np.where(np.arange(RECORDS) % 4, "val", "test")
    both["radius_50_km"] = 100.0
    both.to_parquet("predictions.parquet")
    result = run("predictions.parquet", "predictions.parquet", "--split", "test", "--json")
    figures = json.loads(result.stdout)
    test = km[::4]
    assert figures["records"] == len(test)
    assert figures["mean_km"] == pytest.approx(test.mean(), rel=1e-6)
    assert figures["coverage_50"] == pytest.approx((test <= 100).mean())


def test_other_names_of_columns_are_understood(tables):
    predictions, truth, km = tables
    named = predictions.rename(columns={"uuid": "photo", "latitude": "Lat", "longitude": "LNG"})
    figures, _ = score(named, truth.rename(columns={"uuid": "path", "longitude": "lon"}))
    assert figures["mean_km"] == pytest.approx(km.mean(), rel=1e-6)


def test_ids_are_text(tables):
    predictions, truth, km = (table.head(20) if isinstance(table, pd.DataFrame) else table for table in tables)
    numbers = {name: f"{int(name[1:]):03d}" for name in truth["uuid"]}  # 007 is not 7
    kept = tables[0][tables[0]["uuid"].isin(numbers)]
    figures, _ = score(kept.replace({"uuid": numbers}), truth.replace({"uuid": numbers}))
    assert figures["mean_km"] == pytest.approx(km[:20].mean(), rel=1e-6)
    assert len(predictions) == 20


def test_missing_predictions_are_refused_or_counted(tables):
    predictions, truth, km = tables
    fewer = predictions.sort_values("uuid").iloc[3:]
    assert "3 of 400 truths have no prediction, such as 'p000'" in refusal(fewer, truth)
    figures, _ = score(fewer, truth, "--allow-missing")
    assert (figures["records"], figures["missing"]) == (397, 3)
    assert figures["mean_km"] == pytest.approx(km[3:].mean(), rel=1e-6)
    empty = predictions.sort_values("uuid").assign(latitude=lambda rows: rows["latitude"].where(rows.index > 2))
    assert "3 of 400 truths have no prediction" in refusal(empty, truth)


def test_what_does_not_count_is_said(tables):
    predictions, truth, km = tables
    truth.loc[:1, "latitude"] = np.nan
    figures, said = score(predictions, truth.iloc[:-5])
    assert figures["records"] == RECORDS - 7
    assert "2 rows of truth.csv have no place and are ignored" in said
    assert "7 predictions have no truth and are ignored" in said
    assert figures["mean_km"] == pytest.approx(km[2:-5].mean(), rel=1e-6)


def test_swapped_columns_are_found(tables):
    predictions, truth, _ = tables
    changed = predictions.rename(columns={"latitude": "longitude", "longitude": "latitude"})
    assert "latitude and longitude look swapped" in refusal(changed, truth)
    croatia = truth.assign(latitude=45.1, longitude=16.2)
    swapped = croatia.assign(latitude=16.3, longitude=45.0)
    _, said = score(swapped, croatia)
    assert "latitude and longitude look swapped" in said
    _, said = score(croatia.assign(latitude=45.3), croatia)
    assert said == ""


def test_tables_that_say_nothing_clear_are_refused(tables):
    predictions, truth, _ = tables
    assert "no column latitude; it has uuid" in refusal(predictions[["uuid", "longitude"]], truth)
    assert "duplicate" in refusal(pd.concat([predictions, predictions.head(1)]), truth)
    assert "have no id in common" in refusal(predictions.assign(uuid=predictions["uuid"] + "x"), truth)
    assert "is 'north', no number" in refusal(predictions.assign(latitude="north"), truth)
    assert "is not a place" in refusal(predictions.assign(longitude=400.0), truth)
    assert "no column split; leave out --split" in refusal(predictions, truth, "--split", "test")
    assert "no row with a place" in refusal(predictions, truth.assign(latitude=""))
    assert "absent.csv does not exist" in run("absent.csv", "truth.csv").stderr


@pytest.fixture
def worked():
    """The worked case of the issue: truth a:{7} b:{3, 4} c:{9} d:{} e:{}; predictions d:7 a:7 b:4 c:1."""
    truth = pd.DataFrame({"id": list("abcde"), "landmarks": ["7", "3 4", "9", "", ""]})
    predictions = pd.DataFrame(
        {
            "id": list("dabce"),
            "landmark": ["7", "7", "4", "1", ""],
            "landmark_score": [0.9, 0.8, 0.8, 0.6, 0.1],
        }
    )
    return predictions, truth


@pytest.mark.parametrize(("score_of_d", "gap"), [(0.9, 0.388889), (None, 0.666667), (0.8, 0.666667)])
def test_landmarks_are_scored_as_in_the_worked_cases(worked, score_of_d, gap):
    predictions, truth = worked
    if score_of_d is None:
        predictions.loc[0, "landmark"] = ""
    else:
        predictions.loc[0, "landmark_score"] = score_of_d
    figures, said = score(predictions, truth)
    answered = 3 if score_of_d is None else 4
    intervals = figures.pop("intervals_95")
    assert figures == {
        "records": 5,
        "missing": 0,
        "queries": 3,
        "gap": pytest.approx(gap, abs=1e-6),
        "top1": pytest.approx(2 / 3),
        "answered": pytest.approx(answered / 5),
        "precision": pytest.approx(2 / answered),
    }
    assert set(intervals) <= set(figures)
    assert said == ""


def test_a_refused_candidate_counts_for_top1_where_it_is_told(worked):
    predictions, truth = worked
    refused = predictions.assign(best_landmark=["7", "7", "4", "9", ""])
    refused.loc[3, "landmark"] = ""
    figures, _ = score(refused, truth)
    assert (figures["top1"], figures["answered"]) == (1, pytest.approx(3 / 5))
    assert figures["gap_unrejected"] == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)


def test_a_query_without_prediction_is_refused_or_counts_as_unanswered(worked):
    predictions, truth = worked
    fewer = predictions[predictions["id"] != "b"]
    assert "1 of 5 truths have no prediction, such as 'b'" in refusal(fewer, truth)
    figures, _ = score(fewer, truth, "--allow-missing")
    assert (figures["missing"], figures["queries"]) == (1, 3)
    assert figures["gap"] == pytest.approx(1 / 2 / 3)


def test_numbers_beside_empty_cells_are_names_in_parquet_too(worked):
    predictions, truth = worked
    names = [7, 4, 9, None, None]
    expected, _ = score(predictions, truth.drop(columns="landmarks").assign(landmark=pd.array(names, dtype="Int64")))
    pq.write_table(pa.table({"id": list("abcde"), "landmark": names}), "truth.parquet")
    result = run("predictions.csv", "truth.parquet", "--json")
    assert expected["gap"] > 0.3
    assert json.loads(result.stdout) == expected


def test_one_landmark_may_have_spaces_in_its_name(worked):
    predictions, truth = worked
    named = truth.drop(columns="landmarks").assign(landmark=["Stari most", "4", "9", "", "nan"])
    predictions.loc[1, "landmark"] = "Stari most"
    figures, _ = score(predictions, named)
    assert (figures["queries"], figures["gap"]) == (3, pytest.approx(0.388889, abs=1e-6))


def test_evaluates_own_table_of_landmarks_gives_evaluates_own_figures():
    rng = np.random.default_rng(3)
    names = np.array(list("pqrs"), dtype=object)
    truths = [list(rng.choice(names, size, replace=False)) for size in rng.integers(0, 3, 200)]
    best = [its[0] if its and rng.random() < 0.7 else "p" for its in truths]
    score_of = rng.normal(size=200)
    rows = pd.DataFrame(
        {
            "record_id": [f"r{number:03d}" for number in range(200)],
            "split": ["val", "test"] * 100,
            "landmarks": truths,
            "predicted_landmark": [its if value > -0.5 else None for its, value in zip(best, score_of, strict=True)],
            "best_landmark": best,
            "score": score_of,
            "rank": [1.0 if its in truth else 2.0 for its, truth in zip(best, truths, strict=True)],
        }
    )
    rows.to_parquet("predictions.parquet")
    result = run("predictions.parquet", "predictions.parquet", "--split", "test", "--json")
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)
    for name, value in landmark_figures(rows[rows["split"] == "test"]).items():
        assert name == "top5" or figures[name] == pytest.approx(value)


def test_places_and_landmarks_are_scored_together_or_what_there_is(tables, worked):
    predictions, truth, km = tables
    landmark = np.where(np.arange(RECORDS) % 2, "bridge", "tower")
    truth = truth.assign(landmark=landmark)
    both = predictions.merge(truth[["uuid", "landmark"]], on="uuid").assign(landmark_score=1.0)
    figures, said = score(both, truth)
    assert (figures["mean_km"], figures["gap"], said) == (pytest.approx(km.mean(), rel=1e-6), 1, "")
    printed = run("predictions.csv", "truth.csv").stdout.splitlines()
    assert any(line.split()[:2] == ["gap", "1.000"] for line in printed)
    assert any(line.split()[:3] == ["top1", "100.0", "%"] for line in printed)
    figures, said = score(predictions, truth)
    assert "gap" not in figures
    assert "predictions.csv has no landmarks, so only places are scored" in said
    figures, said = score(both.drop(columns=["latitude", "longitude"]), truth)
    assert "mean_km" not in figures
    assert "predictions.csv has no places, so only landmarks are scored" in said


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_compared_in_one_form(worked, form):
    predictions, truth = worked
    names = {"7": "Café", "4": "Đé", "a": "é", "b": "è"}
    other = {"NFC": "NFD", "NFD": "NFC"}[form]

    def named(table, form):
        return table.replace({old: unicodedata.normalize(form, new) for old, new in names.items()})

    truth["landmarks"] = ["7", "3 4", "9", "", ""]
    expected, _ = score(predictions, truth)
    truth["landmarks"] = [unicodedata.normalize(other, text) for text in ("Café", "3 Đé", "9", "", "")]
    figures, said = score(named(predictions, form), named(truth, other))
    assert (figures, said) == (expected, "")
    assert figures["gap"] > 0.3


def test_columns_that_differ_in_capitals_are_refused(tables):
    predictions, truth, _ = tables
    doubled = predictions.assign(Latitude=predictions["latitude"])
    assert "predictions.csv has the columns 'latitude' and 'Latitude', which differ in capi" in refusal(doubled, truth)
    assert "truth.csv, row 2: longitude is '1_0', no number" in refusal(predictions, truth.assign(longitude="1_0"))


def test_tables_of_a_european_excel_are_scored(tables):
    predictions, truth, km = tables
    truth.to_csv("truth.csv", index=False)
    predictions.to_csv("predictions.csv", index=False, sep=";", decimal=",", encoding="utf-16")
    figures = json.loads(run("predictions.csv", "truth.csv", "--json").stdout)
    assert figures["mean_km"] == pytest.approx(km.mean(), rel=1e-6)


def test_landmarks_that_cannot_be_ranked_are_refused(worked):
    predictions, truth = worked
    assert "no column landmark_score" in refusal(predictions.drop(columns="landmark_score"), truth)
    predictions["landmark_score"] = predictions["landmark_score"].astype(object)
    predictions.loc[2, "landmark_score"] = "high"
    assert "row 4: landmark_score is 'high', no number" in refusal(predictions, truth)
    predictions.loc[2, "landmark_score"] = None
    assert "the answer '4' for 'b' has no number in landmark_score" in refusal(predictions, truth)
    nothing = predictions[["id"]].assign(latitude=1.0, longitude=2.0)
    assert "has no landmarks; it needs the columns landmark and landmark_score" in refusal(nothing, truth)

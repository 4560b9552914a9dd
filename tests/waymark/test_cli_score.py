import json
import math

import numpy as np
import pandas as pd
import pytest
from pyproj import Geod
from scipy.stats import norm
from typer.testing import CliRunner

from waymark.cli import app

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
    assert "2 rows of truth.csv have no place and do not count" in said
    assert "7 predictions have no truth and do not count" in said
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
    assert "stands twice" in refusal(pd.concat([predictions, predictions.head(1)]), truth)
    assert "have no id in common" in refusal(predictions.assign(uuid=predictions["uuid"] + "x"), truth)
    assert "is 'north', no number" in refusal(predictions.assign(latitude="north"), truth)
    assert "which is no place" in refusal(predictions.assign(longitude=400.0), truth)
    assert "no column split; leave out --split" in refusal(predictions, truth, "--split", "test")
    assert "no row with a place" in refusal(predictions, truth.assign(latitude=""))
    assert "absent.csv does not exist" in run("absent.csv", "truth.csv").stderr

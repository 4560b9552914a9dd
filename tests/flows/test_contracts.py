"""What the files of a finished run say, against implementations that share nothing with ours."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyproj import Geod, Transformer

from waymark.metrics.naming import name_figures

pytestmark = pytest.mark.slow

SPHERE = Geod(a=6371008.8, b=6371008.8)
WITHIN_KM = (1, 5, 10, 25, 50, 100, 200, 750, 2500)


@pytest.fixture(params=["cells", "coordinates"])
def model(request):
    return request.param


@pytest.fixture
def predictions(finished, model):
    return pd.read_parquet(finished.folder / f"reports/models/{model}/predictions.parquet")


def sphere_km(rows, latitude, longitude):
    return SPHERE.inv(rows["longitude"], rows["latitude"], rows[longitude], rows[latitude])[2] / 1000


@pytest.mark.parametrize("split", ["val", "test"])
def test_metrics_are_those_of_the_predictions(finished, model, predictions, split):
    metrics = json.loads((finished.folder / f"reports/models/{model}/metrics.json").read_text())[split]
    rows = predictions[(predictions["split"] == split) & predictions["distance_km"].notna()]
    km = np.sort(rows["distance_km"].to_numpy())
    expected = {
        "records": len(km),
        "mean_km": np.mean(km),
        "median_km": np.median(km),
        "p90_km": np.percentile(km, 90),
        "geoscore": np.mean([5000 * np.e ** (-d / 1492.7) for d in km]),
        "constant_mean_km": rows["constant_km"].mean(),
        "oracle_mean_km": rows["oracle_km"].mean() if model == "cells" else None,
        **{f"area_{share}_km2": middle(rows[f"area_{share}_km2"]) for share in (50, 90)},
        **{f"set_coverage_{share}": share_of(rows[f"in_area_{share}"]) for share in (50, 90)},
        "coverage_50": None if rows["radius_50_km"].isna().all() else np.mean(km_within(rows, "radius_50_km")),
        "coverage_90": None if rows["radius_90_km"].isna().all() else np.mean(km_within(rows, "radius_90_km")),
        **{f"within_{limit}km": np.searchsorted(km, limit, side="right") / len(km) for limit in WITHIN_KM},
    }
    in_class = rows[rows["cell"].notna()]
    expected["cell_accuracy"] = (in_class["cell"] == in_class["predicted_cell"]).mean() if len(in_class) else None
    expected |= name_figures(rows)
    assert set(metrics) == set(expected)
    assert metrics["country_accuracy"] is not None
    assert metrics["city_accuracy"] is not None
    for name, value in expected.items():
        assert metrics[name] == (value if value is None else pytest.approx(value, rel=1e-9)), name


def middle(areas):
    return None if areas.isna().all() else np.median(areas)


def share_of(held):
    return None if held.isna().all() else held.astype(float).mean()


def km_within(rows, radius):
    known = rows[rows[radius].notna()]
    return known["distance_km"] <= known[radius]


def test_every_held_out_record_has_its_row(finished, predictions):
    split = pd.read_parquet(finished.folder / "data/split/records.parquet").set_index("record_id")["split"]
    held_out = split[split.isin(["val", "test"])]
    assert dict(zip(predictions["record_id"], predictions["split"], strict=True)) == held_out.to_dict()


def test_distances_are_great_circles_to_the_records_own_places(finished, predictions):
    records = pd.read_parquet(finished.folder / "data/filtered/records.parquet").set_index("record_id")
    placed = predictions[predictions["distance_km"].notna()].reset_index(drop=True)
    assert len(placed) > 5
    for name in ("latitude", "longitude"):
        assert (placed[name].to_numpy() == records.loc[placed["record_id"], name].to_numpy()).all()
    measured = sphere_km(placed, "predicted_latitude", "predicted_longitude")
    assert np.allclose(placed["distance_km"], measured, atol=1e-6)


@pytest.fixture(scope="module")
def best(finished):
    """The answer that is best for all training records, among those of a fine grid."""
    records = pd.read_parquet(finished.folder / "data/filtered/records.parquet").set_index("record_id")
    train = records.loc[training(finished)].dropna(subset=["latitude"])
    candidates = [
        (latitude, longitude)
        for latitude in np.arange(train["latitude"].min(), train["latitude"].max(), 0.04)
        for longitude in np.arange(train["longitude"].min(), train["longitude"].max(), 0.04)
    ]
    return min(candidates, key=lambda place: mean_km(train, place))


def mean_km(table, place):
    count = len(table)
    metres = SPHERE.inv(table["longitude"], table["latitude"], [place[1]] * count, [place[0]] * count)[2]
    return np.mean(metres) / 1000


def test_the_constant_is_the_best_single_answer_for_train(predictions, best):
    rows = predictions[predictions["distance_km"].notna()]
    assert rows["constant_km"].mean() == pytest.approx(mean_km(rows, best), abs=3.0)


def test_predictions_keep_to_their_contract(finished, model):
    schema = pq.read_schema(finished.folder / f"reports/models/{model}/predictions.parquet")
    assert schema.names == [
        *("record_id", "split", "latitude", "longitude", "predicted_latitude", "predicted_longitude"),
        *("distance_km", "cell", "predicted_cell", "oracle_km", "constant_km", "radius_50_km", "radius_90_km"),
        *("landmarks", "predicted_landmark", "score", "rank"),
        *("probability", "nearest_train_km", "best_landmark", "confidence"),
        *("area_50_km2", "area_90_km2", "in_area_50", "in_area_90"),
    ]
    assert schema.field("score").type == pa.float64()
    assert schema.field("landmarks").type == pa.list_(pa.string())


def checkpoint(finished, model):
    return torch.load(finished.folder / f"trained/{model}/model.ckpt", weights_only=True)["state"]


def training(finished):
    split = pd.read_parquet(finished.folder / "data/split/records.parquet")
    return split.loc[split["split"] == "train", "record_id"]


def test_statistics_are_of_training_pixels_alone(finished):
    """A wart of the original: statistics from all splits."""
    index = pd.read_parquet(finished.folder / "data/shards/index.parquet")
    rows = index[index["record_id"].isin(training(finished))]
    assert 0 < len(rows) < len(index)
    with pa.memory_map(str(finished.folder / "data/shards/shard-00000.arrow")) as source:
        pixels = pa.ipc.open_file(source).read_all()["pixels"].to_pylist()
    train = np.stack([np.frombuffer(pixels[row], np.uint8) for row in rows["row"]]).reshape(-1, 3).astype(float)
    statistics = json.loads((finished.folder / "data/split/statistics.json").read_text())
    assert statistics["pictures"] == len(rows)
    for name, expected in (
        ("mean", train.mean(0)),
        ("std", train.std(0)),
        ("min", train.min(0)),
        ("max", train.max(0)),
    ):
        assert np.allclose(statistics[name], expected, rtol=1e-9)
    for model in ("cells", "coordinates"):
        assert np.allclose(checkpoint(finished, model)["mean"], train.mean(0), rtol=1e-6)
        assert np.allclose(checkpoint(finished, model)["std"], train.std(0), rtol=1e-6)


@pytest.mark.parametrize("name", ["arcface", "attention"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_landmark_metrics_are_those_of_the_predictions(finished, name, split):
    """Written out in plain Python, as the metric's authors describe it."""
    folder = finished.folder / f"reports/models/{name}"
    rows = pd.read_parquet(folder / "predictions.parquet").sort_values("record_id")
    rows = rows[rows["split"] == split].to_dict("records")
    queries = [row for row in rows if len(row["landmarks"])]
    named = [row for row in rows if pd.notna(row["predicted_landmark"])]  # the others were refused
    answers = sorted(named, key=lambda row: -row["score"])
    right, total = 0, 0.0
    for place, row in enumerate(answers, start=1):
        if row["predicted_landmark"] in row["landmarks"]:
            right += 1
            total += right / place
    metrics = json.loads((folder / "metrics.json").read_text())[split]
    assert metrics["queries"] == len(queries) > 0
    assert metrics["gap"] == pytest.approx(total / len(queries))
    assert metrics["answered"] == pytest.approx(len(answers) / len(rows))
    for name, most in (("top1", 1), ("top5", 5)):
        assert metrics[name] == pytest.approx(np.mean([row["rank"] <= most for row in queries]))


@pytest.mark.parametrize("name", ["arcface", "attention"])
def test_landmarks_are_learnt_on_train_alone(finished, name):
    table = pd.read_parquet(finished.folder / "data/filtered/records.parquet").set_index("record_id")
    shown = table.loc[training(finished), "landmarks"]
    content = torch.load(finished.folder / f"trained/{name}/model.ckpt", weights_only=True)
    assert list(content["config"]["landmarks"]) == sorted({each[0] for each in shown if len(each)})
    index = pd.read_parquet(finished.folder / f"trained/{name}-calibration/index.parquet")
    assert set(index["record_id"]) == {record_id for record_id, each in shown.items() if len(each)}
    assert index["landmark"].tolist() == [table.loc[record_id, "landmarks"][0] for record_id in index["record_id"]]


def test_cells_and_their_positions_are_learnt_on_train_alone(finished):
    """A wart of the original: weighted centroids from all splits."""
    cells = pd.read_parquet(finished.folder / "data/grid/places.parquet").set_index("record_id")["cell"]
    places = pd.read_parquet(finished.folder / "data/projected/places.parquet").set_index("record_id")
    train = places.join(cells).loc[places.index.intersection(training(finished))]
    means = train.groupby("cell")[["x_m", "y_m"]].mean()
    state = checkpoint(finished, "cells")
    assert len(means) < cells.nunique()  # some cells hold none but val or test records: they are no classes
    assert state["place_head.cell_ids"].tolist() == means.index.tolist()
    assert np.allclose(state["place_head.positions_m"], means.to_numpy(), atol=1e-6)


def test_the_scaler_is_learnt_on_train_alone(finished):
    places = pd.read_parquet(finished.folder / "data/projected/places.parquet").set_index("record_id")
    train = places.loc[places.index.intersection(training(finished)), ["x_m", "y_m"]].to_numpy()
    state = checkpoint(finished, "coordinates")
    extent = train.max(0) - train.min(0)
    assert np.allclose(state["place_head.space.scaler.offset"], (train.max(0) + train.min(0)) / 2)
    assert np.allclose(state["place_head.space.scaler.scale"], extent.max() / 2)  # one scale for both axes


def test_places_are_projected_as_pyproj_does(finished):
    places = pd.read_parquet(finished.folder / "data/projected/places.parquet")
    transformer = Transformer.from_crs("EPSG:4326", "EPSG:3765", always_xy=True)
    x_m, y_m = transformer.transform(places["longitude"], places["latitude"])
    assert np.allclose(places["x_m"], x_m, atol=6e-4)
    assert np.allclose(places["y_m"], y_m, atol=6e-4)
    assert (places["x_m"] == places["x_m"].round(3)).all()

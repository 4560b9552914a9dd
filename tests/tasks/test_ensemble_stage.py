"""Ensembles from the files of made-up models, through the stage and its check."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyproj import Geod

from tasks.ensemble import STAGE, Ensemble, ensemble, remove_leftovers
from tasks.training.ensembles import EnsembleEntry
from tasks.training.evaluation import Evaluate
from tasks.training.predictions import CANDIDATES_SCHEMA, PREDICTIONS_SCHEMA
from waymark.errors import ModelError, ParameterError

SPHERE = Geod(a=6371008.8, b=6371008.8)
RECORDS = 60
NAMES = ("bridge", "church", "tower", "wall", "gate", "mill", "well")
HEADS = {
    "near": ("data/grid", {"name": "cells"}),
    "far": ("data/projected", "coordinates"),
    "arcface": ("data/filtered/landmarks.parquet", {"name": "arcface"}),
    "attention": ("data/filtered/landmarks.parquet", "attention"),
    "joint": ("data/grid", {"name": "joint", "place": "cells", "landmark": "softmax"}),
}
MODELS = {name: {"target": target, "head": head} for name, (target, head) in HEADS.items()}


def truth():
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "record_id": [f"r{row:02d}" for row in range(RECORDS)],
            "split": ["val", "test"] * (RECORDS // 2),
            "latitude": 45 + rng.random(RECORDS),
            "longitude": 16 + rng.random(RECORDS),
            "landmarks": [[] if row % 5 == 0 else [NAMES[row % 6]] for row in range(RECORDS)],
        }
    )


def write_model(name, seed, *, places, landmarks, spread_deg=0.2, scale=1.0):
    """Write what evaluate writes of a model, and give its rows."""
    rng = np.random.default_rng(seed)
    rows = truth()
    found = []
    if places:
        rows["predicted_latitude"] = rows["latitude"] + rng.normal(0, spread_deg, RECORDS)
        rows["predicted_longitude"] = rows["longitude"] + rng.normal(0, spread_deg, RECORDS)
        rows["distance_km"] = sphere_km(rows)
        rows[["constant_km", "radius_50_km", "radius_90_km", "nearest_train_km"]] = [40.0, 15.0, 50.0, 2.0]
        rows["cell"] = rows["predicted_cell"] = 3
        rows["probability"] = 0.5
    if landmarks:
        scores = rng.normal(0, 1, (RECORDS, len(NAMES) - 1))  # nobody knows the last one
        for row, its in enumerate(rows["landmarks"]):
            scores[row, [NAMES.index(landmark) for landmark in its]] += 1.5
        order = np.argsort(-scores, axis=1)
        for row, best in enumerate(order[:, :5]):
            of_record = {"record_id": rows["record_id"][row], "split": rows["split"][row]}
            found += [
                {**of_record, "place": place, "landmark": NAMES[its], "score": scale * scores[row, its]}
                for place, its in enumerate(best, 1)
            ]
        rows["best_landmark"] = [NAMES[its] for its in order[:, 0]]
        rows["score"] = scale * scores.max(axis=1)
        rows["predicted_landmark"] = rows["best_landmark"].where(rows["score"] > 0)
        ranks = [
            [order[row].tolist().index(NAMES.index(its)) + 1 for its in its]
            for row, its in enumerate(rows["landmarks"])
        ]
        rows["rank"] = pd.array([min(its) if its else None for its in ranks], dtype="Int64")
    folder = Path("reports/models") / name
    folder.mkdir(parents=True)
    table = rows.reindex(columns=PREDICTIONS_SCHEMA.names)
    pq.write_table(
        pa.Table.from_pandas(table, PREDICTIONS_SCHEMA, preserve_index=False), folder / "predictions.parquet"
    )
    pq.write_table(pa.Table.from_pylist(found, CANDIDATES_SCHEMA), folder / "candidates.parquet")
    return table


def sphere_km(rows):
    columns = ("longitude", "latitude", "predicted_longitude", "predicted_latitude")
    return SPHERE.inv(*(rows[name].to_numpy() for name in columns))[2] / 1000


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/filtered").mkdir(parents=True)
    truth().assign(group=None)[["record_id", "group"]].to_parquet("data/filtered/records.parquet")
    return {
        "near": write_model("near", 1, places=True, landmarks=False),
        "far": write_model("far", 2, places=True, landmarks=False),
        "arcface": write_model("arcface", 3, places=False, landmarks=True),
        "attention": write_model("attention", 4, places=False, landmarks=True, scale=40.0),
        "joint": write_model("joint", 5, places=True, landmarks=True),
    }


def settings(ensembles, **calibrate):
    entries = {name: EnsembleEntry(**entry) for name, entry in ensembles.items()}
    return Ensemble(entries, MODELS, {}, calibrate, Evaluate())


def written(name, kind="predictions"):
    return pd.read_parquet(f"reports/ensembles/{name}/{kind}.parquet")


def metrics(name):
    return json.loads(Path(f"reports/ensembles/{name}/metrics.json").read_text())


def test_no_ensembles_leave_an_empty_index(models):
    ensemble(settings({}))
    assert [path.name for path in Path("reports/ensembles").iterdir()] == ["index.json"]
    assert json.loads(Path("reports/ensembles/index.json").read_text()) == {}


def test_an_ensemble_of_places_answers_between_its_models(models):
    ensemble(settings({"both": {"models": ("near", "far", "joint")}}))
    rows = written("both")
    assert pq.read_schema("reports/ensembles/both/predictions.parquet").equals(PREDICTIONS_SCHEMA)
    assert np.allclose(rows["distance_km"], sphere_km(rows))
    figures = metrics("both")
    for split in ("val", "test"):
        errors = rows.loc[rows["split"] == split, "distance_km"]
        assert figures[split]["mean_km"] == pytest.approx(errors.mean())
        alone = [its["distance_km"][its["split"] == split].mean() for its in models.values()]
        assert figures[split]["mean_km"] < np.nanmin(alone)
        assert "gap" not in figures[split]
    for name in ("cell", "predicted_cell", "oracle_km", "probability", "best_landmark", "score", "rank"):
        assert rows[name].isna().all()
    assert (rows["constant_km"] == 40).all()
    assert len(written("both", "candidates")) == 0
    intervals = json.loads(Path("reports/ensembles/both/intervals.json").read_text())
    low, high = intervals["test"]["mean_km"]
    assert low < figures["test"]["mean_km"] < high


def test_the_radii_of_an_ensemble_hold_on_val_what_they_promise(models):
    ensemble(settings({"both": {"models": ("near", "far"), "combine": "mean"}}))
    rows = written("both").query("split == 'val'")
    for share in (50, 90):  # split-conformal: the ceil((n + 1) share)-th smallest score of val itself is covered
        covered = int((rows["distance_km"] <= rows[f"radius_{share}_km"] + 1e-9).sum())
        assert covered == int(np.ceil((len(rows) + 1) * share / 100))
    places = [models[name].set_index("record_id") for name in ("near", "far")]
    apart = np.hypot(*(places[0][name] - places[1][name] for name in ("predicted_latitude", "predicted_longitude")))
    order = rows.set_index("record_id")["radius_90_km"].corr(apart, method="spearman")
    assert order > 0.9  # the farther apart the models, the wider


def test_an_ensemble_of_landmarks_names_better_than_its_models(models):
    ensemble(settings({"names": {"models": ("arcface", "attention", "joint")}}))
    rows, figures = written("names"), metrics("names")
    candidates = written("names", "candidates")
    assert pq.read_schema("reports/ensembles/names/candidates.parquet").equals(CANDIDATES_SCHEMA)
    top1 = {
        name: (models[name].query("split == 'test'")["rank"] == 1).sum() for name in ("arcface", "attention", "joint")
    }
    queries = int((rows.query("split == 'test'")["landmarks"].map(len) > 0).sum())
    assert figures["test"]["top1"] > max(top1.values()) / queries
    assert "mean_km" not in figures["test"]
    assert rows["predicted_latitude"].isna().all()
    best = candidates[candidates["place"] == 1].set_index("record_id")
    assert rows["best_landmark"].tolist() == best.loc[rows["record_id"], "landmark"].tolist()
    assert rows["score"].tolist() == best.loc[rows["record_id"], "score"].tolist()
    assert candidates.groupby("record_id")["place"].agg(list).map(lambda its: its == [1, 2, 3, 4, 5]).all()
    right = [best in its for best, its in zip(rows["best_landmark"], rows["landmarks"], strict=True)]
    assert (rows["rank"] == 1).fillna(False).tolist() == right


def test_a_score_on_another_scale_does_not_rule(models):
    """The attention model's scores are forty times as large."""
    ensemble(settings({"names": {"models": ("arcface", "attention")}}))
    best = written("names")["best_landmark"]
    agreeing = [(best == models[name]["best_landmark"]).mean() for name in ("arcface", "attention")]
    assert abs(agreeing[0] - agreeing[1]) < 0.25


def test_nothing_is_refused_without_a_wanted_precision_and_enough_with_one(models):
    entry = {"names": {"models": ("arcface", "attention")}}
    ensemble(settings(entry, precision=None))
    assert written("names")["predicted_landmark"].notna().all()
    free = metrics("names")["val"]["precision"]
    ensemble(settings(entry, precision=0.9))
    refusing = metrics("names")["val"]
    assert free < 0.9 <= refusing["precision"]
    assert 0 < refusing["answered"] < 1
    rows = written("names")
    refused = rows["predicted_landmark"].isna()
    val = rows[rows["split"] == "val"]
    above = [(score, (val.loc[val["score"] >= score, "rank"] == 1).fillna(False).mean()) for score in val["score"]]
    threshold = min(score for score, precision in above if precision >= 0.9)
    assert (refused == (rows["score"] < threshold)).all()


def test_joint_models_answer_both_together_and_with_others_what_is_common(models):
    write_model("second", 6, places=True, landmarks=True)
    MODELS["second"] = MODELS["joint"]
    ensemble(
        settings(
            {"both": {"models": ("joint", "second")}, "half": {"models": ("joint", "near"), "weights": (1.0, 1.0)}}
        )
    )
    del MODELS["second"]
    assert {"gap", "mean_km"} <= set(metrics("both")["test"])
    assert "gap" not in metrics("half")["test"]
    index = json.loads(Path("reports/ensembles/index.json").read_text())
    assert index["both"] == {"models": ["joint", "second"], "weights": None, "answers": ["landmarks", "places"]}
    assert index["half"]["weights"] == [1.0, 1.0]


def test_models_of_other_records_are_refused_and_the_outputs_stay(models):
    ensemble(settings({"both": {"models": ("near", "far")}}))
    before = Path("reports/ensembles/both/predictions.parquet").read_bytes()
    path = Path("reports/models/far/predictions.parquet")
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(ModelError, match="far and near were evaluated on different records; run dvc repro"):
        ensemble(settings({"both": {"models": ("near", "far")}}))
    assert Path("reports/ensembles/both/predictions.parquet").read_bytes() == before


def test_the_same_answers_give_the_same_bytes(models):
    entry = {"both": {"models": ("near", "far")}, "names": {"models": ("arcface", "attention")}}
    files = [f"reports/ensembles/{name}/{kind}.parquet" for name in entry for kind in ("predictions", "candidates")]
    ensemble(settings(entry))
    before = [Path(file).read_bytes() for file in files]
    ensemble(settings(entry))
    assert [Path(file).read_bytes() for file in files] == before


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"models": ["near", "fra"]}, r"ensembles\.e\.models: fra is no model; did you mean 'far'\?"),
        ({"models": ["near"]}, r"ensembles\.e\.models: must be a list of 2 or more"),
        ({"models": ["near", "near"]}, r"ensembles\.e\.models names a model twice"),
        ({"models": ["near", "far"], "weights": [1]}, r"ensembles\.e\.weights: 1 weights for 2 models"),
        (
            {"models": ["near", "far"], "weights": [1, 0]},
            r"ensembles\.e\.weights\.1: must be a number from 1e-06 up to",
        ),
        ({"models": ["near", "far"], "weights": [3, 1]}, r"near has more than half of the weight.*set combine to mean"),
        ({"models": ["near", "arcface"]}, r"near answers places, arcface answers landmarks; name models that answer"),
        ({"models": ["near", "far"], "combine": "mode"}, r"ensembles\.e\.combine: .*'median' or 'mean'"),
        ({"models": ["near", "far"], "weight": [1, 2]}, r"unknown key ensembles\.e\.weight"),
    ],
)
def test_an_ensemble_that_cannot_answer_is_refused(entry, message):
    document = {"ensembles": {"e": entry}, "models": MODELS, "block_split": {}, "calibrate": {}, "evaluate": {}}
    with pytest.raises(ParameterError, match=message):
        STAGE.read(document)


@pytest.mark.parametrize(("name", "message"), [("near", "bears the name of a model"), ("../x", "names consist of")])
def test_an_ensemble_has_a_name_of_its_own(name, message):
    entries = {name: {"models": ["near", "far"]}}
    document = {"ensembles": entries, "models": MODELS, "block_split": {}, "calibrate": {}, "evaluate": {}}
    with pytest.raises(ParameterError, match=message):
        STAGE.read(document)


def test_weights_may_lean_on_one_model_where_nothing_is_a_median():
    entries = {
        "mean": {"models": ["near", "far"], "weights": [3, 1], "combine": "mean"},
        "names": {"models": ["arcface", "attention"], "weights": [3.0, 1]},
    }
    document = {"ensembles": entries, "models": MODELS, "block_split": {}, "calibrate": {}, "evaluate": {}}
    assert STAGE.read(document).ensembles["mean"].shares == [3.0, 1.0]


def test_reports_that_nobody_asks_for_are_removed_before_the_folder_is_hashed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cells", "gone", "cells@block_split", "gone@block_split"):
        (Path("reports/models") / name).mkdir(parents=True)
    remove_leftovers({"cells", "cells@block_split"})
    assert sorted(path.name for path in Path("reports/models").iterdir()) == ["cells", "cells@block_split"]

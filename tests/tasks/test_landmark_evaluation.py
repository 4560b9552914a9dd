"""Calibration and evaluation of models that name landmarks, on a small project, in this process."""

import io
import json
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import small
import torch
from PIL import Image
from tiny_model import head_of

from tasks import calibrate, evaluate
from tasks.common import stage
from tasks.reporting.models import ModelReader
from tasks.training.certainty import Calibrate, learn_certainty
from tasks.training.evaluation import Evaluate
from tasks.training.predictions import CANDIDATES_SCHEMA
from tasks.training.tables import open_shards, read_table
from waymark.errors import ModelError
from waymark.geo import load_region
from waymark.inference.predictor import load_predictor
from waymark.metrics.breakdown import named_regions
from waymark.metrics.figures import landmark_figures, place_figures
from waymark.metrics.naming import name_figures
from waymark.models.calibration_files import save_calibration
from waymark.models.config import ModelConfig
from waymark.models.locator import Locator

STAGES = ("download", "filter", "resize", "project", "split", "grid")
BODIES = {"filter": "filter_records", "project": "project_places", "grid": "grid_places"}
SETTINGS = Evaluate(gallery=2, batch_size=4)
LABELS = ["l1", "l2", "l3", ""] * 3  # of the records; l3 is no class of the heads
KINDS = {
    "arcface": (None, "arcface"),
    "attention": (None, "attention"),
    "joint": ("cells", "softmax"),
    "cells": ("cells", None),
}
FILES = (
    "predictions.parquet", "candidates.parquet", "attention.parquet", "metrics.json", "size.json", "intervals.json",
    "plots/curves.csv", "plots/errors.csv", "plots/answers.csv",
)  # fmt: skip


def network(head, landmark):
    torch.manual_seed(1)
    grid = pd.read_parquet("data/grid/cells.parquet", columns=["cell", "latitude", "longitude"]).head(6)
    known = ("l1", "l2") if landmark else ()
    locator = Locator(
        ModelConfig(
            backbone="mobilenetv3_small_100", views="concat", slots=(None,), head=head_of(head, landmark),
            classes=6 if head else 0,
            crs="EPSG:3765", shard_px=16, size_px=16, target="data/grid" if head else "data/filtered/landmarks.parquet",
            landmarks=known, landmark_names=tuple(its.upper() for its in known),
        )
    )  # fmt: skip
    if head:
        xy_m = np.array([[4e5 + 2e4 * row, 5.05e6] for row in range(6)])
        locator.place_head.set_cells(grid["cell"].to_numpy(copy=True), xy_m, grid[["latitude", "longitude"]].to_numpy())
    if landmark:
        locator.landmark_head.adapt(np.array([2, 2]))
    for layer in locator.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # else an untaught net sees nothing
    pixels = torch.randint(0, 256, (8, 1, 3, 16, 16), dtype=torch.uint8)
    locator.train()(pixels, torch.ones(8, 1, dtype=torch.bool))
    return locator.eval()


def run(name, settings):
    locator = network(*KINDS[name])
    trained = evaluate.TRAINED / name
    trained.mkdir(parents=True)
    locator.save(trained / "model.ckpt")
    column = "val_mean_km" if KINDS[name][0] else "val_gap"
    (trained / "training.json").write_text(json.dumps({"curves": [{"epoch": 0, "train_loss": 1.0, column: 9.0}]}))
    calibrate.calibrate(name, settings)
    (evaluate.REPORTS / name).mkdir(parents=True)
    predictor = load_predictor(trained / "model.ckpt", evaluate.TRAINED / f"{name}-calibration")
    return evaluate.write_evaluation(name, predictor, SETTINGS, evaluate.REPORTS / name)


class Project(NamedTuple):
    folder: Path
    found: dict  # by model
    shown: dict  # what the report shows, by model


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small.write_table(folder, landmark=LABELS)
        table = pd.read_csv(folder / "input" / "photos.csv")
        table.loc[[0, 5], ["latitude", "longitude"]] = np.nan
        table.to_csv(folder / "input" / "photos.csv", index=False)
        small.write_params(folder, split__fractions=[0.5, 0.25, 0.25], split__seed=3, grid__spacing_m=15000)
        for name in STAGES:
            module = import_module(f"tasks.{name}")
            getattr(module, BODIES.get(name, name))(module.STAGE.read(stage.load_params()))
        settings = Calibrate(neighbours=2, batch_size=5, precision=0.5)
        found = {name: run(name, settings) for name in KINDS}
        reader = ModelReader(SETTINGS, load_region("HRV"), named_regions(None))
        read = {name: reader.read(name, entry(name), made(folder / "details" / name)) for name in KINDS}
        yield Project(folder, found, read)


def entry(name):
    return {"target": "data/grid" if KINDS[name][0] else "data/filtered/landmarks.parquet"}


def made(folder):
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(autouse=True)
def inside_project(project, monkeypatch):
    monkeypatch.chdir(project.folder)


def predictions(name):
    return pd.read_parquet(evaluate.REPORTS / name / "predictions.parquet")


def read(name, file):
    return json.loads((evaluate.REPORTS / name / file).read_text())


@pytest.mark.parametrize("name", KINDS)
def test_every_model_has_every_table_and_nothing_that_is_drawn(name):
    folder = evaluate.REPORTS / name
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == sorted(FILES)
    curves = pd.read_csv(evaluate.REPORTS / name / "plots" / "curves.csv")
    assert {"val_mean_km", "val_gap"} <= set(curves)
    size = read(name, "size.json")
    checkpoint = evaluate.TRAINED / name / "model.ckpt"
    state = torch.load(checkpoint, weights_only=True)["state"]
    floats = sum(its.numel() for its in state.values())
    assert size["checkpoint_mb"] == checkpoint.stat().st_size / 1e6
    assert 0.9 * floats < size["parameters_millions"] * 1e6 < floats
    assert 0 < size["gmacs"] < 0.05


@pytest.mark.parametrize("name", KINDS)
def test_figures_are_those_of_the_heads_and_of_nothing_else(project, name):
    places, landmarks = KINDS[name]
    for split in ("val", "test"):
        rows = predictions(name).query("split == @split")
        expected = {
            **(place_figures(rows) | name_figures(rows) if places else {}),
            **(landmark_figures(rows) if landmarks else {}),
        }
        assert read(name, "metrics.json")[split] == project.found[name].metrics[split] == expected
    assert project.found[name].images_per_second > 0
    found = predictions(name)
    assert found.columns[-6:-4].tolist() == ["best_landmark", "confidence"]
    assert found["predicted_latitude"].notna().all() == (places is not None)
    for column in ("predicted_longitude", "distance_km", "constant_km", "radius_50_km", "nearest_train_km"):
        assert found[column].notna().any() == (places is not None), column
    for column in ("score", "best_landmark", "confidence"):
        assert found[column].notna().all() == (landmarks is not None)
        assert found[column].notna().any() == (landmarks is not None)


@pytest.mark.parametrize("name", ["arcface", "attention", "joint"])
def test_candidates_and_ranks_belong_together(name):
    found, file = predictions(name).set_index("record_id"), evaluate.REPORTS / name / "candidates.parquet"
    assert pq.read_schema(file).names == CANDIDATES_SCHEMA.names
    candidates = pd.read_parquet(file)
    threshold = json.loads((evaluate.TRAINED / f"{name}-calibration" / "calibration.json").read_text())["landmark"][
        "threshold"
    ]
    assert set(candidates["record_id"]) == set(found.index)
    for record_id, its in candidates.groupby("record_id"):
        row = found.loc[record_id]
        assert its["place"].tolist() == [1, 2, 3]
        assert its["score"].is_monotonic_decreasing
        assert (row["best_landmark"], row["score"]) == (its["landmark"].iloc[0], its["score"].iloc[0])
        assert pd.isna(row["predicted_landmark"]) == (threshold is not None and row["score"] < threshold)
        truth = list(row["landmarks"])
        assert (pd.isna(row["rank"]) and not truth) or its["landmark"].iloc[int(row["rank"]) - 1] in truth
    assert len(pd.read_parquet(evaluate.REPORTS / "cells" / "candidates.parquet")) == 0


def test_the_index_holds_the_training_records_that_a_head_could_learn():
    train = read_table().query("split == 'train'").set_index("record_id")
    shown = {row for row, its in train["landmarks"].items() if len(its)}
    placed = set(train.index[train["latitude"].notna()])
    assert shown - placed
    assert placed - shown
    for name, expected in (("arcface", shown), ("joint", shown | placed), ("cells", placed)):
        index = pd.read_parquet(evaluate.TRAINED / f"{name}-calibration" / "index.parquet").set_index("record_id")
        assert set(index.index) == expected
        known = index["landmark"].dropna()
        assert set(known.index) == (set() if name == "cells" else shown)
        assert all(train["landmarks"][row][0] == its for row, its in known.items())
        if name != "cells":
            assert "l3" in set(known)
    names = pd.read_parquet(evaluate.TRAINED / "arcface-calibration" / "landmarks.parquet")
    assert names["landmark"].tolist() == ["l1", "l2", "l3"]


def test_maps_of_attention_are_kept_and_drawn(project):
    maps = pd.read_parquet(evaluate.REPORTS / "attention" / "attention.parquet")
    assert maps["record_id"].tolist() == predictions("attention")["record_id"].tolist()
    assert all(len(row.attention) == row.height * row.width for row in maps.itertuples())
    recognition = project.shown["attention"].recognition
    shown = [guess.record_id for guess in (*recognition.best, *recognition.worst)]
    assert [picture.label.split(",")[0] for picture in recognition.attention] == shown
    assert len(shown) > 0
    assert Image.open(io.BytesIO(recognition.attention[0].encoded)).size == (192, 192)
    for name in ("arcface", "joint", "cells"):
        assert len(pd.read_parquet(evaluate.REPORTS / name / "attention.parquet")) == 0
    assert [project.shown[name].recognition.attention for name in ("arcface", "joint")] == [[], []]


@pytest.mark.parametrize("name", ["arcface", "joint"])
def test_answers_to_look_at_are_right_and_wrong_ones_of_test(project, name):
    found = predictions(name).query("split == 'test'").set_index("record_id")
    recognition = project.shown[name].recognition
    for right, guesses in ((True, recognition.best), (False, recognition.worst)):
        for guess in guesses:
            row = found.loc[guess.record_id]
            assert guess.right == right == (row["predicted_landmark"] in list(row["landmarks"]))
            assert guess.answered.lower() == row["predicted_landmark"]
            assert [truth.lower() for truth in guess.truth] == list(row["landmarks"])
            assert guess.score == row["score"]
            assert len(guess.pictures) == 1
    answered = found["predicted_landmark"].notna().sum()
    assert len(recognition.best) + len(recognition.worst) == min(answered, 4) or answered > 2


def test_confused_pairs_come_with_a_picture_of_either_side(project):
    shards, train = open_shards(), read_table().query("split == 'train'")
    pairs = project.shown["arcface"].recognition.confusions
    table = pd.read_csv(project.folder / "details" / "arcface" / "confusions.csv", dtype=str)
    assert len(pairs) == len(table) > 0
    first = {
        its[0]: row for row, its in zip(train["record_id"][::-1], train["landmarks"][::-1], strict=True) if len(its)
    }
    for pair, row in zip(pairs, table.itertuples(), strict=True):
        assert pair.true != pair.answered
        one, other = pair.pictures
        assert one.label == row.examples.split()[0]
        assert other.label == first[pair.answered]
        decoded = np.asarray(Image.open(io.BytesIO(other.encoded)), dtype=float)
        assert np.abs(decoded - shards[other.label, 0]).mean() < 40
    assert project.shown["cells"].recognition is None
    assert len(pd.read_csv(project.folder / "details" / "arcface" / "landmarks.csv")) > 0
    assert not (project.folder / "details" / "cells" / "landmarks.csv").exists()


def test_a_model_of_landmarks_alone_has_a_map_that_says_so(project):
    maps = {name: (project.folder / "details" / name / "map.html").read_text() for name in ("arcface", "joint")}
    assert "arcface names landmarks and no places." in maps["arcface"]
    assert "names landmarks and no places." not in maps["joint"]


def test_a_landmark_model_without_records_of_landmarks_is_refused():
    table = read_table()
    table["landmarks"] = [
        its if split == "train" else [] for its, split in zip(table["landmarks"], table["split"], strict=True)
    ]
    locator = network(*KINDS["arcface"])
    with pytest.raises(ModelError, match="named knows landmarks, but no val record shows one"):
        learn_certainty("named", locator, table, Calibrate())


def test_places_of_a_joint_model_are_calibrated_on_records_with_coordinates(tmp_path):
    """Its place section is that of a model without landmarks, asked with the same records."""
    table = read_table()
    locator = network(*KINDS["joint"])
    learnt = learn_certainty("joint", locator, table, Calibrate(neighbours=2))
    placed = table[table["latitude"].notna()]
    alone = learn_certainty("joint", locator, placed, Calibrate(neighbours=2))
    assert learnt.calibration.temperature == pytest.approx(alone.calibration.temperature, rel=1e-3)
    assert learnt.calibration.radii.factor_50 == pytest.approx(alone.calibration.radii.factor_50, rel=1e-3)
    save_calibration(learnt.calibration, learnt.index, learnt.record_ids, tmp_path)
    assert json.loads((tmp_path / "calibration.json").read_text())["landmark"]["wanted_precision"] is None

"""From a model's answers to the report, on a small project, stage by stage in this process."""

import hashlib
import json
from importlib import import_module
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import small
import torch
from pyproj import Geod

from tasks import evaluate
from tasks.common import stage
from tasks.compare import COMPARISON, DETAILS, PAGE, Compare, compare, compared
from tasks.compare import STAGE as COMPARE
from tasks.reporting.details import errors_of
from tasks.reporting.network import network_pictures
from tasks.reporting.pictures import Pictures
from tasks.training.evaluation import Evaluate
from waymark.errors import ModelError, ParameterError, RegionError
from waymark.inference.predictor import Predictor
from waymark.metrics.breakdown import named_regions
from waymark.metrics.intervals import place_intervals
from waymark.models.calibration import Radii, RetrievalIndex
from waymark.models.calibration_files import Calibration
from waymark.models.config import ModelConfig
from waymark.models.heads import HeadOptions
from waymark.models.locator import Locator

SPHERE = Geod(a=6371008.8, b=6371008.8)
STAGES = ("download", "filter", "resize", "project", "split", "grid")
BODIES = {"filter": "filter_records", "project": "project_places", "grid": "grid_places"}
SETTINGS = Evaluate(gallery=1, batch_size=4)
MODELS = ("cells", "other", "coordinates")


def predictor(head, target, seed, backbone="mobilenetv3_small_100"):
    """An untaught network that knows the cells."""
    torch.manual_seed(seed)
    grid = pd.read_parquet("data/grid/cells.parquet", columns=["cell", "latitude", "longitude"]).head(6)
    config = ModelConfig(
        backbone=backbone, views="concat", slots=(None,), head=HeadOptions.choose(head),
        classes=len(grid), crs="EPSG:3765",
        shard_px=16, size_px=16, target=target,
    )  # fmt: skip
    locator = Locator(config)
    if head == "cells":
        lat_lon = grid[["latitude", "longitude"]].to_numpy()
        xy_m = np.array([[4e5 + 2e4 * row, 5.05e6] for row in range(len(grid))])
        locator.place_head.set_cells(grid["cell"].to_numpy(copy=True), xy_m, lat_lon)
    index = RetrievalIndex(np.eye(3, locator.join.width, dtype=np.float32), np.full((3, 2), 45.0))
    return Predictor(locator.eval(), Calibration(1.0, 2, Radii(1.0, 2.0, 5.0)), index)


def written(name, predictor, settings=SETTINGS):
    folder = evaluate.REPORTS / name
    folder.mkdir(parents=True)
    trained = evaluate.TRAINED / name
    trained.mkdir(parents=True, exist_ok=True)
    curves = {"epoch": [0], "train_loss": [1.0], "val_loss": [1.0], "val_mean_km": [9.0], "learning_rate": [0.1]}
    predictor.locator.save(trained / "model.ckpt")
    (trained / "training.json").write_text(json.dumps({"curves": curves}))
    return evaluate.write_evaluation(name, predictor, settings, folder)


def on_blocks(model, times):
    """Write a block split's files, as its stage leaves them."""
    folder = evaluate.REPORTS / f"{model}@block_split"
    folder.mkdir()
    rows = predictions(model)
    rows["distance_km"] *= times
    rows.to_parquet(folder / "predictions.parquet")
    division = {"block_m": 30000, "buffer_m": 2000, "records": {"train": 5, "val": 3, "test": 4}}
    (folder / "block_split.json").write_text(json.dumps(division))
    (folder / "metrics.json").write_text("{}")


def settings():
    models = stage.load_params()["models"]
    entries = {name: models["cells" if name == "other" else name] for name in MODELS}
    return Compare(region="HRV", models=entries, ensembles={}, block_split={"cells": {}}, evaluate=SETTINGS)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small.write_table(folder, group=["pano-1"] * 3 + ["pano-2"] * 2 + [f"pano-{row}" for row in range(3, 10)])
        small.write_params(folder, split__fractions=[0.34, 0.33, 0.33], split__seed=3, grid__spacing_m=15000)
        for name in STAGES:
            module = import_module(f"tasks.{name}")
            getattr(module, BODIES.get(name, name))(module.STAGE.read(stage.load_params()))
        written("cells", predictor("cells", "data/grid", 1))
        written("other", predictor("cells", "data/grid", 2, "test_vit"))
        written("coordinates", predictor("coordinates", "data/projected", 3))
        on_blocks("cells", 1.5)
        Path("reports/ensembles").mkdir()
        Path("reports/ensembles/index.json").write_text("{}")
        compare(settings())
        yield folder


@pytest.fixture(autouse=True)
def inside_project(project, monkeypatch):
    monkeypatch.chdir(project)


def predictions(name):
    return pd.read_parquet(evaluate.REPORTS / name / "predictions.parquet")


def records():
    split = pd.read_parquet("data/split/records.parquet")[["record_id", "split"]]
    return pd.read_parquet("data/filtered/records.parquet").drop(columns="split").merge(split, on="record_id")


def test_every_held_out_record_knows_its_nearest_training_place():
    table = records()
    train = table[table["split"] == "train"]
    held_out = predictions("cells").merge(table[["record_id"]], on="record_id")
    assert len(held_out) == (table["split"].isin(["val", "test"])).sum() >= 4
    for row in held_out.itertuples():
        metres = [SPHERE.inv(row.longitude, row.latitude, its.longitude, its.latitude)[2] for its in train.itertuples()]
        assert row.nearest_train_km == pytest.approx(min(metres) / 1000, rel=1e-6)


def test_the_probability_is_that_of_the_named_cell():
    schema = pq.read_schema(evaluate.REPORTS / "cells" / "predictions.parquet")
    assert schema.names[-8:-4] == ["probability", "nearest_train_km", "best_landmark", "confidence"]
    found = predictions("cells")
    assert found["probability"].between(1 / 6, 1).all()
    assert found["probability"].nunique() > 1
    assert predictions("coordinates")["probability"].isna().all()


def test_intervals_stand_beside_the_figures_with_groups_drawn_whole():
    document = json.loads((evaluate.REPORTS / "cells" / "intervals.json").read_text())
    assert (document["confidence"], document["method"]) == (0.95, "percentile bootstrap")
    groups = records().set_index("record_id")["group"]
    for split in ("val", "test"):
        rows = predictions("cells").query("split == @split")
        expected = place_intervals(rows, groups)
        assert document[split] == json.loads(json.dumps(expected.document()))
        assert expected.unit == ("group" if groups[rows["record_id"]].duplicated().any() else "record")
    assert "group" in {document[split]["unit"] for split in ("val", "test")}


def test_errors_are_written_by_cell_and_by_region(project):
    by_cell, by_region = (pd.read_csv(DETAILS / "cells" / f"errors_by_{name}.csv") for name in ("cell", "region"))
    places = pd.read_parquet("data/grid/places.parquet").set_index("record_id")["cell"]
    rows = predictions("cells")
    for (split, cell), its in rows.groupby(["split", places[rows["record_id"]].to_numpy()]):
        row = by_cell[(by_cell["split"] == split) & (by_cell["cell"] == cell)].iloc[0]
        assert row["records"] == len(its)
        assert row["mean_km"] == pytest.approx(its["distance_km"].mean())
    assert by_cell["records"].sum() == len(rows)
    assert len(geopandas.read_parquet(DETAILS / "cells" / "errors_by_cell.parquet")) == len(by_cell)
    assert set(by_region["region"]) == {"Croatia"}
    assert pd.read_csv(DETAILS / "coordinates" / "errors_by_cell.csv").empty


def test_every_model_has_a_map(project):
    for name in MODELS:
        assert f"{name}: where its guesses lie" in (DETAILS / name / "map.html").read_text()


def test_regions_of_ones_own_are_used_and_checked_before_anything_runs(tmp_path):
    file = tmp_path / "halves.geojson"
    west, east = ([[13, 42], [edge, 42], [edge, 47], [13, 47], [13, 42]] for edge in (16.25, 20))
    features = [
        {"type": "Feature", "properties": {"name": name}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        for name, ring in (("west", west), ("all", east))
    ]
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    rows = predictions("coordinates")
    found = errors_of(rows, Path("data/projected"), named_regions(file)).by_region.groupby("region")["records"].sum()
    in_the_west = int((rows["longitude"] < 16.25).sum())
    assert found.to_dict() == {"west": in_the_west, "all": len(rows) - in_the_west}
    document = stage.load_params()
    document["evaluate"]["regions"] = "nowhere.gpkg"
    with pytest.raises(RegionError, match=r"nowhere\.gpkg does not exist"):
        COMPARE.read(document)


def test_pictures_of_the_network_are_drawn_from_its_checkpoint():
    checkpoint = evaluate.TRAINED / "cells" / "model.ckpt"
    digest = json.loads((evaluate.REPORTS / "cells" / "size.json").read_text())["sha256"]
    assert digest == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    best = predictions("cells")["record_id"].iloc[0]
    filters, seen = network_pictures("cells", digest, best, Pictures())
    assert filters.label == "filters of the first layer"
    assert all(picture.label.startswith(f"{best}, ") for picture in seen)
    assert all(picture.encoded.startswith(b"\x89PNG") for picture in (filters, *seen))
    page = Path("reports/index.html").read_text(encoding="utf-8")
    assert page.count('alt="filters of the first layer"') == len(MODELS)
    assert page.count("Grad-CAM of cell") == 2  # alt and caption, of the convolutional model with cells
    assert page.count("attention of the class token") == 2  # of the transformer
    with pytest.raises(ModelError, match=r"cells/model\.ckpt is not the network that was evaluated"):
        network_pictures("cells", "0" * 64, best, Pictures())


def test_the_comparison_holds_all_that_the_page_shows(project):
    document = json.loads(Path("reports/compare.json").read_text())
    assert list(document["models"]) == ["cells", "other", "coordinates"]
    assert set(document["intervals"]["other"]) >= {"val", "test", "method"}
    split = document["block_split"]["cells"]
    assert split["ratio"]["value"] == pytest.approx(1.5)
    assert (split["block_m"], split["records"]["test"]) == (30000, 4)
    assert document["leakage"]["splits"]["test"]["in_shared_groups"] == 0
    assert document["certainty"]["cells"]["aurc_km"] > 0
    assert document["certainty"]["coordinates"]["expected_calibration_error"] is None
    page = Path("reports/index.html").read_text(encoding="utf-8")
    assert "Random against block split" in page
    assert "cells@block_split" not in page
    files = [PAGE, COMPARISON, *(path for path in DETAILS.rglob("*") if path.is_file())]
    before = [file.read_bytes() for file in files]
    compare(settings())
    assert [file.read_bytes() for file in files] == before


def test_each_model_is_held_against_the_first_and_against_the_best():
    rows = {name: predictions(name) for name in ("cells", "other", "coordinates")}
    groups = records().set_index("record_id")["group"]
    pairs = compared(rows, "other", groups)
    assert {(pair["model"], pair["against"]) for pair in pairs} == {
        ("other", "cells"),
        ("coordinates", "cells"),
        ("cells", "other"),
        ("coordinates", "other"),
    }
    assert {pair["split"] for pair in pairs} == {"val", "test"}
    pair = next(pair for pair in pairs if (pair["model"], pair["split"]) == ("coordinates", "test"))
    mean = {name: its.query("split == 'test'")["distance_km"].mean() for name, its in rows.items()}
    assert pair["ratio"]["value"] == pytest.approx(mean["coordinates"] / mean["cells"])
    assert len(compared({"cells": rows["cells"]}, "cells", groups)) == 0


def test_a_block_split_of_no_model_is_refused():
    document = {"region": None, "models": {"cells": {}}, "block_split": {"cell": {}}, "ensembles": {}, "evaluate": {}}
    with pytest.raises(ParameterError, match=r"block_split\.cell names no model; did you mean 'cells'\?"):
        COMPARE.read(document)
    assert COMPARE.read({**document, "block_split": {"cells": {}}}).block_split == {"cells": {}}
    named = {"cells": {"target": "data/filtered/landmarks.parquet"}}
    with pytest.raises(ParameterError, match=r"block_split\.cells is a model that answers no places"):
        COMPARE.read({**document, "models": named, "block_split": {"cells": {}}})

"""Every recipe is a complete params file, and runs from pictures to the report."""

import json
from importlib import import_module

import pandas as pd
import pytest
import torch
from closure import ROOT
from PIL import Image
from ruamel.yaml import YAML
from torchvision import models as zoo
from typer.testing import CliRunner

from flows.pipeline import check_params
from tasks.outputs import read_json
from tasks.stage import load_params
from waymark.cli import app
from waymark.sources import SyntheticSource

yaml = YAML()
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
NAMED = ("models", "grids", "gap")  # sections whose keys are names of the user's own
STAGES = ("download", "filter", "resize", "project", "split", "grid")
BODIES = {"filter": "filter_records", "project": "project_places", "grid": "grid_places"}
PLACES = 40


def keys(section, at=""):
    """List all keys of nested sections, dotted, but for those below names of the user's own."""
    if not isinstance(section, dict) or at.rstrip(".") in NAMED:
        return {at.rstrip(".")}
    return set().union(*(keys(value, f"{at}{key}.") for key, value in section.items())) if section else {at.rstrip(".")}


def read(path):
    return YAML(typ="safe").load(path)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_the_keys_of_the_bundled_params(recipe):
    assert keys(read(ROOT / "recipes" / f"{recipe}.yaml")) == keys(read(ROOT / "params.yaml"))


def test_the_croatian_recipe_is_theirs():
    params = read(ROOT / "recipes/croatia.yaml")
    (entry,) = params["models"].values()
    assert (entry["backbone"], entry["weights"], entry["batch_size"]) == ("resnext101_32x8d", "default", 8)
    assert entry["optimizer"] == {"name": "adam", "lr": 2e-5, "betas": [0.85, 0.95], "weight_decay": 0.0}
    assert entry["schedule"] == {"name": "plateau", "factor": 0.66, "patience": 6}
    assert (entry["unfreeze_epoch"], params["resize"]["size_px"]) == (1, 224)
    assert (params["grid"]["spacing_deg"], params["grid"]["kind"]) == (0.21, "squares")
    assert params["split"]["fractions"] == [0.9, 0.05, 0.05]


def write_pictures(source, folder):
    """Write made-up places as the recipe's source wants them."""
    fetched = SyntheticSource(places=PLACES, landmarks=0, seed=1).fetch(folder.parent / "made")
    records = fetched.records.to_pandas()
    for row in records.itertuples():
        for view in row.views:
            picture = Image.open(folder.parent / "made" / view["path"])
            if source == "quads":
                path = folder / "images" / row.record_id / f"{view['heading_deg']:g}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path, quality=90)
        if source == "photos":
            picture.save(folder / f"{row.record_id}.jpg", exif=_gps(row.latitude, row.longitude), quality=90)
    if source == "quads":
        table = records[["record_id", "latitude", "longitude"]].rename(columns={"record_id": "uuid"})
        table.to_csv(folder / "data.csv", index=False)


def _gps(latitude, longitude):
    exif = Image.Exif()
    gps = exif.get_ifd(0x8825)
    gps.update({1: "N", 2: (latitude, 0.0, 0.0), 3: "E", 4: (longitude, 0.0, 0.0)})
    return exif


def write_params(recipe, folder):
    """Write the recipe at toy size: small pictures, two epochs, and weights that were made here."""
    params = yaml.load(ROOT / "recipes" / f"{recipe}.yaml")
    params["download"]["synthetic"].update(places=PLACES, landmarks=0)
    params["resize"]["size_px"] = 32
    params["split"]["fractions"] = [0.6, 0.2, 0.2]
    params["filter"]["min_images"] = None
    params["grid"]["min_records"] = 3
    for grid in params["grids"].values():
        grid["min_records"] = 3
    for number, entry in enumerate(params["models"].values()):
        if entry["weights"] == "default":
            entry["weights"] = str(folder / f"{number}.pt")
            torch.manual_seed(number)
            torch.save(zoo.get_model(entry["backbone"]).state_dict(), entry["weights"])
        entry.update(epochs=2, batch_size=8)
        for epoch, step in enumerate(entry.get("unfreeze", [])):
            step["epoch"] = epoch
    if params["download"]["source"] == "photos":
        params["download"]["photos"]["group"] = "none"  # the made-up ones have one folder and no day
    yaml.dump(params, folder / "params.yaml")
    return params


def run(name, *entry):
    module = import_module(f"tasks.{name}")
    settings = module.STAGE.read(load_params(), *entry)
    getattr(module, BODIES.get(name, name))(*entry, settings)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_from_pictures_to_report_and_guess(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "tasks").symlink_to(ROOT / "tasks")
    (tmp_path / "input").mkdir()
    (tmp_path / "made").mkdir()
    params = write_params(recipe, tmp_path)
    write_pictures(params["download"]["source"], tmp_path / "input")
    check_params()
    for stage in STAGES:
        run(stage)
    for name in params["grids"]:
        run("grids", name)
    for model in params["models"]:
        for stage in ("train", "calibrate", "evaluate"):
            run(stage, model)
    for model in params["gap"]:
        run("gap", model)
    run("compare")
    figures = read_json(tmp_path / "reports/compare.json")
    assert set(figures["models"]) == set(params["models"])
    assert set(figures["gap"]) == set(params["gap"])
    for model in params["models"]:
        low, high = figures["intervals"][model]["test"]["mean_km"]
        assert low <= figures["models"][model]["test"]["mean_km"] <= high
        _the_same_answers_everywhere(model, tmp_path)
    page = (tmp_path / "reports/index.html").read_text()
    assert all(f">{model}<" in page for model in params["models"])


def _the_same_answers_everywhere(model, folder):
    """From evaluate, and from the command with the checkpoint and with the exported file."""
    evaluated = pd.read_parquet(folder / f"reports/models/{model}/predictions.parquet").iloc[0]
    records = pd.read_parquet(folder / "data/raw/records.parquet").set_index("record_id")
    views = records.loc[evaluated["record_id"], "views"]
    images = [str(folder / "data/raw" / view["path"]) for view in views]
    options = ["--headings", ",".join(f"{view['heading_deg']:g}" for view in views)] if len(images) > 1 else []
    command = CliRunner()
    assert command.invoke(app, ["export", "model.waymark", "--model", model]).exit_code == 0
    for named in (f"trained/{model}", "model.waymark"):
        printed = command.invoke(app, ["guess", *images, *options, "--json", "--model", named], catch_exceptions=False)
        (answer,) = json.loads(printed.stdout)["answers"]
        assert abs(answer["latitude"] - evaluated["predicted_latitude"]) < 1e-4
        assert abs(answer["longitude"] - evaluated["predicted_longitude"]) < 1e-4

"""Every recipe is a complete params file, and runs from pictures to the report."""

import io
import json
from importlib import import_module

import gldv2_server
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from closure import ROOT
from PIL import Image
from ruamel.yaml import YAML
from typer.testing import CliRunner

from tasks.common.document import check_params
from tasks.common.outputs import read_json
from tasks.common.stage import load_params
from waymark.cli import app
from waymark.images.tars import read_bytes
from waymark.sources import SyntheticSource

pytestmark = pytest.mark.slow

yaml = YAML()
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
NAMED = ("models", "grids", "block_split", "ensembles", "embeddings")  # sections whose keys are names of the user's own
STAGES = ("download", "filter", "resize", "project", "split", "grid")
BODIES = {"filter": "filter_records", "project": "project_places", "grid": "grid_places"}
PLACES = 40
COLOURS = {10: (1.0, 0.3, 0.2), 27: (0.2, 1.0, 0.3), 203: (0.3, 0.2, 1.0)}  # of the made-up landmarks
SMALLER = {
    "resnext101_32x8d.tv_in1k": "resnext50_32x4d",
    "tf_efficientnet_b7.ns_jft_in1k": "efficientnet_b0",
}  # of the same kind
IMAGES = 14  # of each of them


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
    assert (entry["backbone"], entry["weights"], entry["batch_size"]) == ("resnext101_32x8d.tv_in1k", "default", 8)
    assert entry["optimizer"] == {"name": "adam", "lr": 2e-5, "betas": [0.85, 0.95], "weight_decay": 0.0}
    assert entry["schedule"] == {"name": "plateau", "factor": 0.66, "patience": 6}
    assert (entry["unfreeze_epoch"], params["resize"]["size_px"]) == (1, 224)
    assert (params["grid"]["spacing_deg"], params["grid"]["kind"]) == (0.21, "squares")
    assert params["split"]["fractions"] == [0.9, 0.05, 0.05]


def test_the_recipe_of_rice_is_theirs():
    params = read(ROOT / "recipes/gldv2-arcface.yaml")
    (entry,) = params["models"].values()
    assert (entry["backbone"], entry["weights"], entry["head"]["name"]) == (
        "tf_efficientnet_b7.ns_jft_in1k",
        "default",
        "arcface",
    )
    assert (entry["optimizer"]["name"], entry["schedule"]["name"]) == ("sgd", "warm_restarts")
    assert (entry["unfreeze_epoch"], params["resize"]["size_px"]) == (0, 128)
    assert (params["split"]["by"], params["split"]["fractions"]) == ("stratified", [0.8, 0.2, 0.0])
    assert entry["augmentation"] == {"flip": True, "rotation_deg": 0.0, "crop": 1.0, "light": 0.0}
    assert params["download"]["gldv2"]["min_images"] == params["filter"]["min_images"] == 250


@pytest.mark.parametrize("recipe", ["landmarks27-vgg16", "landmarks27-attention"])
def test_the_romanian_recipes_are_theirs(recipe):
    params = read(ROOT / "recipes" / f"{recipe}.yaml")
    assert params["download"]["gldv2"]["largest"] == params["filter"]["largest"] == 27
    assert params["split"]["fractions"] == [0.7, 0.15, 0.15]
    for entry in params["models"].values():
        assert (entry["backbone"], entry["weights"], entry["unfreeze_epoch"]) == ("vgg16.tv_in1k", "default", None)
        assert (entry["pooling"], entry["head"]["hidden"], entry["head"]["dropout"]) == ("grid", [4096, 4096], 0.5)
        assert entry["augmentation"] == {"flip": True, "rotation_deg": 45.0, "crop": 0.7, "light": 0.25}


def test_the_attention_branch_is_weighted_as_theirs():
    models = read(ROOT / "recipes/landmarks27-attention.yaml")["models"]
    heads = [entry["head"] for entry in models.values()]
    assert [(head["name"], head["alpha"], head["beta"]) for head in heads] == [
        ("attention", 0.25, 1.0),
        ("attention", 0.0, 1.0),
    ]


@pytest.fixture(scope="module")
def mirror():
    """Serve a few coloured pictures in the layout of Google Landmarks."""
    pictures = [coloured(colour, seed) for colour in COLOURS.values() for seed in range(IMAGES)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gldv2_server, "LABELS", dict.fromkeys(COLOURS, IMAGES))
        patch.setattr(gldv2_server, "TARS", {"train": 2, "test": 1, "index": 1})
        made = gldv2_server.make_dataset(photos=pictures[::-1])  # it takes the last one first
    with gldv2_server.Server(made.files) as server:
        yield server


def coloured(colour, seed):
    """Draw spots of one colour: no two pictures are alike, and all of a landmark are."""
    fields = np.random.default_rng([seed, *(int(10 * part) for part in colour)]).uniform(40, 255, (8, 8, 1))
    buffer = io.BytesIO()
    Image.fromarray((fields * colour).astype(np.uint8)).resize((64, 64)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


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


def write_landmarks(folder):
    """Write a folder of pictures for each landmark, as cameras name them, and pictures that show none."""
    for name, colour in zip(("Clock Tower", "Bridge", "Mill"), COLOURS.values(), strict=True):
        place = folder / "Old Town" / name
        place.mkdir(parents=True)
        for seed in range(IMAGES):
            (place / f"IMG_{seed:04}.JPG").write_bytes(coloured(colour, seed))
    for seed in range(IMAGES):
        (folder / f"DSC{seed:05}.JPG").write_bytes(coloured((1.0, 1.0, 1.0), seed))


def _gps(latitude, longitude):
    exif = Image.Exif()
    gps = exif.get_ifd(0x8825)
    gps.update({1: "N", 2: (latitude, 0.0, 0.0), 3: "E", 4: (longitude, 0.0, 0.0)})
    return exif


def write_params(recipe, folder, mirror):
    """Write the recipe at toy size: small pictures and networks, two epochs, weights that were made here."""
    params = yaml.load(ROOT / "recipes" / f"{recipe}.yaml")
    params["download"]["synthetic"].update(places=PLACES, landmarks=0)
    params["resize"]["size_px"] = 32
    params["split"]["fractions"] = [0.6, 0.2, 0.2] if params["split"]["fractions"][2] else [0.6, 0.4, 0.0]
    params["filter"]["min_images"] = None
    params["download"]["gldv2"].update(base_url=mirror.url, tars={"train": [0, 1]}, min_images=None)
    for section in (params["download"]["gldv2"], params["filter"]):
        section["largest"] = section["largest"] and len(COLOURS)
    params["grid"]["min_records"] = 3
    for grid in params["grids"].values():
        grid["min_records"] = 3
    for number, entry in enumerate(params["models"].values()):
        entry["backbone"] = SMALLER.get(entry["backbone"], entry["backbone"])
        if entry["backbone"] == "tf_efficientnet_lite0":
            entry["weights"] = "bundled"
        elif entry["weights"] == "default":
            entry["weights"] = str(folder / f"{entry['backbone']}.pt")
            torch.save(made_weights(entry["backbone"], number), entry["weights"])
        if "hidden" in entry["head"]:
            entry["head"]["hidden"] = [64, 64]
        entry["optimizer"]["lr"] = min(entry["optimizer"]["lr"], 1e-4)  # a deep net that knows nothing diverges
        entry.update(epochs=2, batch_size=8)
        for epoch, step in enumerate(entry.get("unfreeze", [])):
            step["epoch"] = epoch
    if params["download"]["source"] == "photos":
        params["download"]["photos"]["group"] = "none"  # the made-up ones have one folder and no day
    yaml.dump(params, folder / "params.yaml")
    return params


def made_weights(backbone, seed):
    """Draw weights; a deep network answers with what came in, else the last digits of its answers would be chance."""
    torch.manual_seed(seed)
    network = timm.create_model(backbone)
    for layer in network.modules():
        if getattr(layer, "has_skip", False):  # the blocks of EfficientNet add nothing at first
            torch.nn.init.zeros_((layer.bn3 if hasattr(layer, "bn3") else layer.bn2).weight)
    return network.state_dict()


def run(name, *entry):
    module = import_module(f"tasks.{name}")
    settings = module.STAGE.read(load_params(), *entry)
    getattr(module, BODIES.get(name, name))(*entry, settings)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_from_pictures_to_report_and_guess(recipe, tmp_path, monkeypatch, mirror):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "tasks").symlink_to(ROOT / "tasks")
    (tmp_path / "input").mkdir()
    (tmp_path / "made").mkdir()
    params = write_params(recipe, tmp_path, mirror)
    if params["download"]["photos"]["label"] == "folder":
        write_landmarks(tmp_path / "input")
    else:
        write_pictures(params["download"]["source"], tmp_path / "input")
    check_params()
    for stage in STAGES:
        run(stage)
    for name in params["grids"]:
        run("grids", name)
    for model in params["models"]:
        for stage in ("train", "calibrate", "evaluate"):
            run(stage, model)
    for model in params["block_split"]:
        run("block_split", model)
    run("ensemble")
    run("compare")
    figures = read_json(tmp_path / "reports/compare.json")
    assert set(figures["models"]) == set(params["models"])
    assert set(figures["block_split"]) == set(params["block_split"])
    for model, entry in params["models"].items():
        if "landmarks" in entry["target"]:
            assert 0 <= figures["models"][model]["val"]["gap"] <= 1
            assert (tmp_path / f"trained/{model}/attribution.csv").exists()
            _the_same_landmarks_everywhere(model, tmp_path)
        else:
            low, high = figures["intervals"][model]["test"]["mean_km"]
            assert low <= figures["models"][model]["test"]["mean_km"] <= high
            _the_same_places_everywhere(model, tmp_path)
    page = (tmp_path / "reports/index.html").read_text()
    assert all(f">{model}<" in page for model in params["models"])


def _the_same_places_everywhere(model, folder):
    for answer, evaluated in _answers(model, folder):
        assert abs(answer["latitude"] - evaluated["predicted_latitude"]) < 1e-4
        assert abs(answer["longitude"] - evaluated["predicted_longitude"]) < 1e-4


def _the_same_landmarks_everywhere(model, folder):
    candidates = pd.read_parquet(folder / f"reports/models/{model}/candidates.parquet").set_index("record_id")
    for answer, evaluated in _answers(model, folder):
        listed = candidates.loc[[evaluated["record_id"]]]
        best = listed.loc[listed["score"] > evaluated["score"] - 1e-3, "landmark"]
        # Networks of two epochs may find five landmarks equally likely, or more than are listed: any of those is right.
        assert answer["best_landmark"] in set(best) or len(best) == len(listed)
        # Scores are in deviations of val, which networks of two epochs make tiny: that enlarges the last digits.
        assert answer["landmark_score"] == pytest.approx(evaluated["score"], rel=1e-3, abs=1e-3)


def _answers(model, folder):
    """Give the command's answers with the checkpoint and with the exported file, each beside that of evaluate."""
    evaluated = pd.read_parquet(folder / f"reports/models/{model}/predictions.parquet").iloc[0]
    records = pd.read_parquet(folder / "data/raw/records.parquet").set_index("record_id")
    views = records.loc[evaluated["record_id"], "views"]
    images = [folder / f"asked-{number}.jpg" for number in range(len(views))]
    for image, view in zip(images, views, strict=True):
        image.write_bytes(read_bytes(folder / "data/raw", view["path"]))  # of a folder or of a tar
    options = ["--headings", ",".join(f"{view['heading_deg']:g}" for view in views)] if len(images) > 1 else []
    command = CliRunner()
    assert command.invoke(app, ["export", "model.waymark", "--model", model]).exit_code == 0
    for named in (f"trained/{model}", "model.waymark"):
        asked = ["guess", *map(str, images), *options, "--json", "--model", named]
        (answer,) = json.loads(command.invoke(app, asked, catch_exceptions=False).stdout)["answers"]
        yield answer, evaluated

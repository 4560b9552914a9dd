"""The stage embed, and models that learn from what it writes."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from closure import ROOT
from ruamel.yaml import YAML
from tiny_world import HEADINGS, SIZE_PX, make_world
from toy import clone

from tasks.common.document import check_document
from tasks.common.outputs import work_folder
from tasks.embed import check_entry as check_embeddings
from tasks.embed import embed
from tasks.training.models import ModelEntry, check_entry
from tasks.training.tables import about_embeddings
from waymark.errors import ModelError, ParameterError
from waymark.images.batches import RecordLoaders
from waymark.images.embeddings import Embeddings
from waymark.images.shards import INDEX_SCHEMA, shard_name, write_shard
from waymark.images.transforms import Augmentation
from waymark.inference.bundle import ModelFiles, export_model
from waymark.inference.predictor import load_predictor
from waymark.models.embedding import Embedder, EmbeddingOptions
from waymark.models.heads import Attention, Cells, Coordinates
from waymark.models.pooling import GeM
from waymark.models.training.finetuning import Unfreeze
from waymark.models.training.optimizers import OptimizerOptions
from waymark.models.training.schedules import ScheduleOptions

pytestmark = pytest.mark.slow

OPTIONS = EmbeddingOptions(backbone="test_resnet", weights="none", batch_size=8)


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_world(tmp_path / "data/shards")


def files(folder):
    return {path.name: path.read_bytes() for path in (folder / "data/embeddings/e").iterdir()}


def test_features_are_those_of_the_backbone_for_each_view_however_many_go_at_once(world, tmp_path):
    embed("e", OPTIONS)
    found = Embeddings(tmp_path / "data/embeddings/e")
    keys = [(record, view) for record in world.train.record_ids for view in range(2)]
    wanted = list(Embedder(OPTIONS, SIZE_PX).embed(world.shards[key] for key in keys))
    assert all(np.array_equal(found[key], row) for key, row in zip(keys, wanted, strict=True))
    assert found.width == 96
    assert found.mirrored(keys[0]) is None
    alone = next(Embedder(OPTIONS, SIZE_PX).embed([world.shards[keys[5]]]))
    assert np.array_equal(found[keys[5]], alone)


def test_what_made_the_features_is_written_beside_them(world, tmp_path):
    embed("e", OPTIONS)
    about = json.loads((tmp_path / "data/embeddings/e/backbone.json").read_text())
    assert (about["backbone"], about["weights"], about["pooling"], about["size_px"]) == (
        "test_resnet",
        "none",
        "mean",
        16,
    )
    assert len(about["sha256"]) == 64
    assert about["mean"] == [127.5] * 3


@pytest.mark.parametrize("part", [1, 7])
def test_a_run_again_or_after_a_kill_computes_what_is_missing_and_writes_the_same_bytes(
    world, tmp_path, monkeypatch, part
):
    monkeypatch.setattr("tasks.embed.PART", part)  # pictures that a kill costs
    embed("e", OPTIONS)
    before = files(tmp_path)
    (kept,) = (tmp_path / ".work/embed").iterdir()
    parts = sorted(kept.glob("*.npz"))
    assert len(parts) == -(-62 // part)
    parts[1].unlink()  # as after a kill
    stays = {path: path.stat().st_mtime_ns for path in kept.glob("*.npz")}
    embed("e", OPTIONS)
    assert files(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in stays} == stays
    assert sorted(kept.glob("*.npz")) == parts


def test_new_pictures_cost_their_own_pass_only(world, tmp_path):
    embed("e", OPTIONS)
    (kept,) = (tmp_path / ".work/embed").iterdir()
    first = set(kept.glob("*.npz"))
    before = {
        world.shards[record, view].tobytes()
        for record in [*world.train.record_ids, *world.val.record_ids]
        for view in (0, 1)
    }
    other = make_world(tmp_path / "other", train=3, val=2, seed=2)
    pictures = [world.shards[record, 0] for record in world.train.record_ids]
    pictures += [other.shards[record, 0] for record in other.train.record_ids]
    write_shard(pictures, SIZE_PX, tmp_path / "data/shards" / shard_name(0))
    rows = [{"record_id": f"r{row:02d}", "view": 0, "shard": 0, "row": row, "status": "ok"} for row in range(27)]
    index = pa.Table.from_pylist(rows, INDEX_SCHEMA.with_metadata({"size_px": str(SIZE_PX)}))
    pq.write_table(index, tmp_path / "data/shards/index.parquet")
    embed("e", OPTIONS)
    (added,) = set(kept.glob("*.npz")) - first
    assert len(before) == 62
    assert len(np.load(added)["features"]) == 3
    assert len(pq.read_table(tmp_path / "data/embeddings/e/index.parquet")) == 27


def test_a_training_draws_the_mirrored_picture_and_an_evaluation_never_does(world, tmp_path):
    embed("e", EmbeddingOptions(backbone="test_resnet", weights="none", batch_size=8, flip=True))
    found = Embeddings(tmp_path / "data/embeddings/e")
    key = (world.train.record_ids[0], 0)
    assert not np.array_equal(found.mirrored(key), found[key])
    loaders = RecordLoaders(found, HEADINGS, 8, Augmentation(), seed=1)
    plain = torch.tensor(np.stack([found[record, 0] for record in world.train.record_ids]).astype(np.float32))
    evaluated = torch.cat([batch.views for batch in loaders.evaluation(world.train)])
    assert torch.equal(evaluated[:, 0], plain)
    rows = [draw.row for batch in loaders.training(world.train).batch_sampler for draw in batch]
    drawn = torch.cat([batch.views for batch in loaders.training(world.train)])
    same = (drawn[:, 0] == plain[rows]).all(dim=1)
    assert 4 < int(same.sum()) < 20


def entry(**changes):
    settings = {
        "region": None,
        "target": "data/projected",
        "embeddings": "e",
        "views": "mean",
        "head": Coordinates(),
        "optimizer": OptimizerOptions.choose("adamw"),
        "schedule": ScheduleOptions.choose("constant"),
        "epochs": 3,
        "batch_size": 8,
        "seed": 1,
    }
    return ModelEntry(**{**settings, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "resnet18"}, "embeddings bring their backbone"),
        ({"weights": "default"}, "embeddings bring their backbone"),
        ({"pooling": GeM()}, "pooling needs pictures"),
        ({"size_px": 32}, "size_px needs pictures"),
        ({"unfreeze": (Unfreeze(1),)}, "unfreeze needs pictures"),
        ({"augmentation": Augmentation(flip=True)}, "augmentation needs pictures"),
        ({"head": Attention(), "target": "data/filtered/landmarks.parquet"}, "the head attention needs pictures"),
        ({"embeddings": "none"}, "the model has no backbone; name one of timm's, or embeddings"),
    ],
)
def test_options_of_pictures_are_refused_for_a_model_of_embeddings(changes, words):
    check_entry(entry(augmentation=Augmentation(drop_view=0.1)))
    with pytest.raises(ModelError, match=words):
        check_entry(entry(**changes))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A whole run with one model on embeddings."""
    made = clone(tmp_path_factory.mktemp("embed") / "project")
    bundled = YAML().load(ROOT / "params.yaml")
    whole = {**bundled["models"]["pretrained"], "epochs": 1, "batch_size": 16}
    model = {**whole, "target": "data/projected", "head": {"name": "coordinates"}}
    made.change(models={"first": model}, embeddings=bundled["embeddings"])
    made.ran = made.repro()
    return made


def test_a_second_head_and_a_change_of_a_head_run_neither_resize_nor_embed(project):
    assert {"resize", "embed@lite0", "train@first"} <= set(project.ran)
    models = project.params()["models"]
    models["first"]["seed"] = 2
    models["second"] = {**models["first"], "target": "data/grid", "head": {"name": "cells"}}
    models["third"] = {**models["first"], "head": {"name": "neighbours", "neighbours": 5}}
    landmarks = "data/filtered/landmarks.parquet"
    models["fourth"] = {**models["first"], "views": "mean", "target": landmarks, "head": {"name": "prototypes"}}
    project.change(models=models)
    heads = {f"{stage}@{model}" for stage in ("train", "calibrate", "evaluate") for model in models}
    assert set(project.repro()) == {*heads, "ensemble", "compare"}
    metrics = {model: project.folder / "reports/models" / model / "metrics.json" for model in models}
    figures = {model: json.loads(path.read_text())["test"] for model, path in metrics.items()}
    assert 0 < figures["third"]["mean_km"] < 2 * figures["third"]["constant_mean_km"]  # of toy pictures of 16 px
    assert figures["fourth"]["queries"] > 0
    assert figures["fourth"]["top1"] is not None


def test_areas_hold_true_cells_and_are_as_large_as_their_cells(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    found = pd.read_parquet("reports/models/second/predictions.parquet").dropna(subset=["latitude"])
    known = json.loads((Path("trained/second-calibration/calibration.json")).read_text())["areas"]
    cells = gpd.read_parquet("trained/second-calibration/cells.parquet")
    for share in (50, 90):
        area, held = found[f"area_{share}_km2"], found[f"in_area_{share}"]
        if known[f"least_{share}"] is None:
            assert area.isna().all()
            continue
        assert area.between(cells["area_km2"].min(), cells["area_km2"].sum()).all()
        assert held.notna().all()
        assert not held[found["cell"].isna()].any()  # its cell is no class
        right = found["cell"] == found["predicted_cell"]
        assert held[right].all()  # the most probable cell is in every area
    assert known["least_50"] is not None
    assert pd.read_parquet("reports/models/first/predictions.parquet")["area_50_km2"].isna().all()


def test_the_exported_file_answers_from_pictures_as_evaluate_did_from_embeddings(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project.folder)
    answered = pd.read_parquet("reports/models/first/predictions.parquet").set_index("record_id")
    records = pd.read_parquet("data/filtered/records.parquet").set_index("record_id").loc[answered.index]
    files = ModelFiles(
        "first", project.folder / "trained/first/model.ckpt", project.folder / "trained/first-calibration"
    )
    export_model(files, tmp_path / "m.waymark")
    config = load_predictor(files.checkpoint, files.calibration).locator.config
    assert (config.embeddings, config.licence) == ("lite0", "apache-2.0")
    for record_id, views in records.loc[records["latitude"].notna(), "views"].head(2).items():
        asked = [f"data/raw/{view['path']}" for view in views]
        turned = ",".join(f"{view['heading_deg']:g}" for view in views)
        printed = project.run(
            "waymark", "guess", *asked, "--headings", turned, "--model", str(tmp_path / "m.waymark"), "--json"
        ).stdout
        (answer,) = json.loads(printed)["answers"]
        assert answer["latitude"] == pytest.approx(answered.loc[record_id, "predicted_latitude"], abs=1e-4)
        assert answer["longitude"] == pytest.approx(answered.loc[record_id, "predicted_longitude"], abs=1e-4)
        assert answer["radius_50_km"] == pytest.approx(answered.loc[record_id, "radius_50_km"], rel=1e-3)


def test_embeddings_of_a_network_that_has_learnt_nothing_are_refused():
    check_embeddings(EmbeddingOptions(backbone="tf_efficientnet_lite0", weights="bundled"))
    with pytest.raises(ModelError, match="has learnt nothing are of no use; set weights to bundled"):
        check_embeddings(OPTIONS)
    with pytest.raises(ModelError, match="unknown backbone"):
        check_embeddings(EmbeddingOptions(backbone="tf_efficientnet_lite9z", weights="bundled"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embeddings": {"none": {}}}, "embeddings.none is what models say that learn from pictures"),
        ({"embeddings": {"lite0": {"size_px": 512}}}, "embeddings.lite0: size_px of the model is 512, and the shards"),
        (
            {"models": {"pretrained": {"embeddings": "lite1"}}},
            "lite1 is not an entry of embeddings; did you mean 'lite0'",
        ),
    ],
)
def test_what_no_stage_could_do_is_refused_before_any_runs(change, words):
    document = YAML(typ="safe").load(ROOT / "params.yaml")
    check_document(document)
    for section, entries in change.items():
        for name, values in entries.items():
            known = document[section]
            known[name] = {**known.get(name, known[next(iter(known))]), **values}
    with pytest.raises((ParameterError, ModelError), match=words):
        check_document(document)


def test_a_model_is_not_built_on_other_weights_than_its_embeddings_were_made_with(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    about = project.folder / "data/embeddings/lite0/backbone.json"
    before = about.read_text()
    about.unlink()  # it may be a link into DVC's cache
    about.write_text(before.replace('"sha256": "', '"sha256": "0'))
    try:
        result = project.run("python", "-m", "tasks.train", "first", code=1)
    finally:
        about.write_text(before)
    assert "made with other weights than bundled of tf_efficientnet_lite0 are now" in result.stderr
    assert "dvc repro --force embed@lite0" in result.stderr


def test_a_killed_training_goes_on_with_the_same_embeddings_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert about_embeddings(None) == []
    for path in about_embeddings("e"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one")
    before = work_folder("train", {}, about_embeddings("e"))
    assert work_folder("train", {}, about_embeddings("e")) == before
    for path in about_embeddings("e"):
        path.write_text("other")
        assert work_folder("train", {}, about_embeddings("e")) != before
        path.write_text("one")


def test_cells_are_a_head_of_embeddings_too():
    check_entry(entry(head=Cells(), target="data/grid"))

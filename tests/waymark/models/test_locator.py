import os
from dataclasses import asdict, replace

import geopandas as gpd
import numpy as np
import pytest
import torch
from shapely.geometry import box
from torch import nn

from waymark.errors import ModelError
from waymark.geo import project
from waymark.models.config import ModelConfig
from waymark.models.heads import (
    Cells,
    Coordinates,
    CoordinatesHead,
    Hybrid,
    HybridHead,
)
from waymark.models.locator import FORMAT, Locator, load_locator

HTRS = "EPSG:3765"
CONFIG = ModelConfig(
    backbone="mobilenetv3_small_100",
    views="concat",
    slots=(0.0, 90.0, None),
    head=Cells(answer="mean"),
    classes=5,
    crs=HTRS,
    shard_px=32,
    size_px=32,
    target="data/grid",
)
COORDINATES = {"head": Coordinates(), "classes": 0}
TRAIN = np.array([[44.2, 14.9], [45.9, 16.5], [45.0, 15.5]])
REGION = gpd.GeoDataFrame(geometry=[box(14.5, 44.0, 17.0, 46.2)], crs="EPSG:4326")
GRID = gpd.GeoDataFrame(
    {"cell": range(5), "latitude": 45.0, "longitude": 15.5},
    geometry=[box(14 + 0.5 * cell, 44, 14.5 + 0.5 * cell, 46) for cell in range(5)],
    crs="EPSG:4326",
).to_crs(HTRS)
ISLAND = gpd.GeoSeries([box(15.0, 44.5, 15.2, 44.6)], crs="EPSG:4326")
POSITIONS = project(TRAIN[[0, 1, 2, 0, 1]] + np.arange(5)[:, None] / 50, HTRS)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def build(**changes):
    torch.manual_seed(1)
    locator = Locator(replace(CONFIG, **changes))
    locator.mean.copy_(torch.tensor([110.0, 120.0, 130.0]))
    locator.std.copy_(torch.tensor([50.0, 60.0, 0.0]))
    if isinstance(locator.place_head, CoordinatesHead):
        locator.place_head.space.adapt(TRAIN, REGION)
    else:
        locator.place_head.set_cells(np.arange(5) * 3, POSITIONS, TRAIN)
    if isinstance(locator.place_head, HybridHead):
        locator.place_head.set_boxes(np.stack([POSITIONS - 2e4, POSITIONS + 2e4], axis=1))
    if locator.land is not None:
        locator.land.adapt(ISLAND)
    for layer in locator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    locator.train()(pictures(8, seed=9), torch.ones(8, 3, dtype=torch.bool))  # else an untrained net sees nothing
    return locator.eval()


def pictures(records=4, seed=1):
    return torch.randint(
        0, 256, (records, 3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


PRESENT = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [True, True, False]])


@pytest.mark.parametrize("views", ["concat", "mean"])
def test_features_are_those_of_single_pictures_joined(views):
    locator, single = build(views=views), []
    with torch.inference_mode():
        for record, present in zip(pictures(), PRESENT, strict=True):
            scaled = (record.float() - locator.mean[:, None, None]) / torch.tensor([50.0, 60.0, 1.0])[:, None, None]
            scaled[:, 2] = 0  # a channel that never changes says nothing
            features = [locator.backbone(picture[None])[0] for picture in scaled]
            there = [feature for feature, is_there in zip(features, present, strict=True) if is_there]
            blank = [feature * is_there for feature, is_there in zip(features, present, strict=True)]
            single.append(torch.cat(blank) if views == "concat" else torch.stack(there).mean(dim=0))
        found = locator.embed(pictures(), PRESENT)
    torch.testing.assert_close(found, torch.stack(single), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("views", ["concat", "mean"])
def test_pixels_of_a_missing_view_change_nothing(views, training):
    """Not the output, and in training not the batch statistics."""
    outcomes = []
    for seed in (1, 2):
        locator = build(views=views).train(training)
        shown = torch.where(PRESENT[..., None, None, None], pictures(), pictures(seed=seed))
        output = locator(shown, PRESENT).place.detach()
        outcomes.append([output, *(value.clone() for value in locator.state_dict().values())])
    assert all(torch.equal(one, other) for one, other in zip(*outcomes, strict=True))
    seen = [build(views=views)(pictures(seed=seed), PRESENT).place for seed in (1, 2)]
    assert not torch.allclose(*seen, atol=1e-2)


def test_batch_statistics_are_those_of_the_views_that_are_there():
    locator = build().train()
    norm = next(layer for layer in locator.backbone.modules() if isinstance(layer, nn.BatchNorm2d))
    seen = []
    norm.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].detach()))
    locator(pictures(), PRESENT)
    assert len(seen[0]) == PRESENT.sum()
    torch.testing.assert_close(norm.running_mean, seen[0].mean(dim=(0, 2, 3)))


def test_the_mean_does_not_mind_the_order_of_views_and_concat_does():
    order = torch.tensor([2, 0, 1])
    for views, alike in (("mean", True), ("concat", False)):
        locator = build(views=views)
        with torch.inference_mode():
            one, other = (locator(pictures()[:, its], PRESENT[:, its]).place for its in (torch.arange(3), order))
        assert torch.allclose(one, other, atol=1e-5) == alike


@pytest.mark.parametrize("views", ["concat", "mean"])
def test_a_record_without_any_view_gets_a_finite_answer(views):
    locator = build(views=views)
    with torch.inference_mode():
        output = locator(pictures(), PRESENT & torch.tensor([[True], [False], [True], [True]])).place
        nothing = locator(pictures(), torch.zeros(4, 3, dtype=torch.bool)).place
    assert output.isfinite().all()
    assert nothing.isfinite().all()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"views": "mean", "head": Cells(answer="median", smoothing_km=60.0)},
        {"head": Cells(answer="score")},
        {"head": Hybrid(answer="best", offset_weight=2.0)},
        COORDINATES,
        {**COORDINATES, "head": Coordinates(space="sphere")},
        {**COORDINATES, "head": Coordinates(space="cosine", scaling="per_axis")},
        {"snap_to_land": True},
    ],
)
def test_a_checkpoint_alone_gives_the_same_model_bit_for_bit(tmp_path, changes):
    locator = build(**changes)
    locator.save(tmp_path / "model.ckpt")
    loaded = load_locator(tmp_path / "model.ckpt")
    assert loaded.config == locator.config
    assert not loaded.training
    with torch.inference_mode():
        output = locator(pictures(), PRESENT).place
        assert torch.equal(loaded(pictures(), PRESENT).place, output)
        assert torch.equal(loaded.place(output).lat_lon, locator.place(output).lat_lon)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in locator.state_dict().items())


def test_the_checkpoint_holds_statistics_and_head_and_needs_no_pickle(tmp_path):
    build().save(tmp_path / "model.ckpt")
    content = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert content["config"] == asdict(CONFIG)
    assert content["state"]["mean"].tolist() == [110.0, 120.0, 130.0]
    assert content["state"]["std"].tolist() == [50.0, 60.0, 0.0]
    assert content["state"]["place_head.cell_ids"].tolist() == [0, 3, 6, 9, 12]
    assert content["state"]["place_head.positions_m"].dtype == torch.float64


@pytest.mark.parametrize("changes", [{}, COORDINATES])
def test_answers_are_moved_to_land_where_the_config_says_so(changes):
    output = build(**changes)(pictures(), PRESENT).place.detach()
    free, ashore = (build(**changes, snap_to_land=snap).place(output) for snap in (False, True))
    west, south, east, north = ISLAND.total_bounds
    low, high = torch.tensor([south, west]) - 1e-3, torch.tensor([north, east]) + 1e-3
    on_land = ((free.lat_lon >= low) & (free.lat_lon <= high)).all(dim=1)
    assert not on_land.all()
    assert ((ashore.lat_lon >= low) & (ashore.lat_lon <= high)).all()
    assert torch.equal(ashore.choice, free.choice)


def refusal(path):
    with pytest.raises(ModelError) as caught:
        load_locator(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    content = {"format": FORMAT, "config": asdict(CONFIG), "state": Bomb(tmp_path / "exploded")}
    torch.save(content, tmp_path / "bomb.ckpt")
    assert "without running code" in refusal(tmp_path / "bomb.ckpt")
    assert not (tmp_path / "exploded").exists()
    torch.load(tmp_path / "bomb.ckpt", weights_only=False)
    assert (tmp_path / "exploded").exists()  # it was a bomb


def test_what_is_no_checkpoint_is_refused(tmp_path):
    assert "is missing; train the model first" in refusal(tmp_path / "nothing.ckpt")
    build().save(tmp_path / "whole.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "whole.ckpt").read_bytes()[:-5000])
    assert "without running code" in refusal(tmp_path / "cut.ckpt")
    state = torch.load(tmp_path / "whole.ckpt", weights_only=True)["state"]
    config = asdict(CONFIG)
    for content, reason in [
        ([1], f"format {FORMAT}"),
        ({"format": FORMAT + 1, "config": config, "state": state}, f"format {FORMAT}; train the model again"),
        ({"format": FORMAT}, "configuration"),
        ({"format": FORMAT, "config": config | {"colour": 1}, "state": state}, "configuration"),
        ({"format": FORMAT, "config": config | {"classes": 6}, "state": state}, "configuration"),
        ({"format": FORMAT, "config": config, "state": {}}, "configuration"),
    ]:
        torch.save(content, tmp_path / "other.ckpt")
        assert reason in refusal(tmp_path / "other.ckpt")


@pytest.mark.parametrize("older", [3, 4])
def test_a_checkpoint_with_a_network_of_torchvision_is_refused_with_what_to_do(tmp_path, older):
    build().save(tmp_path / "new.ckpt")
    content = torch.load(tmp_path / "new.ckpt", weights_only=True)
    assert content["format"] == FORMAT
    torch.save({**content, "format": older}, tmp_path / "old.ckpt")
    with pytest.raises(ModelError) as caught:
        load_locator(tmp_path / "old.ckpt")
    assert str(caught.value) == (
        f"{tmp_path / 'old.ckpt'} holds a network of torchvision, and Waymark now builds timm's; train the model again"
    )

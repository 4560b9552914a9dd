"""A model small enough to build in a second, with pictures that it can tell apart."""

import json
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import torch
from PIL import Image
from shapely import box
from torch import nn

from waymark.geo import load_region, project
from waymark.models.calibration import Confidence, Radii, RetrievalIndex, unit_length
from waymark.models.calibration_files import Calibration, save_calibration
from waymark.models.config import ModelConfig
from waymark.models.heads import CellHead, HeadOptions, Joint, LandmarkOptions, PlaceOptions
from waymark.models.locator import Locator
from waymark.models.recognition import Fusion

HTRS = "EPSG:3765"
HEADINGS = (0.0, 90.0, 180.0, 270.0)
CELLS = (3, 7, 12)
CENTRES = np.array([[44.1, 15.4], [45.3, 16.2], [45.6, 18.1]])
LANDMARKS = {"L1": "Stari most", "L2": "Gradske zidine"}  # classes of the head
NEW = {"L9": "Svjetionik"}  # known by its pictures in the index alone
SHARD_PX = 48
RADII = Radii(0.8, 1.9, 2.5)
CONFIDENCE = Confidence(0.8, -0.5)
METRICS = {"val": {"mean_km": 12.5}, "test": {"mean_km": 14.25}}


@dataclass(frozen=True)
class TinyModel:
    checkpoint: Path
    calibration: Path


def make_tiny_model(
    trained, name="tiny", *, slots=HEADINGS, head="cells", landmark=None, threshold=None, size_px=32, seed=3
):
    """Write `trained/<name>/model.ckpt` and the calibration beside it, as the stages do.

    `head` is that for places and `landmark` that for landmarks; either may be None. Answers below the `threshold`
    are refused.
    """
    torch.manual_seed(seed)
    classes = len(CELLS) if head == "cells" else 0
    known = {} if landmark is None else LANDMARKS
    target = "data/filtered/landmarks.parquet" if head is None else "data/grid"
    locator = Locator(
        ModelConfig(
            backbone="test_resnet", views="concat", slots=slots, head=head_of(head, landmark),
            classes=classes, crs=HTRS, shard_px=SHARD_PX, size_px=size_px, target=target,
            landmarks=tuple(known), landmark_names=tuple(known.values()),
        )
    )  # fmt: skip
    locator.mean.fill_(128.0)
    locator.std.fill_(60.0)
    if isinstance(locator.place_head, CellHead):
        locator.place_head.set_cells(np.array(CELLS), project(CENTRES, HTRS), CENTRES)
    elif locator.place_head is not None:
        locator.place_head.space.adapt(CENTRES, load_region("HRV"))
    if locator.landmark_head is not None:
        locator.landmark_head.adapt(np.array([20, 20]))
    seen = _warm_up(locator, len(slots), size_px)
    if isinstance(locator.place_head, CellHead):
        linear = locator.place_head.linear
        linear.weight.data *= 2 / (seen @ linear.weight.T).std()  # or the probabilities were nearly equal, or certain
    (trained / name).mkdir(parents=True)
    (trained / f"{name}-calibration").mkdir()
    locator.save(trained / name / "model.ckpt")
    index = _index(locator, seen, seed)
    fusion = None if landmark is None else Fusion(0.5, (0.0, 1.0), (0.9, 0.1), threshold, None, 0.8, 1.0, CONFIDENCE)
    calibration = Calibration(None, None, None, fusion) if head is None else Calibration(1.3, 3, RADII, fusion)
    folder = trained / f"{name}-calibration"
    names = None if landmark is None else {**LANDMARKS, **NEW}
    save_calibration(calibration, index, [str(row) for row in range(6)], folder, names=names)
    return TinyModel(trained / name / "model.ckpt", folder)


def head_of(place, landmark):
    """Choose the heads by their names; one of them may be None."""
    if place is None or landmark is None:
        return HeadOptions.choose(place or landmark)
    return Joint(PlaceOptions.choose(place), LandmarkOptions.choose(landmark))


def _index(locator, seen, seed):
    """Six training records, two at each place; those of landmarks look as the network sees some pictures."""
    generator = np.random.default_rng(seed)
    embedding = generator.normal(size=(6, locator.width)).astype(np.float32)
    if locator.landmark_head is None:
        return RetrievalIndex(unit_length(torch.from_numpy(embedding)), CENTRES.repeat(2, axis=0))
    landmark = np.array([*LANDMARKS, *NEW, *LANDMARKS, None], dtype=object)
    return RetrievalIndex(unit_length(seen[:6]), CENTRES.repeat(2, axis=0), landmark)


def _warm_up(locator, views, size_px):
    """Give batch norm statistics of pictures, without which an untrained net sees nothing; give what it sees."""
    for layer in locator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    blots = torch.randint(0, 256, (16 * views, 3, 6, 5)).float()  # as of `write_picture`; noise has no large shapes
    pixels = nn.functional.interpolate(blots, (size_px, size_px), mode="bilinear").byte().unflatten(0, (16, views))
    present = torch.ones(16, views, dtype=torch.bool)
    with torch.no_grad():
        locator.train()(pixels, present)
        return locator.eval().embed(pixels, present)


def write_picture(path, seed, size=(90, 70)):
    """Write blots of colour, which a JPEG keeps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blots = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def write_quads(folder, count=3):
    """Write places as folders of four views; give their names."""
    names = [f"place-{number}" for number in range(count)]
    for number, name in enumerate(names):
        for heading in (0, 90, 180, 270):
            write_picture(folder / name / f"{heading}.jpg", 10 * number + heading)
    return names


def cell_outlines():
    """Squares of half a degree around the cells' positions."""
    shapes = [box(lon - 0.25, lat - 0.25, lon + 0.25, lat + 0.25) for lat, lon in CENTRES]
    outlines = geopandas.GeoDataFrame({"cell": list(CELLS)}, geometry=shapes, crs="EPSG:4326").to_crs(HTRS)
    return outlines.assign(area_km2=outlines.area / 1e6)


def write_metrics(reports, name="tiny"):
    (reports / "models" / name).mkdir(parents=True)
    (reports / "models" / name / "metrics.json").write_text(json.dumps(METRICS))
    (reports / "compare.json").write_text(json.dumps({"best_on_val": name, "models": {name: METRICS}}))

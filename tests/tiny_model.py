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
from waymark.models.calibration import Radii, RetrievalIndex
from waymark.models.guesser import Calibration, save_calibration
from waymark.models.heads import CellHead
from waymark.models.locator import Blueprint, Locator

HTRS = "EPSG:3765"
HEADINGS = (0.0, 90.0, 180.0, 270.0)
CELLS = (3, 7, 12)
CENTRES = np.array([[44.1, 15.4], [45.3, 16.2], [45.6, 18.1]])
SHARD_PX = 48
METRICS = {"val": {"mean_km": 12.5}, "test": {"mean_km": 14.25}}


@dataclass(frozen=True)
class TinyModel:
    checkpoint: Path
    calibration: Path


def make_tiny_model(trained, name="tiny", *, slots=HEADINGS, head="cells", size_px=32, seed=3):
    """Write `trained/<name>/model.ckpt` and the calibration beside it, as the stages do."""
    torch.manual_seed(seed)
    classes = len(CELLS) if head == "cells" else 0
    locator = Locator(
        Blueprint(
            backbone="mobilenet_v3_small", views="concat", slots=slots, head=head, classes=classes, crs=HTRS,
            shard_px=SHARD_PX, size_px=size_px, target="data/grid",
        )
    )  # fmt: skip
    locator.mean.fill_(128.0)
    locator.std.fill_(60.0)
    if isinstance(locator.head, CellHead):
        locator.head.remember(np.array(CELLS), project(CENTRES, HTRS), CENTRES)
        locator.head.linear.weight.data *= 6  # or the probabilities were nearly equal
    else:
        locator.head.remember(CENTRES, load_region("HRV"))
    _warm_up(locator, len(slots), size_px)
    (trained / name).mkdir(parents=True)
    (trained / f"{name}-calibration").mkdir()
    locator.save(trained / name / "model.ckpt")
    generator = np.random.default_rng(seed)
    embedding = generator.normal(size=(6, locator.join.width)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    index = RetrievalIndex(embedding, CENTRES.repeat(2, axis=0))
    calibration = Calibration(1.3, 3, Radii(0.8, 1.9, 2.5))
    save_calibration(calibration, index, [str(row) for row in range(6)], trained / f"{name}-calibration")
    return TinyModel(trained / name / "model.ckpt", trained / f"{name}-calibration")


def _warm_up(locator, views, size_px):
    """Give batch norm statistics of pictures, without which an untrained net sees nothing."""
    for layer in locator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    pixels = torch.randint(0, 256, (16, views, 3, size_px, size_px), dtype=torch.uint8)
    with torch.no_grad():
        locator.train()(pixels, torch.ones(16, views, dtype=torch.bool))
    locator.eval()


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
    return geopandas.GeoDataFrame({"cell": list(CELLS)}, geometry=shapes, crs="EPSG:4326").to_crs(HTRS)


def write_metrics(reports, name="tiny"):
    (reports / "models" / name).mkdir(parents=True)
    (reports / "models" / name / "metrics.json").write_text(json.dumps(METRICS))
    (reports / "compare.json").write_text(json.dumps({"best_on_val": name, "models": {name: METRICS}}))

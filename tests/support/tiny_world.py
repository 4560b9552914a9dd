"""A world small enough to train on in a second; its pictures say where they were taken, by their colours."""

from typing import NamedTuple

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from shapely.geometry import box

from waymark.geo import project
from waymark.images.batches import Examples, RecordLoaders
from waymark.images.datamodule import RecordDataModule
from waymark.images.shards import INDEX_SCHEMA, Shards, shard_name, write_shard
from waymark.images.transforms import Augmentation
from waymark.models.config import ModelConfig
from waymark.models.heads import CoordinatesHead, HeadOptions, HybridHead
from waymark.models.heads.cells import cell_positions
from waymark.models.heads.hybrid import cell_boxes
from waymark.models.locator import Locator
from waymark.models.training.module import LocatorModule, Optimization
from waymark.models.training.optimizers import OptimizerOptions
from waymark.models.training.schedules import ScheduleOptions

HTRS = "EPSG:3765"
LOW, HIGH = np.array([44.0, 15.0]), np.array([46.0, 17.0])
SIZE_PX = 16
HEADINGS = (0.0, 180.0)
REGION = gpd.GeoDataFrame(geometry=[box(14.9, 43.9, 17.1, 46.1)], crs="EPSG:4326")
ISLAND = gpd.GeoDataFrame(geometry=[box(15.9, 44.9, 16.1, 45.1)], crs="EPSG:4326")
QUARTERS = gpd.GeoDataFrame(
    {"cell": [0, 10, 20, 30]},
    geometry=[box(x, y, x + 1, y + 1) for y in (44, 45) for x in (15, 16)],
    crs="EPSG:4326",
)
BOUNDS_M = QUARTERS.to_crs(HTRS).bounds.to_numpy()


class World(NamedTuple):
    train: Examples
    val: Examples
    shards: Shards


def make_world(folder, train=24, val=7, seed=1):
    """Write a shard of two views for each record, whose red is the latitude and whose green the longitude."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    share = generator.random((train + val, 2))
    record_ids = [f"record-{row:03d}" for row in range(train + val)]
    pictures, rows = [], []
    for record_id, (red, green) in zip(record_ids, share, strict=True):
        for view in range(len(HEADINGS)):
            noise = generator.integers(0, 20, (SIZE_PX, SIZE_PX, 3))
            pictures.append((noise + np.array([red, green, 0.3 + 0.4 * view]) * 230).astype(np.uint8))
            rows.append({"record_id": record_id, "view": view, "shard": 0, "row": len(rows), "status": "ok"})
    write_shard(pictures, SIZE_PX, folder / shard_name(0))
    index = pa.Table.from_pylist(rows, INDEX_SCHEMA.with_metadata({"size_px": str(SIZE_PX)}))
    pq.write_table(index, folder / "index.parquet")
    lat_lon = LOW + share * (HIGH - LOW)
    label = (share > 0.5) @ np.array([2, 1])
    parts = slice(0, train), slice(train, None)
    examples = [
        Examples(
            record_ids[part],
            [HEADINGS] * len(lat_lon[part]),
            lat_lon[part],
            project(lat_lon[part], HTRS),
            label[part],
            np.full(len(lat_lon[part]), -1),
        )
        for part in parts
    ]
    return World(*examples, Shards(folder))


def make_locator(
    world,
    head="coordinates",
    seed=1,
    views="concat",
    backbone="mobilenetv3_small_100",
    snap_to_land=False,
    **head_options,
):
    """Build a locator that knows what the training records say."""
    torch.manual_seed(seed)
    config = ModelConfig(
        backbone=backbone,
        views=views,
        slots=HEADINGS,
        head=HeadOptions.choose(head, **head_options),
        classes=4,
        crs=HTRS,
        shard_px=SIZE_PX,
        size_px=SIZE_PX,
        target="data/grid",
        snap_to_land=snap_to_land,
    )
    locator = Locator(config)
    locator.mean.fill_(128.0)
    locator.std.fill_(60.0)
    adapt_head(locator.place_head, world.train)
    if locator.land is not None:
        locator.land.adapt(ISLAND.geometry)
    return locator


def adapt_head(head, train):
    """Let a head learn what no gradient teaches."""
    if isinstance(head, CoordinatesHead):
        head.space.adapt(train.lat_lon, REGION)
        return
    classes = np.arange(4)
    means = cell_positions(classes, train.label, train.xy_m, np.empty((4, 2)), "training")
    head.set_cells(classes * 10, means, train.lat_lon)
    if isinstance(head, HybridHead):
        head.set_boxes(cell_boxes(classes, train.label, train.xy_m, BOUNDS_M))


def optimized(optimizer, schedule="constant", optimizer_options=None, schedule_options=None, unfreeze=()):
    """Choose what is optimized, by the names of optimizer and schedule."""
    plain = {"momentum": 0.0} if optimizer == "sgd" else {}
    return Optimization(
        OptimizerOptions.choose(optimizer, **plain | (optimizer_options or {})),
        ScheduleOptions.choose(schedule, **(schedule_options or {})),
        unfreeze,
    )


def make_module(world, *, epochs, optimization=None, kind=LocatorModule, seed=1, **locator):
    """Build what Lightning trains."""
    optimization = optimization or optimized("adamw", "constant", {"lr": 2e-3})
    return kind(make_locator(world, seed=seed, **locator), optimization, epochs=epochs, seed=seed)


def make_data(world, batch_size=8, seed=1, augmentation=None):
    """Load what Lightning trains on; a drawn view is hidden now and then, so that chance has a part."""
    loaders = RecordLoaders(world.shards, HEADINGS, batch_size, augmentation or Augmentation(drop_view=0.2), seed)
    return RecordDataModule(world.train, world.val, loaders)

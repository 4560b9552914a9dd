"""From one entry of `models:` to a locator that can be trained, and its training."""

import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from geopandas import GeoDataFrame
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray

from tasks.examples import Target, make_examples, open_shards, places_of, read_target, with_places
from tasks.model_entry import ModelEntry
from waymark.errors import ModelError, nearest_name
from waymark.geo import extent_region, load_region, project
from waymark.images.datamodule import Examples, RecordDataModule, RecordLoaders
from waymark.images.transforms import Augmentation, check_size
from waymark.images.views import heading_slots
from waymark.models.backbones import backbone_names
from waymark.models.finetuning import Unfreeze, unfreeze_steps
from waymark.models.fitting import Fitted, fit
from waymark.models.heads import CellHead, CellsHead, CoordinatesHead, HybridHead, build_head
from waymark.models.heads.cells import cell_positions
from waymark.models.heads.hybrid import cell_boxes
from waymark.models.locator import Blueprint, Locator
from waymark.models.module import LocatorModule, Optimization
from waymark.models.tuning import Tuned, tune

MOST_WORKERS = 8
LEARNT = ("name", "position")  # of a head's options: what the head is told only as it is taught


class Lesson(NamedTuple):
    """What a training needs."""

    entry: ModelEntry
    target: Target
    train: Examples
    val: Examples
    locator: Locator
    loaders: RecordLoaders


class Taught(NamedTuple):
    """What came of it."""

    fitted: Fitted
    tuned: Tuned


def check_entry(entry: ModelEntry) -> None:
    """Refuse what can be seen to be wrong before anything is read.

    Raises:
        ModelError: the backbone is unknown, its weights are not there, or options do not fit together.
    """
    if entry.backbone not in backbone_names():
        raise ModelError(f"unknown backbone {entry.backbone!r}; {nearest_name(entry.backbone, backbone_names())}")
    if entry.weights not in ("default", "none") and not Path(entry.weights).is_file():
        raise ModelError(
            f"weights {entry.weights} do not exist; set weights to default, none, or the path of a state dict"
        )
    if entry.head.name != "coordinates" and entry.target == "data/projected":
        raise ModelError(
            f"the head {entry.head.name} learns from data/grid or data/grids/NAME; set the target of its model to that"
        )
    if entry.snap_to_land and entry.region is None:
        raise ModelError("snap_to_land moves answers to the land of a region; set region, or snap_to_land to false")
    build_head(entry.head.name, 1, classes=1, crs="EPSG:4326", options=_head_options(entry))
    for step in _unfreezing(entry):
        if step.epoch >= entry.epochs:
            raise ModelError(
                f"the backbone is to learn from epoch {step.epoch}, and the training ends after {entry.epochs} epochs;"
                " set epochs higher, or unfreeze_epoch or unfreeze lower"
            )


def _head_options(entry: ModelEntry) -> dict[str, Any]:
    return {name: value for name, value in asdict(entry.head).items() if name not in LEARNT}


def _unfreezing(entry: ModelEntry) -> tuple[Unfreeze, ...]:
    return unfreeze_steps(entry.unfreeze_epoch, [Unfreeze(**asdict(step)) for step in entry.unfreeze])


def prepare(model: str, entry: ModelEntry, table: pd.DataFrame, statistics: dict[str, Any]) -> Lesson:
    """Build the locator, and gather what its head learns; all that is learnt here is learnt on train alone.

    Args:
        model: name of the entry, for errors.
        entry: what to build.
        table: records with their split.
        statistics: of the training pixels, as `channel_statistics` gives them.

    Raises:
        ModelError: the records hold nothing that the head could learn, or the entry does not fit together.
    """
    target = read_target(Path(entry.target))
    tables = {split: with_places(table, split, model) for split in ("train", "val")}
    cells = {split: _cells(rows, target) for split, rows in tables.items()}
    kept = _kept_cells(cells["train"], entry, model)
    train, val = (_examples(tables[split], cells[split], kept, target) for split in ("train", "val"))
    torch.manual_seed(entry.seed)
    shards = open_shards()
    check_size(shards.size_px, entry.size_px or shards.size_px)
    locator = _build(entry, target, len(kept), heading_slots(train.headings), shards.size_px)
    locator.mean.copy_(torch.tensor(statistics["mean"]))
    locator.std.copy_(torch.tensor(statistics["std"]))
    region = extent_region(train.lat_lon) if entry.region is None else load_region(entry.region)
    _teach_head(locator, entry, target, train, cells["train"], kept, region)
    if locator.land is not None:
        locator.land.remember(region.geometry)
    loaders = RecordLoaders(
        shards,
        locator.blueprint.slots,
        min(len(train), 2) if entry.batch_size == "auto" else entry.batch_size,  # auto is found before the training
        Augmentation(**asdict(entry.augmentation)),
        entry.seed,
        _workers(),
        locator.blueprint.size_px,
    )
    return Lesson(entry, target, train, val, locator, loaders)


def _cells(table: pd.DataFrame, target: Target) -> NDArray[np.int64]:
    """Give the `(N,)` number of each record's cell in the grid, -1 without a grid."""
    if target.cells is None:
        return np.full(len(table), -1, dtype=np.int64)
    return target.places.loc[table["record_id"], "cell"].to_numpy(dtype=np.int64)


def _kept_cells(cell: NDArray[np.int64], entry: ModelEntry, model: str) -> NDArray[np.int64]:
    """List the cells with a training record: no other can be a class."""
    if entry.head.name == "coordinates":
        return np.empty(0, dtype=np.int64)
    kept = np.unique(cell)
    if len(kept) < 2:
        raise ModelError(
            f"all training records of {model} lie in one cell, which leaves nothing to learn;"
            " choose a smaller grid.spacing_m or add records from elsewhere"
        )
    return kept


def _examples(table: pd.DataFrame, cell: NDArray[np.int64], kept: NDArray[np.int64], target: Target) -> Examples:
    label = np.full(len(cell), -1, dtype=np.int64)
    if len(kept):
        found = np.searchsorted(kept, cell).clip(max=len(kept) - 1)
        label = np.where(kept[found] == cell, found, -1)
    return make_examples(table, project(places_of(table), target.crs), label)


def _build(entry: ModelEntry, target: Target, classes: int, slots: Sequence[float | None], shard_px: int) -> Locator:
    blueprint = Blueprint(
        backbone=entry.backbone,
        views=entry.views,
        slots=tuple(slots),
        head=entry.head.name,
        head_options=_head_options(entry),
        classes=classes,
        crs=target.crs,
        shard_px=shard_px,
        size_px=entry.size_px or shard_px,
        target=entry.target,
        snap_to_land=entry.snap_to_land,
    )
    return Locator(blueprint, entry.weights)


def _teach_head(
    locator: Locator,
    entry: ModelEntry,
    target: Target,
    train: Examples,
    cell: NDArray[np.int64],
    kept: NDArray[np.int64],
    region: GeoDataFrame,
) -> None:
    """Give the head what it knows of the training records before any gradient."""
    head = locator.head
    if isinstance(head, CoordinatesHead):
        head.remember(train.lat_lon, region)
    if not isinstance(head, CellHead) or target.cells is None or entry.head.name == "coordinates":
        return
    grid = target.cells.sort_values("cell")
    centres_m = project(places_of(grid), target.crs)
    positions_m = cell_positions(kept, cell, train.xy_m, centres_m, entry.head.position)
    if isinstance(head, CellsHead):
        head.remember(kept, positions_m, train.lat_lon)
    elif isinstance(head, HybridHead):
        bounds_m = grid.geometry.bounds.to_numpy()
        head.remember(kept, positions_m, train.lat_lon, cell_boxes(kept, cell, train.xy_m, bounds_m))


def _workers() -> int:
    """Read in this process on the CPU, which the network needs; beside a GPU in others."""
    return min(MOST_WORKERS, torch.get_num_threads()) if torch.cuda.is_available() else 0


def teach(lesson: Lesson, work: Path, loggers: Sequence[Logger] = ()) -> Taught:
    """Train the locator, from where the work folder left off."""
    entry = lesson.entry
    optimizer, schedule = asdict(entry.optimizer), asdict(entry.schedule)
    if find_lr := optimizer["lr"] == "auto":
        del optimizer["lr"]
    how = Optimization(optimizer.pop("name"), schedule.pop("name"), optimizer, schedule, _unfreezing(entry))
    module = LocatorModule(lesson.locator, how, epochs=entry.epochs, seed=entry.seed)
    data = RecordDataModule(lesson.train, lesson.val, lesson.loaders)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with redirect_stderr(sys.stdout), warnings.catch_warnings():  # stderr is for errors
        warnings.filterwarnings("ignore", module="lightning")
        L.seed_everything(entry.seed, verbose=False)
        find_batch = entry.batch_size == "auto"
        tuned = tune(module, data, work, lr_auto=find_lr, batch_auto=find_batch, precision=entry.precision)
        fitted = fit(
            module,
            data,
            work,
            epochs=entry.epochs,
            patience=entry.patience,
            precision=entry.precision,
            loggers=loggers,
        )
    return Taught(fitted, tuned)

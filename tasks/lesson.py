"""From one entry of `models:` to a locator that can be trained, and its training."""

import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray

from tasks.examples import SPLIT, Target, make_examples, open_shards, places_of, read_target, with_places
from tasks.model_entry import Cells, ModelEntry
from tasks.outputs import read_json
from waymark.errors import ModelError, nearest_name
from waymark.geo import extent_region, load_region, project
from waymark.images.datamodule import Examples, RecordDataModule, RecordLoaders
from waymark.images.transforms import Augmentation
from waymark.images.views import heading_slots
from waymark.models.backbones import backbone_names
from waymark.models.fitting import Fitted, fit
from waymark.models.heads import CellsHead, CoordinatesHead
from waymark.models.heads.cells import cell_positions
from waymark.models.locator import Blueprint, Locator
from waymark.models.module import LocatorModule, Optimization

MOST_WORKERS = 8


class Lesson(NamedTuple):
    """What a training needs."""

    entry: ModelEntry
    target: Target
    train: Examples
    val: Examples
    locator: Locator
    loaders: RecordLoaders


def check_entry(entry: ModelEntry) -> None:
    """Refuse what can be seen to be wrong before anything is read.

    Raises:
        ModelError: the backbone is unknown, its weights are not there, or head and target do not fit.
    """
    if entry.backbone not in backbone_names():
        raise ModelError(f"unknown backbone {entry.backbone!r}; {nearest_name(entry.backbone, backbone_names())}")
    if entry.weights not in ("default", "none") and not Path(entry.weights).is_file():
        raise ModelError(
            f"weights {entry.weights} do not exist; set weights to default, none, or the path of a state dict"
        )
    if isinstance(entry.head, Cells) and entry.target != "data/grid":
        raise ModelError("the head cells learns from data/grid; set the target of its model to that")


def prepare(model: str, entry: ModelEntry, table: pd.DataFrame) -> Lesson:
    """Build the locator, and gather what its head learns; all that is learnt here is learnt on train alone.

    Args:
        model: name of the entry, for errors.
        entry: what to build.
        table: records with their split.

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
    slots = heading_slots(train.headings)
    locator = _build(entry, target, len(kept), slots, shards.size_px)
    _teach_head(locator, entry, target, train, cells["train"], kept)
    augmentation = Augmentation(**asdict(entry.augmentation))
    loaders = RecordLoaders(shards, slots, entry.batch_size, augmentation, entry.seed, _workers())
    return Lesson(entry, target, train, val, locator, loaders)


def _cells(table: pd.DataFrame, target: Target) -> NDArray[np.int64]:
    """Give the `(N,)` number of each record's cell in the grid, -1 without a grid."""
    if target.cells is None:
        return np.full(len(table), -1, dtype=np.int64)
    return target.places.loc[table["record_id"], "cell"].to_numpy(dtype=np.int64)


def _kept_cells(cell: NDArray[np.int64], entry: ModelEntry, model: str) -> NDArray[np.int64]:
    """List the cells with a training record: no other can be a class."""
    if not isinstance(entry.head, Cells):
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


def _build(entry: ModelEntry, target: Target, classes: int, slots: Sequence[float | None], size_px: int) -> Locator:
    blueprint = Blueprint(
        backbone=entry.backbone,
        views=entry.views,
        slots=tuple(slots),
        head=entry.head.name,
        classes=classes,
        answer=entry.head.answer if isinstance(entry.head, Cells) else "mean",
        crs=target.crs,
        size_px=size_px,
        target=entry.target,
    )
    locator = Locator(blueprint, entry.weights)
    statistics = read_json(SPLIT / "statistics.json")
    locator.mean.copy_(torch.tensor(statistics["mean"]))
    locator.std.copy_(torch.tensor(statistics["std"]))
    return locator


def _teach_head(
    locator: Locator,
    entry: ModelEntry,
    target: Target,
    train: Examples,
    cell: NDArray[np.int64],
    kept: NDArray[np.int64],
) -> None:
    """Give the head what it knows of the training records before any gradient."""
    head = locator.head
    if isinstance(head, CellsHead) and isinstance(entry.head, Cells) and target.cells is not None:
        grid = target.cells.sort_values("cell")
        centres_m = project(places_of(grid), target.crs)
        head.remember(kept, cell_positions(kept, cell, train.xy_m, centres_m, entry.head.position))
    elif isinstance(head, CoordinatesHead) and not isinstance(entry.head, Cells):
        region = extent_region(train.lat_lon) if entry.region is None else load_region(entry.region)
        bounds_m = region.to_crs(target.crs).total_bounds.reshape(2, 2)  # lowest, highest x, y
        head.remember(train.xy_m, bounds_m, entry.head.scaling)


def _workers() -> int:
    """Read in this process on the CPU, which the network needs; beside a GPU in others."""
    return min(MOST_WORKERS, torch.get_num_threads()) if torch.cuda.is_available() else 0


def teach(lesson: Lesson, work: Path, loggers: Sequence[Logger] = ()) -> Fitted:
    """Train the locator, from where the work folder left off."""
    entry = lesson.entry
    options = asdict(entry.optimizer), asdict(entry.schedule)
    names = tuple(option.pop("name") for option in options)
    module = LocatorModule(lesson.locator, Optimization(*names, *options), epochs=entry.epochs, seed=entry.seed)
    data = RecordDataModule(lesson.train, lesson.val, lesson.loaders)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with redirect_stderr(sys.stdout), warnings.catch_warnings():  # stderr is for errors
        warnings.filterwarnings("ignore", module="lightning")
        L.seed_everything(entry.seed, verbose=False)
        return fit(
            module,
            data,
            work,
            epochs=entry.epochs,
            unfreeze_epoch=entry.unfreeze_epoch,
            patience=entry.patience,
            loggers=loggers,
        )

"""Train one model of params.yaml; the best epoch on val is the one that is kept."""

import logging
import math
import shutil
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
from lightning.pytorch.loggers import MLFlowLogger
from numpy.typing import NDArray

from tasks import tracking
from tasks.examples import (
    INPUTS,
    SPLIT,
    Target,
    make_examples,
    open_shards,
    places_of,
    read_table,
    read_target,
    with_places,
)
from tasks.model_entry import Cells, ModelEntry
from tasks.outputs import read_json, whole_folder, work_folder, write_json
from tasks.stage import Stage
from waymark.errors import ModelError
from waymark.geo import extent_region, load_region, project
from waymark.images.datamodule import RecordDataModule, RecordLoaders
from waymark.images.transforms import Augmentation
from waymark.images.views import heading_slots
from waymark.models.fitting import Fitted, fit
from waymark.models.heads import CellsHead, CoordinatesHead
from waymark.models.heads.cells import cell_positions
from waymark.models.locator import Blueprint, Locator
from waymark.models.module import LocatorModule, Optimization

logger = logging.getLogger(__name__)

TRAINED = Path("trained")
MOST_WORKERS = 8

STAGE = Stage("train", ModelEntry, section="models.{model}", shared=("region",), for_model=True)


class Truth(NamedTuple):
    """What the head learns of the records of one split."""

    table: pd.DataFrame
    xy_m: NDArray[np.float64]  # (N, 2) metres
    cell: NDArray[np.int64]  # (N,) number in the grid, -1 without a grid


def train(model: str, entry: ModelEntry) -> None:
    """Train one model of params.yaml; the best epoch on val is the one that is kept."""
    table, target = read_table(), read_target(Path(entry.target))
    truths = {split: _truth(with_places(table, split, model), target) for split in ("train", "val")}
    kept = _kept_cells(truths["train"], entry, model)
    shards = open_shards()
    work = work_folder("train", {"model": model, **asdict(entry)}, [*INPUTS, *Path(entry.target).glob("*.parquet")])
    torch.manual_seed(entry.seed)
    examples = {split: _examples(truth, kept) for split, truth in truths.items()}
    slots = heading_slots(examples["train"].headings)
    locator = _build(entry, target, truths["train"], kept, slots, shards.size_px)
    loaders = RecordLoaders(
        shards, slots, entry.batch_size, Augmentation(**asdict(entry.augmentation)), entry.seed, _workers()
    )
    run_id = tracking.begin_run(model, asdict(entry), work)
    fitted = _fit(entry, locator, RecordDataModule(examples["train"], examples["val"], loaders), work, run_id)
    with whole_folder(TRAINED / model) as folder:
        locator.save(folder / "model.ckpt")
        write_json(_describe(model, entry, target, truths, kept, fitted), folder / "training.json")
    tracking.end_training(run_id, model, table)
    shutil.rmtree(work)


def _truth(table: pd.DataFrame, target: Target) -> Truth:
    xy_m = project(places_of(table), target.crs)
    if target.cells is None:
        return Truth(table, xy_m, np.full(len(table), -1, dtype=np.int64))
    return Truth(table, xy_m, target.places.loc[table["record_id"], "cell"].to_numpy(dtype=np.int64))


def _kept_cells(truth: Truth, entry: ModelEntry, model: str) -> NDArray[np.int64]:
    """List the cells with a training record: no other can be a class."""
    if not isinstance(entry.head, Cells):
        return np.empty(0, dtype=np.int64)
    if entry.target != "data/grid":
        raise ModelError(f"{model} has the head cells, which learns from data/grid; set models.{model}.target to it")
    kept = np.unique(truth.cell)
    if len(kept) < 2:
        raise ModelError(
            f"all training records of {model} lie in one cell, which leaves nothing to learn;"
            " choose a smaller grid.spacing_m or add records from elsewhere"
        )
    return kept


def _examples(truth: Truth, kept: NDArray[np.int64]) -> Any:
    label = np.full(len(truth.cell), -1, dtype=np.int64)
    if len(kept):
        found = np.searchsorted(kept, truth.cell).clip(max=len(kept) - 1)
        label = np.where(kept[found] == truth.cell, found, -1)
    return make_examples(truth.table, truth.xy_m, label)


def _build(
    entry: ModelEntry,
    target: Target,
    truth: Truth,
    kept: NDArray[np.int64],
    slots: Sequence[float | None],
    size_px: int,
) -> Locator:
    blueprint = Blueprint(
        backbone=entry.backbone,
        views=entry.views,
        slots=tuple(slots),
        head=entry.head.name,
        classes=len(kept),
        answer=entry.head.answer if isinstance(entry.head, Cells) else "mean",
        crs=target.crs,
        size_px=size_px,
        target=entry.target,
    )
    locator = Locator(blueprint, entry.weights)
    statistics = read_json(SPLIT / "statistics.json")
    locator.mean.copy_(torch.tensor(statistics["mean"]))
    locator.std.copy_(torch.tensor(statistics["std"]))
    _teach_head(locator, entry, target, truth, kept)
    return locator


def _teach_head(locator: Locator, entry: ModelEntry, target: Target, truth: Truth, kept: NDArray[np.int64]) -> None:
    """Give the head what it knows of the training records before any gradient."""
    head = locator.head
    if isinstance(head, CellsHead) and isinstance(entry.head, Cells) and target.cells is not None:
        cells = target.cells.sort_values("cell")
        centres_m = project(cells[["latitude", "longitude"]].to_numpy(), target.crs)
        head.remember(kept, cell_positions(kept, truth.cell, truth.xy_m, centres_m, entry.head.position))
    elif isinstance(head, CoordinatesHead) and not isinstance(entry.head, Cells):
        lat_lon = places_of(truth.table)
        region = extent_region(lat_lon) if entry.region is None else load_region(entry.region)
        bounds_m = region.to_crs(target.crs).total_bounds.reshape(2, 2)  # lowest, highest x, y
        head.remember(truth.xy_m, bounds_m, entry.head.scaling)


def _workers() -> int:
    """Read in this process on the CPU, which the network needs; beside a GPU in others."""
    return min(MOST_WORKERS, torch.get_num_threads()) if torch.cuda.is_available() else 0


def _fit(entry: ModelEntry, locator: Locator, data: RecordDataModule, work: Path, run_id: str) -> Fitted:
    options = asdict(entry.optimizer), asdict(entry.schedule)
    names = tuple(option.pop("name") for option in options)
    module = LocatorModule(locator, Optimization(*names, *options), epochs=entry.epochs, seed=entry.seed)
    store = MLFlowLogger(
        experiment_name=tracking.EXPERIMENT, tracking_uri=tracking.tracking_uri(), run_id=run_id, log_model=False
    )
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
            loggers=[store],
        )


def _describe(
    model: str,
    entry: ModelEntry,
    target: Target,
    truths: dict[str, Truth],
    kept: NDArray[np.int64],
    fitted: Fitted,
) -> dict[str, Any]:
    return {
        "model": model,
        "params": asdict(entry),
        "crs": target.crs,
        "records": {split: len(truth.table) for split, truth in truths.items()},
        "cells": {"grid": 0 if target.cells is None else len(target.cells), "kept": len(kept)},
        "best_epoch": fitted.best_epoch,
        "best_val_mean_km": fitted.best_val_mean_km,
        "curves": [_without_nan(row) for row in fitted.curves],
    }


def _without_nan(row: dict[str, float]) -> dict[str, float | None]:
    """Write null where an epoch has no figure, such as the loss where no val record lies in a known cell."""
    return {name: None if math.isnan(value) else value for name, value in row.items()}


if __name__ == "__main__":
    STAGE.main(train)

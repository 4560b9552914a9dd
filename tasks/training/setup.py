"""From one entry of `models:` to a locator that can be trained, and its training."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from geopandas import GeoDataFrame
from numpy.typing import NDArray

from tasks.training.examples import Target, make_examples, read_target
from tasks.training.heads import Attention, Coordinates, Joint, LandmarkEntry, PlaceEntry
from tasks.training.landmark_classes import (
    LandmarkClasses,
    balanced_chances,
    landmark_labels,
    learn_classes,
)
from tasks.training.models import LANDMARKS, ModelEntry
from tasks.training.tables import open_shards, places_of, with_places
from waymark.errors import ModelError, nearest_name
from waymark.geo.crs import project
from waymark.geo.regions import extent_region, load_region
from waymark.images.batches import Examples, RecordLoaders
from waymark.images.datamodule import RecordDataModule
from waymark.images.shards import Shards
from waymark.images.transforms import Augmentation, check_size
from waymark.images.views import heading_slots
from waymark.models.backbones import ANOTHER, Backbone, backbone_names
from waymark.models.heads import (
    NO_LANDMARK,
    CellsHead,
    CoordinatesHead,
    HybridHead,
    build_landmark_head,
    build_place_head,
)
from waymark.models.heads.cells import cell_positions
from waymark.models.heads.hybrid import cell_boxes
from waymark.models.locator import Blueprint, Locator
from waymark.models.training.finetuning import Unfreeze, unfreeze_steps
from waymark.models.training.fitting import Fitted, fit
from waymark.models.training.module import LocatorModule, Optimization
from waymark.models.training.optimization import LEAST_CYCLE_BATCHES, build_optimizer, build_schedule
from waymark.models.training.tuning import Tuned, tune

MOST_WORKERS = 8
LEARNT = ("name", "position", "least_images")  # of a head's options: what is needed only as it is taught


class Plan(NamedTuple):
    """The heads of an entry, and what their losses count."""

    place: PlaceEntry | None
    landmark: LandmarkEntry | None
    weights: dict[str, float]


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
        raise ModelError(f"weights {entry.weights} do not exist; {ANOTHER}")
    plan = heads_of(entry)
    _check_target(entry, plan)
    if entry.snap_to_land and (entry.region is None or plan.place is None):
        raise ModelError(
            "snap_to_land moves answers to the land of a region; set region, or snap_to_land to false, as a model"
            " needs that answers no places"
        )
    if plan.place is not None:
        build_place_head(plan.place.name, 1, cells=1, crs="EPSG:4326", options=_options(plan.place))
    if plan.landmark is not None:
        build_landmark_head(plan.landmark.name, 1, landmarks=2, options=_options(plan.landmark))
        if entry.pooling == "levels" and plan.landmark.name == "attention":
            raise ModelError("attention weighs one map, and pooling levels takes all; set pooling to mean, gem or grid")
    elif entry.sampling == "balanced":
        raise ModelError("sampling balanced shows each landmark equally often; set it to natural without landmarks")
    _check_stage(entry, plan.landmark)
    _check_schedule(entry)
    for step in _unfreezing(entry) or ():
        if step.epoch >= entry.epochs:
            raise ModelError(
                f"the backbone is to learn from epoch {step.epoch}, and the training ends after {entry.epochs} epochs;"
                " set epochs higher, or unfreeze_epoch or unfreeze lower"
            )


def _check_stage(entry: ModelEntry, head: LandmarkEntry | None) -> None:
    """Refuse a branch after a stage that the backbone has not."""
    if isinstance(head, Attention):
        _outline(entry.backbone).channels(head.stage)


@cache
def _outline(backbone: str) -> Backbone:
    """Build a backbone without any numbers in it."""
    with torch.device("meta"):
        return Backbone(backbone)


def _check_schedule(entry: ModelEntry) -> None:
    """Refuse a rate and a schedule that do not go together; one that is found before the training may fit."""
    optimizer, schedule = asdict(entry.optimizer), asdict(entry.schedule)
    if optimizer["lr"] != "auto":
        built = build_optimizer(optimizer.pop("name"), [torch.nn.Parameter(torch.zeros(1))], **optimizer)
        build_schedule(schedule.pop("name"), built, epochs=entry.epochs, batches=LEAST_CYCLE_BATCHES, **schedule)


def heads_of(entry: ModelEntry) -> Plan:
    """Say which heads an entry asks for."""
    head = entry.head
    if isinstance(head, Joint):
        return Plan(head.place, head.landmark, {"place": head.place_weight, "landmark": head.landmark_weight})
    if isinstance(head, PlaceEntry):
        return Plan(head, None, {"place": 1.0})
    return Plan(None, head, {"landmark": 1.0})


def _check_target(entry: ModelEntry, plan: Plan) -> None:
    place = plan.place
    if place is None:
        if entry.target != LANDMARKS:
            raise ModelError(f"the head {entry.head.name} learns landmarks; set the target of its model to {LANDMARKS}")
        return
    if entry.target == LANDMARKS:
        raise ModelError(
            f"the head {place.name} learns places; set the target of its model to data/grid, data/grids/NAME, or"
            " data/projected for coordinates"
        )
    if place.name != "coordinates" and entry.target == "data/projected":
        raise ModelError(
            f"the head {place.name} learns from data/grid or data/grids/NAME; set the target of its model to that"
        )


def _options(head: PlaceEntry | LandmarkEntry) -> dict[str, Any]:
    return {name: value for name, value in asdict(head).items() if name not in LEARNT}


def _unfreezing(entry: ModelEntry) -> tuple[Unfreeze, ...] | None:
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
    plan, target = heads_of(entry), read_target(Path(entry.target))
    classes = None if plan.landmark is None else learn_classes(table, model, plan.landmark.least_images)
    tables = {split: _rows(table, split, model, plan, classes) for split in ("train", "val")}
    cells = {split: _cells(rows, target) for split, rows in tables.items()}
    kept = _kept_cells(cells["train"], plan.place, model)
    train, val = (_examples(tables[split], cells[split], kept, target, classes) for split in ("train", "val"))
    torch.manual_seed(entry.seed)
    shards = open_shards()
    check_size(shards.size_px, entry.size_px or shards.size_px)
    locator = _build(entry, plan, target, len(kept), classes, heading_slots(train.headings), shards)
    locator.mean.copy_(torch.tensor(statistics["mean"]))
    locator.std.copy_(torch.tensor(statistics["std"]))
    if plan.place is not None:
        region = extent_region(train.lat_lon) if entry.region is None else load_region(entry.region)
        _teach_places(locator, plan.place, target, train, cells["train"], kept, region)
        if locator.land is not None:
            locator.land.remember(region.geometry)
    if locator.landmark_head is not None and classes is not None:
        locator.landmark_head.remember(classes.counts)
    loaders = RecordLoaders(
        shards,
        locator.blueprint.slots,
        min(len(train), 2) if entry.batch_size == "auto" else entry.batch_size,  # auto is found before the training
        Augmentation(**asdict(entry.augmentation)),
        entry.seed,
        _workers(),
        locator.blueprint.size_px,
        balanced_chances(train.landmark) if entry.sampling == "balanced" else None,
    )
    return Lesson(entry, target, train, val, locator, loaders)


def _rows(table: pd.DataFrame, split: str, model: str, plan: Plan, classes: LandmarkClasses | None) -> pd.DataFrame:
    """Choose the records that teach some head, or of val all that a landmark model is asked about."""
    placed = None if plan.place is None else with_places(table, split, model)
    if plan.landmark is None or classes is None:
        return placed if placed is not None else table
    rows = table[table["split"] == split]
    label = landmark_labels(rows, classes.landmarks)
    wanted = (label >= 0) | (split == "val")
    if plan.landmark.background > 0:
        wanted |= label == NO_LANDMARK
    if placed is not None:
        wanted |= rows["record_id"].isin(placed["record_id"]).to_numpy()
    return rows[wanted]


def _cells(table: pd.DataFrame, target: Target) -> NDArray[np.int64]:
    """Give the `(N,)` number of each record's cell in the grid, -1 without a grid or coordinates."""
    if target.cells is None:
        return np.full(len(table), -1, dtype=np.int64)
    return target.places["cell"].reindex(table["record_id"]).fillna(-1).to_numpy(dtype=np.int64)


def _kept_cells(cell: NDArray[np.int64], head: PlaceEntry | None, model: str) -> NDArray[np.int64]:
    """List the cells with a training record: no other can be a class."""
    if head is None or head.name == "coordinates":
        return np.empty(0, dtype=np.int64)
    kept = np.unique(cell[cell >= 0])
    if len(kept) < 2:
        raise ModelError(
            f"all training records of {model} lie in one cell, which leaves nothing to learn;"
            " choose a smaller grid.spacing_m or add records from elsewhere"
        )
    return kept


def _examples(
    table: pd.DataFrame,
    cell: NDArray[np.int64],
    kept: NDArray[np.int64],
    target: Target,
    classes: LandmarkClasses | None,
) -> Examples:
    label = np.full(len(cell), -1, dtype=np.int64)
    if len(kept):
        found = np.searchsorted(kept, cell).clip(max=len(kept) - 1)
        label = np.where(kept[found] == cell, found, -1)
    lat_lon = places_of(table)
    known = ~np.isnan(lat_lon).any(axis=1)
    xy_m = np.full_like(lat_lon, np.nan)
    if len(target.places):  # a model of landmarks alone has no map
        xy_m[known] = project(lat_lon[known], target.crs)
    return make_examples(table, xy_m, label, None if classes is None else landmark_labels(table, classes.landmarks))


def _build(
    entry: ModelEntry,
    plan: Plan,
    target: Target,
    cells: int,
    classes: LandmarkClasses | None,
    slots: Sequence[float | None],
    shards: Shards,
) -> Locator:
    blueprint = Blueprint(
        backbone=entry.backbone,
        views=entry.views,
        slots=tuple(slots),
        head=None if plan.place is None else plan.place.name,
        head_options={} if plan.place is None else _options(plan.place),
        classes=cells,
        crs=target.crs,
        landmark_head=None if plan.landmark is None else plan.landmark.name,
        landmark_options={} if plan.landmark is None else _options(plan.landmark),
        landmarks=() if classes is None else classes.landmarks,
        landmark_names=() if classes is None else classes.names,
        shard_px=shards.size_px,
        size_px=entry.size_px or shards.size_px,
        fit=shards.fit,
        target=entry.target,
        snap_to_land=entry.snap_to_land,
        pooling=entry.pooling,
        embedding=entry.embedding,
    )
    return Locator(blueprint, entry.weights)


def _teach_places(
    locator: Locator,
    entry: PlaceEntry,
    target: Target,
    train: Examples,
    cell: NDArray[np.int64],
    kept: NDArray[np.int64],
    region: GeoDataFrame,
) -> None:
    """Give the head for places what it knows of the training records before any gradient."""
    head = locator.place_head
    placed = ~np.isnan(train.lat_lon).any(axis=1)
    lat_lon, xy_m, cell = train.lat_lon[placed], train.xy_m[placed], cell[placed]
    if isinstance(head, CoordinatesHead):
        head.remember(lat_lon, region)
    if target.cells is None or isinstance(entry, Coordinates):
        return
    grid = target.cells.sort_values("cell")
    centres_m = project(places_of(grid), target.crs)
    positions_m = cell_positions(kept, cell, xy_m, centres_m, entry.position)
    if isinstance(head, CellsHead):
        head.remember(kept, positions_m, lat_lon)
    elif isinstance(head, HybridHead):
        bounds_m = grid.geometry.bounds.to_numpy()
        head.remember(kept, positions_m, lat_lon, cell_boxes(kept, cell, xy_m, bounds_m))


def _workers() -> int:
    """Read in this process on the CPU, which the network needs; beside a GPU in others."""
    return min(MOST_WORKERS, torch.get_num_threads()) if torch.cuda.is_available() else 0


def teach(
    lesson: Lesson, work: Path, after_epoch: Callable[[Sequence[dict[str, float]]], None] | None = None
) -> Taught:
    """Train the locator, from where the work folder left off; `after_epoch` takes the curves so far."""
    entry = lesson.entry
    if entry.threads is not None and not torch.cuda.is_available():
        torch.set_num_threads(entry.threads)
    optimizer, schedule = asdict(entry.optimizer), asdict(entry.schedule)
    if find_lr := optimizer["lr"] == "auto":
        del optimizer["lr"]
    how = Optimization(optimizer.pop("name"), schedule.pop("name"), optimizer, schedule, _unfreezing(entry))
    weights = heads_of(entry).weights
    module = LocatorModule(lesson.locator, how, epochs=entry.epochs, seed=entry.seed, weights=weights)
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
            after_epoch=after_epoch,
        )
    return Taught(fitted, tuned)

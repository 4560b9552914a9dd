"""From one entry of `models:` to a locator that can be trained, and its training."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pandas as pd
import torch

from tasks.training.examples import Material, Target, choose_material, read_target
from tasks.training.landmark_classes import balanced_chances
from tasks.training.models import ModelEntry
from tasks.training.tables import open_shards, open_views
from waymark.errors import ModelError
from waymark.geo.regions import extent_region, load_region
from waymark.images.batches import Examples, RecordLoaders
from waymark.images.datamodule import RecordDataModule
from waymark.images.embeddings import Embeddings
from waymark.images.shards import Shards, check_size
from waymark.images.views import heading_slots
from waymark.models.config import ModelConfig
from waymark.models.embedding import state_digest
from waymark.models.heads.adapter import is_by_gradient
from waymark.models.locator import Locator
from waymark.models.pooling import PoolingOptions
from waymark.models.training.at_once import learn_at_once
from waymark.models.training.fitting import Fitted, fit
from waymark.models.training.module import LocatorModule
from waymark.models.training.tuning import Tuned, tune
from waymark.models.weights import NONE, Normalisation, weights_licence, weights_normalisation

MOST_WORKERS = 8


class TrainingSetup(NamedTuple):
    """What a training needs."""

    entry: ModelEntry
    target: Target
    train: Examples
    val: Examples
    locator: Locator
    loaders: RecordLoaders


class TrainingResult(NamedTuple):
    """What came of it."""

    fitted: Fitted
    tuned: Tuned


def prepare(model: str, entry: ModelEntry, table: pd.DataFrame, statistics: dict[str, Any]) -> TrainingSetup:
    """Build the locator, and gather what its heads learn; all that is learnt here is learnt on train alone.

    Args:
        model: name of the entry, for errors.
        entry: what to build.
        table: records with their split.
        statistics: of the training pixels, as `channel_statistics` gives them; pretrained weights have their own.

    Raises:
        ModelError: the records hold nothing that a head could learn, or the entry does not fit together.
    """
    target = read_target(Path(entry.target))
    material = choose_material(model, entry.head.parts(), table, target)
    torch.manual_seed(entry.seed)
    shards, views = open_shards(), open_views(entry.learns_from)
    check_size(shards.size_px, entry.size_px or shards.size_px)
    begins = _beginning(entry, views)
    locator = Locator(_config(entry, target, material, shards, begins), begins.weights)
    if isinstance(views, Embeddings) and state_digest(locator.backbone) != views.about["sha256"]:
        raise ModelError(
            f"the embeddings {entry.embeddings} were made with other weights than {begins.weights} of {begins.backbone}"
            f" are now; run dvc repro --force embed@{entry.embeddings}"
        )
    prepared = begins.prepared
    locator.mean.copy_(torch.tensor(prepared.mean if prepared else statistics["mean"]))
    locator.std.copy_(torch.tensor(prepared.std if prepared else statistics["std"]))
    _adapt(locator, entry, material, target)
    train = material.train
    loaders = RecordLoaders(
        views,
        locator.config.slots,
        min(len(train), 2) if entry.batch_size == "auto" else entry.batch_size,  # auto is found before the training
        entry.augmentation,
        entry.seed,
        _workers(),
        locator.config.size_px,
        locator.config.interpolation,
        balanced_chances(train.landmark) if entry.sampling == "balanced" else None,
    )
    return TrainingSetup(entry, target, train, material.val, locator, loaders)


class Beginning(NamedTuple):
    """What a network begins with."""

    backbone: str
    weights: str
    pooling: PoolingOptions
    size_px: int | None
    prepared: Normalisation | None  # of the pictures that pretrained weights know; None without any


def _beginning(entry: ModelEntry, views: Shards | Embeddings) -> Beginning:
    """Look up what the network begins with: what its entry says, or what has made its embeddings."""
    if isinstance(views, Embeddings):
        known = views.about
        name, weights = known["backbone"], known["weights"]
        pooling = PoolingOptions.choose(known["pooling"])
        return Beginning(name, weights, pooling, known["size_px"], weights_normalisation(name))
    assert entry.backbone is not None  # `check_entry` has seen to it
    prepared = None if entry.weights == NONE else weights_normalisation(entry.backbone)
    return Beginning(entry.backbone, entry.weights, entry.pooling, entry.size_px, prepared)


def _config(entry: ModelEntry, target: Target, material: Material, shards: Shards, begins: Beginning) -> ModelConfig:
    classes = material.classes
    return ModelConfig.of(
        entry,
        backbone=begins.backbone,
        pooling=begins.pooling,
        slots=tuple(heading_slots(material.train.headings)),
        crs=target.crs,
        target=entry.target,
        shard_px=shards.size_px,
        size_px=begins.size_px or shards.size_px,
        fit=shards.fit,
        interpolation=begins.prepared.interpolation if begins.prepared else "lanczos",
        embeddings=entry.learns_from,
        licence=weights_licence(begins.backbone, begins.weights),
        classes=material.cells,
        landmarks=() if classes is None else classes.landmarks,
        landmark_names=() if classes is None else classes.names,
    )


def _adapt(locator: Locator, entry: ModelEntry, material: Material, target: Target) -> None:
    """Let the heads learn what no gradient teaches."""
    if locator.place_head is not None:
        region = extent_region(material.train.lat_lon) if entry.region is None else load_region(entry.region)
        locator.place_head.adapt(material.places(target, region))
        if locator.land is not None:
            locator.land.adapt(region.geometry)
    if locator.landmark_head is not None and material.classes is not None:
        locator.landmark_head.adapt(material.classes.counts)


def _workers() -> int:
    """Read in this process on the CPU, which the network needs; next to a GPU in others."""
    return min(MOST_WORKERS, torch.get_num_threads()) if torch.cuda.is_available() else 0


def train_locator(
    setup: TrainingSetup, work: Path, after_epoch: Callable[[Sequence[dict[str, float]]], None] | None = None
) -> TrainingResult:
    """Train the locator, from where the work folder left off; `after_epoch` takes the curves so far."""
    entry = setup.entry
    if entry.threads is not None and not torch.cuda.is_available():
        torch.set_num_threads(entry.threads)
    if not is_by_gradient(entry.head):
        fitted = learn_at_once(setup.locator, setup.loaders, setup.train, setup.val)
        if after_epoch is not None:
            after_epoch(fitted.curves)
        return TrainingResult(fitted, Tuned(None, None))
    weights = entry.head.parts().weights
    module = LocatorModule(setup.locator, entry.optimization, epochs=entry.epochs, seed=entry.seed, weights=weights)
    data = RecordDataModule(setup.train, setup.val, setup.loaders)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with redirect_stderr(sys.stdout), warnings.catch_warnings():  # stderr is for errors
        warnings.filterwarnings("ignore", module="lightning")
        L.seed_everything(entry.seed, verbose=False)
        find_lr, find_batch = entry.optimizer.lr == "auto", entry.batch_size == "auto"
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
    return TrainingResult(fitted, tuned)

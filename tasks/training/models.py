"""One entry of `models:` in params.yaml, and what can be wrong with it before anything is read."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.common.kinds import NAME
from tasks.common.stage import STRICT
from tasks.training.ensembles import LANDMARKS as LANDMARKS
from waymark.errors import ModelError
from waymark.images.transforms import Augmentation
from waymark.models.backbones import DEFAULT_POOLING, Backbone, check_backbone
from waymark.models.config import NetworkOptions
from waymark.models.heads import Attention, HeadOptions, LandmarkOptions
from waymark.models.heads.adapter import is_by_gradient
from waymark.models.pooling import PoolingOptions
from waymark.models.training.finetuning import Unfreeze, unfreeze_steps
from waymark.models.training.fitting import Precision
from waymark.models.training.module import Optimization
from waymark.models.training.optimizers import OptimizerOptions
from waymark.models.training.schedules import LEAST_CYCLE_BATCHES, ScheduleOptions
from waymark.models.weights import ANOTHER, BUNDLED, DEFAULT, NONE
from waymark.options.kinds import Batch, Epoch, Epochs, Few, PathText, Seed, SizePx, Text
from waymark.options.named import ByName

Target = Annotated[
    str,
    Field(
        pattern=rf"^data/(grid|projected|grids/{NAME.pattern}|filtered/landmarks\.parquet)$",
        description=f"data/grid, data/grids/NAME, data/projected or {LANDMARKS}",
    ),
]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ModelEntry(NetworkOptions):
    """One entry of `models:`, and `region`; besides what it says of the network, how that is trained.

    Args:
        region: bounds the answers of the head `coordinates`, and is the land to which answers snap.
        embeddings: name of an entry of `embeddings`, from which the heads learn in place of pictures; none: from
            pictures, with a backbone of its own.
        target: table that the model learns from: data/grid or data/grids/NAME for cells, data/projected
            for coordinates, data/filtered/landmarks.parquet for landmarks; a joint model names that of its places.
        weights: none, default, bundled, or the path of a state dict.
        optimizer: and its learning rate.
        schedule: of the learning rate.
        epochs: most epochs.
        batch_size: most records in a batch; auto for as many as fit.
        seed: of weights, order and augmentation.
        unfreeze_epoch: first epoch in which the backbone learns; 0 trains all from the start, null never trains it.
        unfreeze: steps in which blocks of the backbone begin to learn, instead of `unfreeze_epoch`.
        patience: epochs without a better figure on val (mean_km, or gap for landmarks, or loss for both)
            after which training stops; null never.
        size_px: side of the pictures that the network sees; null for that of the shards.
        precision: of the sums inside the network: 32 is exact, the mixed ones are faster on a GPU.
        threads: cores that a training without a GPU computes on; null for all. Sums differ with the
            number of cores, so that a number makes trainings repeat on machines that differ in nothing else.
        augmentation: random changes of the training pictures.
        sampling: natural shows each training record once in an epoch, balanced each landmark equally often.
    """

    region: PathText | None
    target: Target
    optimizer: Annotated[OptimizerOptions, ByName()]
    schedule: Annotated[ScheduleOptions, ByName()]
    epochs: Epochs
    batch_size: Batch | Literal["auto"]
    seed: Seed
    embeddings: Text = NONE
    weights: PathText = NONE
    unfreeze_epoch: Epoch | None = 0
    unfreeze: tuple[Unfreeze, ...] = ()
    patience: Epochs | None = None
    size_px: SizePx | None = None
    precision: Precision = "32"
    threads: Few | None = None
    augmentation: Augmentation = Field(default_factory=Augmentation)
    sampling: Literal["natural", "balanced"] = "natural"

    @property
    def optimization(self) -> Optimization:
        """What is optimized when, and how."""
        steps = None if self.learns_from else unfreeze_steps(self.unfreeze_epoch, self.unfreeze)
        return Optimization(self.optimizer, self.schedule, steps)

    @property
    def learns_from(self) -> str | None:
        """The embeddings from which the heads learn; None where they learn from pictures."""
        return None if self.embeddings == NONE else self.embeddings


def check_entry(entry: ModelEntry) -> None:
    """Refuse what is wrong by itself, before anything is read.

    Raises:
        ModelError: the backbone is unknown, its weights are not there, or options do not fit together.
    """
    if entry.learns_from:
        _check_embedded(entry)
    elif entry.backbone is None:
        raise ModelError("the model has no backbone; name one of timm's, or embeddings in its place")
    else:
        check_backbone(entry.backbone)
    if entry.weights not in (NONE, DEFAULT, BUNDLED) and not Path(entry.weights).is_file():
        raise ModelError(f"weights {entry.weights} do not exist; {ANOTHER}")
    place, landmark, _ = entry.head.parts()
    _check_target(entry.target, entry.head)
    if entry.snap_to_land and (entry.region is None or place is None):
        raise ModelError(
            "snap_to_land moves answers to the land of a region; set region, or snap_to_land to false, as a model"
            " needs that answers no places"
        )
    _check_landmark(entry, landmark)
    if not is_by_gradient(entry.head):
        _check_at_once(entry)
    optimizer, schedule, steps = entry.optimizer, entry.schedule, entry.optimization.unfreeze
    if optimizer.lr != "auto":  # a rate that is found before the training may fit
        built = optimizer.build([torch.nn.Parameter(torch.zeros(1))])
        schedule.build(built, epochs=entry.epochs, batches=LEAST_CYCLE_BATCHES)
    for step in steps or ():
        if step.epoch >= entry.epochs:
            raise ModelError(
                f"the backbone is to learn from epoch {step.epoch}, and the training ends after {entry.epochs} epochs;"
                " set epochs higher, or unfreeze_epoch or unfreeze lower"
            )


def _check_embedded(entry: ModelEntry) -> None:
    """Refuse options of a network that has been through with its pictures when the training begins."""
    if entry.backbone is not None or entry.weights != NONE:
        raise ModelError(
            "embeddings bring their backbone and its weights; take backbone and weights out, or embeddings"
        )
    still = replace(entry.augmentation, drop_view=0.0) == Augmentation()
    useless = {
        "pooling": entry.pooling != DEFAULT_POOLING,
        "size_px": entry.size_px is not None,
        "unfreeze": bool(entry.unfreeze),
        "augmentation": not still,
        "the head attention": isinstance(entry.head.parts().landmark, Attention),
    }
    for name, chosen in useless.items():
        if chosen:
            raise ModelError(
                f"{name} needs pictures, and the model learns from embeddings; take it out, or set it below embeddings"
            )


def _check_at_once(entry: ModelEntry) -> None:
    """Refuse what a head that learns at once has no use for."""
    if entry.embedding is not None or (not entry.learns_from and entry.unfreeze_epoch is not None):
        raise ModelError(
            f"no epoch teaches the head {entry.head.name}: set embedding to null, and name embeddings, or set"
            " unfreeze_epoch to null"
        )


def _check_landmark(entry: ModelEntry, landmark: LandmarkOptions | None) -> None:
    if landmark is None and entry.sampling == "balanced":
        raise ModelError("sampling balanced shows each landmark equally often; set it to natural without landmarks")
    if isinstance(landmark, Attention):
        if entry.pooling.all_levels:
            raise ModelError("attention weighs one map, and pooling levels takes all; set pooling to mean, gem or grid")
        assert entry.backbone is not None
        _outline(entry.backbone, entry.pooling, entry.size_px).channels(landmark.stage)  # raises where there is none


@cache
def _outline(backbone: str, pooling: PoolingOptions, size_px: int | None) -> Backbone:
    """Build a backbone without any numbers in it."""
    with torch.device("meta"):
        return Backbone(backbone, pooling=pooling, size_px=size_px)


def _check_target(target: str, head: HeadOptions) -> None:
    place = head.parts().place
    if place is None:
        if target != LANDMARKS:
            raise ModelError(f"the head {head.name} learns landmarks; set the target of its model to {LANDMARKS}")
        return
    if target == LANDMARKS:
        raise ModelError(
            f"the head {place.name} learns places; set the target of its model to data/grid, data/grids/NAME, or"
            " data/projected for coordinates"
        )
    if place.has_cells and target == "data/projected":
        raise ModelError(
            f"the head {place.name} learns from data/grid or data/grids/NAME; set the target of its model to that"
        )

"""One entry of `models:` in params.yaml."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from tasks.stage import STRICT

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
OrName = BeforeValidator(lambda given: {"name": given} if isinstance(given, str) else given)  # `head: cells` will do


@dataclass(frozen=True, config=STRICT)
class Cells:
    """Head `cells`.

    Args:
        answer: mean of the cells weighted with their probabilities, or the best cell.
        position: of a cell: the mean of its training records, or its clipped centre.
    """

    name: Literal["cells"]
    answer: Literal["mean", "best"] = "mean"
    position: Literal["training", "centre"] = "training"


@dataclass(frozen=True, config=STRICT)
class Coordinates:
    """Head `coordinates`.

    Args:
        scaling: one scale for both axes, or each axis to 0-1.
    """

    name: Literal["coordinates"]
    scaling: Literal["isotropic", "per_axis"] = "isotropic"


@dataclass(frozen=True, config=STRICT)
class Sgd:
    """Optimizer `sgd`, with Nesterov momentum."""

    name: Literal["sgd"]
    lr: Positive = 0.01
    momentum: Share = 0.9
    weight_decay: NotNegative = 0.0


@dataclass(frozen=True, config=STRICT)
class Adam:
    """Optimizer `adam`, or `adamw` with decoupled weight decay."""

    name: Literal["adam", "adamw"]
    lr: Positive = 0.001
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: NotNegative = 0.0


@dataclass(frozen=True, config=STRICT)
class Constant:
    """Schedule `constant`."""

    name: Literal["constant"]


@dataclass(frozen=True, config=STRICT)
class Step:
    """Schedule `step`: times `factor` every `step_epochs`."""

    name: Literal["step"]
    step_epochs: Annotated[int, Field(gt=0)] = 10
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1


@dataclass(frozen=True, config=STRICT)
class Plateau:
    """Schedule `plateau`: times `factor` when the validation loss has not fallen for more than `patience` epochs."""

    name: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 5


@dataclass(frozen=True, config=STRICT)
class Cosine:
    """Schedule `cosine`: down to `lr_min` at the last epoch."""

    name: Literal["cosine"]
    lr_min: NotNegative = 0.0


@dataclass(frozen=True, config=STRICT)
class Augment:
    """Random changes of the training pictures; see `waymark.images.transforms.Augmentation`."""

    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    light: Share = 0.0
    flip: bool = False
    drop_view: Share = 0.0


@dataclass(frozen=True, config=STRICT)
class ModelEntry:
    """One entry of `models:`, and `region`.

    Args:
        region: bounds the answers of the head `coordinates`.
        target: table that the model learns from: data/grid for cells, data/projected for coordinates.
        backbone: name of a torchvision model.
        weights: default, none, or the path of a state dict.
        views: how the features of the views are joined.
        head: what is learnt.
        optimizer: and its learning rate.
        schedule: of the learning rate.
        epochs: most epochs.
        batch_size: most records in a batch.
        seed: of weights, order and augmentation.
        unfreeze_epoch: first epoch in which the backbone learns; 0 trains all from the start.
        patience: epochs without a better val mean_km after which training stops; null never.
        augmentation: random changes of the training pictures.
    """

    region: str | None
    target: Literal["data/grid", "data/projected"]
    backbone: str
    weights: str
    views: Literal["concat", "mean"]
    head: Annotated[Cells | Coordinates, Field(discriminator="name"), OrName]
    optimizer: Annotated[Sgd | Adam, Field(discriminator="name"), OrName]
    schedule: Annotated[Constant | Step | Plateau | Cosine, Field(discriminator="name"), OrName]
    epochs: Annotated[int, Field(gt=0)]
    batch_size: Annotated[int, Field(gt=0)]
    seed: int
    unfreeze_epoch: Annotated[int, Field(ge=0)] = 0
    patience: Annotated[int, Field(gt=0)] | None = None
    augmentation: Augment = Field(default_factory=Augment)

"""One entry of `models:` in params.yaml."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.common.kinds import (
    NAME,
    Batch,
    Epoch,
    Epochs,
    Few,
    Fraction,
    Half,
    Noise,
    OrName,
    PathText,
    PositiveFraction,
    Seed,
    Share,
    SizePx,
    Text,
    Width,
)
from tasks.common.stage import STRICT
from tasks.training.heads import Joint, LandmarkEntry, PlaceEntry
from tasks.training.optimization import (
    AdaBound,
    Adam,
    Constant,
    Cosine,
    OneCycle,
    Plateau,
    Sgd,
    Step,
    Unfreezing,
    WarmRestarts,
)

LANDMARKS = "data/filtered/landmarks.parquet"
Target = Annotated[
    str,
    Field(
        pattern=rf"^data/(grid|projected|grids/{NAME.pattern}|filtered/landmarks\.parquet)$",
        description=f"data/grid, data/grids/NAME, data/projected or {LANDMARKS}",
    ),
]


@dataclass(frozen=True, config=STRICT)
class Augment:
    """Random changes of the training pictures; see `waymark.images.transforms.Augmentation`."""

    flip: bool = False
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    translate: Half = 0.0
    crop: PositiveFraction = 1.0
    crop_px: SizePx | None = None
    auto: Literal["imagenet", "trivial", "rand"] | None = None
    light: Share = 0.0
    saturation: Share = 0.0
    hue: Half = 0.0
    grey: Fraction = 0.0
    noise: Noise = 0.0
    drop_view: Share = 0.0


@dataclass(frozen=True, config=STRICT)
class ModelEntry:
    """One entry of `models:`, and `region`.

    Args:
        region: bounds the answers of the head `coordinates`, and is the land to which answers snap.
        target: table that the model learns from: data/grid or data/grids/NAME for cells, data/projected
            for coordinates, data/filtered/landmarks.parquet for landmarks; a joint model names that of its places.
        backbone: name of a torchvision model.
        weights: default, none, or the path of a state dict.
        views: how the features of the views are joined.
        head: what is learnt.
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
        snap_to_land: whether answers off the region's land are moved to its nearest point.
        precision: of the sums inside the network: 32 is exact, the mixed ones are faster on a GPU.
        threads: cores that a training without a GPU computes on; null for all. Sums come out otherwise on another
            number of cores, so that a number makes trainings repeat on machines that differ in nothing else.
        augmentation: random changes of the training pictures.
        pooling: how the backbone's last map becomes features: its mean, gem (generalised mean, which
            learns its power), grid (7 x 7 fields, as VGG's classifier takes them), or levels (means and
            deviations of the maps at each resolution, which keep colours and textures).
        embedding: features that the heads see, by a layer of its own; null for all that the backbone has.
        sampling: natural shows each training record once in an epoch, balanced each landmark equally often.
    """

    region: PathText | None
    target: Target
    backbone: Text
    weights: PathText
    views: Literal["concat", "mean", "attention"]
    head: Annotated[
        PlaceEntry | LandmarkEntry | Joint,
        Field(discriminator="name"),
        OrName,
    ]
    optimizer: Annotated[Sgd | Adam | AdaBound, Field(discriminator="name"), OrName]
    schedule: Annotated[
        Constant | Step | Plateau | Cosine | WarmRestarts | OneCycle, Field(discriminator="name"), OrName
    ]
    epochs: Epochs
    batch_size: Batch | Literal["auto"]
    seed: Seed
    unfreeze_epoch: Epoch | None = 0
    unfreeze: tuple[Unfreezing, ...] = ()
    patience: Epochs | None = None
    size_px: SizePx | None = None
    snap_to_land: bool = False
    precision: Literal["32", "auto", "16-mixed", "bf16-mixed"] = "32"
    threads: Few | None = None
    augmentation: Augment = Field(default_factory=Augment)
    pooling: Literal["mean", "gem", "grid", "levels"] = "mean"
    embedding: Width | None = None
    sampling: Literal["natural", "balanced"] = "natural"

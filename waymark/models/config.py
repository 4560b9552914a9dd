"""What a network is built from: the options of its user, and what the training data set."""

from dataclasses import fields
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from waymark.images.decode import Fit
from waymark.images.transforms import Interpolation
from waymark.models.heads import HeadOptions
from waymark.models.joining import Views
from waymark.models.pooling import Mean, PoolingOptions
from waymark.options.kinds import Text, Width
from waymark.options.named import STRICT, ByName
from waymark.system.untrusted import LONGEST_TEXT

MOST_PIXELS = 4096**2  # of all views of a record together: more would take many gigabytes to answer for
MOST_VIEWS = 64

Side = Annotated[int, Field(gt=0, le=4096)]
Count = Annotated[int, Field(ge=0, le=10_000_000)]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class NetworkOptions:
    """What a user chooses about a network.

    Args:
        backbone: name of a model of timm; None for a model that learns from embeddings, which name it.
        views: how the features of the views are joined.
        head: what is learnt.
        pooling: how the backbone's last map becomes features: its mean, gem (generalised mean, which
            learns its power), grid (7 x 7 fields, as VGG's classifier takes them), or levels (means and
            deviations of the maps at each resolution, which keep colours and textures).
        embedding: features that the heads see, by a layer of its own; null for all that the joined views have.
        snap_to_land: whether answers off the region's land are moved to its nearest point.
    """

    views: Views
    head: Annotated[HeadOptions, ByName()]
    backbone: Text | None = None
    pooling: Annotated[PoolingOptions, ByName()] = Mean()  # it is frozen
    embedding: Width | None = None
    snap_to_land: bool = False


@dataclass(frozen=True, config=ConfigDict(**STRICT, str_max_length=LONGEST_TEXT), kw_only=True)
class ModelConfig(NetworkOptions):
    """All that a locator is built from, as its checkpoint keeps it.

    Args:
        slots: heading in degrees of each view, None for a position.
        crs: in which the head for places answers.
        target: table that the model learns from.
        shard_px: side of the squares that pictures are brought to first, as in the shards.
        size_px: side of the pictures that the network sees, at most `shard_px`.
        fit: how pictures become squares, as in the shards.
        interpolation: from `shard_px` to `size_px`.
        embeddings: name of those that the model has learnt from; their backbone is the model's.
        licence: of the pretrained weights that the network began from, None without any, or for your own.
        classes: number of cells, for heads that have any.
        landmarks: the landmarks that the head tells apart, in the order of its classes.
        landmark_names: what people call them, in the same order.
    """

    backbone: Text
    slots: Annotated[tuple[float | None, ...], Field(min_length=1, max_length=MOST_VIEWS)]
    crs: Annotated[str, Field(max_length=100_000)]
    target: str
    shard_px: Side
    size_px: Side
    fit: Fit = "crop"
    interpolation: Interpolation = "lanczos"
    embeddings: Text | None = None
    licence: str | None = None
    classes: Count = 0
    landmarks: tuple[str, ...] = ()
    landmark_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.slots) * self.size_px**2 > MOST_PIXELS or self.size_px > self.shard_px:
            raise ValueError(
                f"{len(self.slots)} views of {self.size_px} px are more than pictures of {self.shard_px} px hold, or"
                f" than {MOST_PIXELS:,} pixels; set a smaller size_px"
            )
        count = len(self.landmarks)
        if count != len(self.landmark_names) or count != len(set(self.landmarks)):
            raise ValueError("landmarks and their names do not match, or one is a duplicate; train the model again")

    @classmethod
    def of(cls, options: NetworkOptions, **learnt: Any) -> Self:
        """Complete a user's options with what the training data set."""
        return cls(**({field.name: getattr(options, field.name) for field in fields(NetworkOptions)} | learnt))

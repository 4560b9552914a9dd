"""The network: views to features, features to a place and to a landmark. Its checkpoint is the whole model."""

import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from waymark.errors import ModelError
from waymark.images.decode import Fit
from waymark.images.transforms import normalise
from waymark.models.attention import AttentionBranch, attend
from waymark.models.backbones import Backbone
from waymark.models.heads import (
    AttentionHead,
    LandmarkHead,
    Place,
    PlaceHead,
    build_landmark_head,
    build_place_head,
)
from waymark.models.joining import Join, Views
from waymark.models.land import Land
from waymark.models.pooling import Pooling
from waymark.system.untrusted import CLOSED, checked, regular_file

FORMAT = 3
MOST_PIXELS = 4096**2  # of all views of a record together: more would take many gigabytes to answer for
MOST_VIEWS = 64
OUTLINE = "land.outline"  # the one tensor whose length is its own

Side = Annotated[int, Field(gt=0, le=4096)]
Count = Annotated[int, Field(ge=0, le=10_000_000)]


@dataclass(frozen=True)
class Blueprint:
    """What a locator is built from, in plain values.

    Args:
        backbone: name of the torchvision model.
        views: how the features of the views are joined.
        slots: heading in degrees of each slot, None for a position.
        head: name of the head for places, None without one.
        head_options: of that head.
        classes: number of cells, for heads that have any.
        crs: in which that head answers.
        landmark_head: name of the head for landmarks, None without one.
        landmark_options: of that head.
        landmarks: the landmarks that it tells apart, in the order of its classes.
        landmark_names: what people call them, in the same order.
        shard_px: side of the squares that pictures are brought to first, as in the shards.
        size_px: side of the pictures that the network sees, at most `shard_px`.
        fit: how pictures become squares, as in the shards.
        target: table that the model learns from.
        snap_to_land: whether answers off the land are moved to its nearest point.
        pooling: how the backbone's last map becomes features.
        embedding: features that the heads see; None for all that the joined views have.

    Raises:
        ModelError: the views would take too much memory, or are larger than their pictures; or a landmark has no name,
            or stands twice.
    """

    __pydantic_config__: ClassVar[Any] = CLOSED

    backbone: str
    views: Views
    slots: Annotated[tuple[float | None, ...], Field(min_length=1, max_length=MOST_VIEWS)]
    head: str | None
    classes: Count
    crs: Annotated[str, Field(max_length=100_000)]
    shard_px: Side
    size_px: Side
    target: str
    head_options: dict[str, Any] = field(default_factory=dict)
    snap_to_land: bool = False
    fit: Fit = "crop"
    landmark_head: str | None = None
    landmark_options: dict[str, Any] = field(default_factory=dict)
    landmarks: tuple[str, ...] = ()
    landmark_names: tuple[str, ...] = ()
    pooling: Pooling = "mean"
    embedding: Annotated[int, Field(gt=0, le=1_000_000)] | None = None

    def __post_init__(self) -> None:
        if len(self.slots) * self.size_px**2 > MOST_PIXELS or self.size_px > self.shard_px:
            raise ModelError(
                f"{len(self.slots)} views of {self.size_px} px are more than pictures of {self.shard_px} px hold, or"
                f" than {MOST_PIXELS:,} pixels; set a smaller size_px"
            )
        count = len(self.landmarks)
        if count != len(self.landmark_names) or count != len(set(self.landmarks)):
            raise ModelError("landmarks and their names do not match, or one stands twice; train the model again")


class Seen(NamedTuple):
    """What the network sees in records, before any head."""

    embedding: Tensor  # (B, D) features that the heads see
    attention: Tensor | None = None  # (B, C) logits of the attention branch, where there is one
    maps: Tensor | None = None  # (B, V, h, w) its attention, 0 to 1, and 0 where a view is not there


class Output(NamedTuple):
    """Raw output of both heads; of a head that the network does not have, no columns."""

    place: Tensor  # (B, K)
    landmark: Tensor  # (B, L)


class Locator(nn.Module):
    """All views of a record go through one backbone; their features are joined for one head or two.

    Args:
        blueprint: what to build.
        weights: of the backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, blueprint: Blueprint, weights: str = "none") -> None:
        super().__init__()
        self.blueprint = blueprint
        self.backbone = Backbone(blueprint.backbone, weights, blueprint.pooling)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))
        self.join = Join(blueprint.views, self.backbone.width, len(blueprint.slots))
        self.neck = None if blueprint.embedding is None else _neck(self.join.width, blueprint.embedding)
        self.width = self.join.width if blueprint.embedding is None else blueprint.embedding
        self.place_head = _place_head(blueprint, self.width)
        self.landmark_head = _landmark_head(blueprint, self.width)
        self.branch: AttentionBranch | None = None
        if isinstance(self.landmark_head, AttentionHead):
            channels = self.backbone.channels(self.landmark_head.stage)
            self.branch = AttentionBranch(channels, self.landmark_head.outputs)
        self.land = Land(blueprint.crs) if blueprint.snap_to_land else None

    def see(self, views: Tensor, present: Tensor) -> Seen:
        """Turn views into what the heads see.

        Views that are not there are left out of the backbone, so that they touch no batch
        statistics.

        Args:
            views: `(B, V, 3, H, W)` uint8.
            present: `(B, V)` which views are there.
        """
        pictures = normalise(views[present], self.mean, self.std)  # (present views, 3, H, W)
        if self.branch is None or not isinstance(self.landmark_head, AttentionHead):
            return Seen(self._joined(self.backbone(pictures), present))
        head = self.landmark_head
        map_in = self.backbone.before(pictures, head.stage)
        logits, found = self.branch(map_in)  # (present views, C), (present views, 1, h, w)
        features = self.backbone.after(attend(map_in, found, head.apply_as), head.stage)
        maps = found.new_zeros(*present.shape, *found.shape[2:])
        maps[present] = found[:, 0]
        spread = logits.new_zeros(*present.shape, logits.shape[1])  # (B, V, C)
        spread[present] = logits
        attention = spread.sum(dim=1) / present.sum(dim=1, keepdim=True).clamp(min=1)
        return Seen(self._joined(features, present), attention, maps)

    def _joined(self, single: Tensor, present: Tensor) -> Tensor:
        """Join `(present views, C)` features of single views to `(B, D)`."""
        features = single.new_zeros(*present.shape, single.shape[1])  # (B, V, C)
        features[present] = single
        joined: Tensor = self.join(features, present)
        return joined if self.neck is None else self.neck(joined)

    def embed(self, views: Tensor, present: Tensor) -> Tensor:
        """Turn `(B, V, 3, H, W)` uint8 views into the `(B, D)` features that the heads see."""
        return self.see(views, present).embedding

    def answer(self, seen: Seen) -> Output:
        """Give the raw output of the heads."""
        nothing = seen.embedding.new_zeros(len(seen.embedding), 0)
        place = nothing if self.place_head is None else self.place_head(seen.embedding)
        landmark = nothing if self.landmark_head is None else self.landmark_head(seen.embedding)
        if isinstance(self.landmark_head, AttentionHead) and seen.attention is not None:
            landmark = self.landmark_head.join(landmark, seen.attention)
        return Output(place, landmark)

    def forward(self, views: Tensor, present: Tensor) -> Output:
        """Turn `(B, V, 3, H, W)` uint8 views into the raw output of the heads."""
        return self.answer(self.see(views, present))

    def place(self, output: Tensor) -> Place:
        """Answer for each record of the place head's raw output, on land where the blueprint says so.

        Raises:
            ModelError: the network has no head for places.
        """
        if self.place_head is None:
            raise ModelError("this model knows landmarks only; ask one with a head for places where a photo was taken")
        place = self.place_head.place(output)
        return place if self.land is None else place._replace(lat_lon=self.land.nearest(place.lat_lon))

    def save(self, path: Path) -> None:
        """Write the checkpoint, from which alone the model can be loaded."""
        content = {"format": FORMAT, "blueprint": asdict(self.blueprint), "state": self.state_dict()}
        torch.save(content, path)


def _neck(width: int, embedding: int) -> nn.Module:
    """Bring the features to fewer, as ArcFace's authors do (Deng et al. 2019, section 3.2: linear, batch norm)."""
    return nn.Sequential(nn.Linear(width, embedding), nn.BatchNorm1d(embedding))


def _place_head(blueprint: Blueprint, width: int) -> PlaceHead | None:
    if blueprint.head is None:
        return None
    return build_place_head(
        blueprint.head, width, cells=blueprint.classes, crs=blueprint.crs, options=blueprint.head_options
    )


def _landmark_head(blueprint: Blueprint, width: int) -> LandmarkHead | None:
    if blueprint.landmark_head is None:
        return None
    return build_landmark_head(
        blueprint.landmark_head, width, landmarks=len(blueprint.landmarks), options=blueprint.landmark_options
    )


def load_locator(path: Path) -> Locator:
    """Load a locator from its checkpoint, without running any code that it may hold.

    The network is built without any memory for its weights, and takes those of the file where they fit.

    Raises:
        ModelError: the file is missing or no checkpoint of this format.
    """
    content = _read_checkpoint(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{path} is no checkpoint of format {FORMAT}; train the model again")
    try:
        blueprint = checked(content.get("blueprint"), Blueprint, "its blueprint")
        with torch.device("meta"):
            locator = Locator(blueprint)
        _check_state(content.get("state"), locator.state_dict())
        locator.load_state_dict(content["state"], assign=True)
    except ModelError as error:
        raise ModelError(f"{path} is no model of Waymark: {error}; train the model again") from error
    except Exception as error:  # a head raises anything on options that are none
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelError(f"{path} does not hold what its blueprint says ({reason}); train the model again") from error
    return locator.eval()


def _read_checkpoint(path: Path) -> Any:
    try:
        with zipfile.ZipFile(regular_file(path)) as archive:
            parts = archive.infolist()
        packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        if packed or sum(part.file_size for part in parts) > path.stat().st_size:
            raise ModelError(f"{path} is no checkpoint: its parts are larger than it; train the model again")
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; train the model first") from None
    except ModelError:
        raise
    except Exception as error:  # pickle raises anything on a file that is none
        reason = type(error).__name__
        raise ModelError(f"{path} is no checkpoint that loads without running code ({reason})") from error


def _check_state(state: Any, wanted: dict[str, Tensor]) -> None:
    """Refuse tensors of other names, shapes or types, larger than their bytes, or that are no numbers."""
    if not isinstance(state, dict) or set(state) != set(wanted):
        raise ModelError("it has other tensors than its blueprint")
    for name, tensor in state.items():
        like = wanted[name]
        same = isinstance(tensor, Tensor) and tensor.dtype == like.dtype and tensor.layout == like.layout
        if not same or (tensor.shape != like.shape and name != OUTLINE) or tensor.is_meta:
            raise ModelError(f"{name} is not the tensor of its blueprint")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ModelError(f"{name} is larger than its bytes")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ModelError(f"{name} holds NaN or infinite numbers")

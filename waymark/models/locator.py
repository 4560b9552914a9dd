"""The network: views to features, features to a place and to a landmark. Its checkpoint is the whole model."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
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

FORMAT = 3


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
    """

    backbone: str
    views: Views
    slots: tuple[float | None, ...]
    head: str | None
    classes: int
    crs: str
    shard_px: int
    size_px: int
    target: str
    head_options: dict[str, Any] = field(default_factory=dict)
    snap_to_land: bool = False
    fit: Fit = "crop"
    landmark_head: str | None = None
    landmark_options: dict[str, Any] = field(default_factory=dict)
    landmarks: tuple[str, ...] = ()
    landmark_names: tuple[str, ...] = ()
    pooling: Pooling = "mean"
    embedding: int | None = None


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

    Raises:
        ModelError: the file is missing or no checkpoint of this format.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; train the model first") from None
    except Exception as error:  # pickle raises anything on a file that is none
        reason = type(error).__name__
        raise ModelError(f"{path} is no checkpoint that loads without running code ({reason})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{path} is no checkpoint of format {FORMAT}; train the model again")
    try:
        plain = content["blueprint"]
        fields = {**plain, **{name: tuple(plain[name]) for name in ("slots", "landmarks", "landmark_names")}}
        locator = Locator(Blueprint(**fields))
        locator.load_state_dict(content["state"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{path} does not hold what its blueprint says; train the model again") from error
    return locator.eval()

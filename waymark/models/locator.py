"""The network: views to features, features to a place. Its checkpoint is the whole model."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from waymark.errors import ModelError
from waymark.images.transforms import normalise
from waymark.models.backbones import Backbone
from waymark.models.heads import Head, Place, build_head
from waymark.models.joining import Join, Views
from waymark.models.land import Land

FORMAT = 2


@dataclass(frozen=True)
class Blueprint:
    """What a locator is built from, in plain values.

    Args:
        backbone: name of the torchvision model.
        views: how the features of the views are joined.
        slots: heading in degrees of each slot, None for a position.
        head: name of the head.
        head_options: of the head.
        classes: number of cells, for heads that have any.
        crs: in which the head answers.
        shard_px: side of the squares that pictures are brought to first, as in the shards.
        size_px: side of the pictures that the network sees, at most `shard_px`.
        target: table that the model learns from.
        snap_to_land: whether answers off the land are moved to its nearest point.
    """

    backbone: str
    views: Views
    slots: tuple[float | None, ...]
    head: str
    classes: int
    crs: str
    shard_px: int
    size_px: int
    target: str
    head_options: dict[str, Any] = field(default_factory=dict)
    snap_to_land: bool = False


class Locator(nn.Module):
    """All views of a record go through one backbone; their features are joined for the head.

    Args:
        blueprint: what to build.
        weights: of the backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, blueprint: Blueprint, weights: str = "none") -> None:
        super().__init__()
        self.blueprint = blueprint
        self.backbone = Backbone(blueprint.backbone, weights)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))
        self.join = Join(blueprint.views, self.backbone.width, len(blueprint.slots))
        self.head: Head = build_head(
            blueprint.head,
            self.join.width,
            classes=blueprint.classes,
            crs=blueprint.crs,
            options=blueprint.head_options,
        )
        self.land = Land(blueprint.crs) if blueprint.snap_to_land else None

    def embed(self, views: Tensor, present: Tensor) -> Tensor:
        """Turn views into the features that the head sees.

        Views that are not there are left out of the backbone, so that they touch no batch
        statistics.

        Args:
            views: `(B, V, 3, H, W)` uint8.
            present: `(B, V)` which views are there.

        Returns:
            `(B, D)` features, as many as the join has.
        """
        single: Tensor = self.backbone(normalise(views[present], self.mean, self.std))  # (present views, C)
        features = single.new_zeros(*present.shape, single.shape[1])  # (B, V, C)
        features[present] = single
        joined: Tensor = self.join(features, present)
        return joined

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """Turn `(B, V, 3, H, W)` uint8 views into the head's raw output."""
        output: Tensor = self.head(self.embed(views, present))
        return output

    def place(self, output: Tensor) -> Place:
        """Answer for each record of the head's raw output, on land where the blueprint says so."""
        place = self.head.place(output)
        return place if self.land is None else place._replace(lat_lon=self.land.nearest(place.lat_lon))

    def save(self, path: Path) -> None:
        """Write the checkpoint, from which alone the model can be loaded."""
        content = {"format": FORMAT, "blueprint": asdict(self.blueprint), "state": self.state_dict()}
        torch.save(content, path)


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
        fields = {**content["blueprint"], "slots": tuple(content["blueprint"]["slots"])}
        locator = Locator(Blueprint(**fields))
        locator.load_state_dict(content["state"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{path} does not hold what its blueprint says; train the model again") from error
    return locator.eval()

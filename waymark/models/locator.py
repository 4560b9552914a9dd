"""The network: views to features, features to a place. Its checkpoint is the whole model."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from waymark.errors import ModelError
from waymark.images.transforms import normalise
from waymark.models.backbones import Backbone
from waymark.models.heads import CellsHead, CoordinatesHead, Head

FORMAT = 1
Join = Literal["concat", "mean"]


@dataclass(frozen=True)
class Blueprint:
    """What a locator is built from, in plain values.

    Args:
        backbone: name of the torchvision model.
        views: how the features of the views are joined.
        slots: heading in degrees of each slot, None for a position.
        head: name of the head.
        classes: number of cells, for the head `cells`.
        answer: of the head `cells`.
        crs: in which the head answers.
        size_px: side of the pictures.
        target: table that the model learns from.
    """

    backbone: str
    views: Join
    slots: tuple[float | None, ...]
    head: Literal["cells", "coordinates"]
    classes: int
    answer: Literal["mean", "best"]
    crs: str
    size_px: int
    target: str


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
        joined = self.backbone.width * (len(blueprint.slots) if blueprint.views == "concat" else 1)
        self.head: Head = _build_head(blueprint, joined)

    def embed(self, views: Tensor, present: Tensor) -> Tensor:
        """Turn views into the features that the head sees.

        Views that are not there are left out of the backbone, so that they touch no batch
        statistics; joined by `concat` they are zeros, by `mean` they do not count.

        Args:
            views: `(B, V, 3, H, W)` uint8.
            present: `(B, V)` which views are there.

        Returns:
            `(B, V * width)` for `concat`, `(B, width)` for `mean`.
        """
        single: Tensor = self.backbone(normalise(views[present], self.mean, self.std))  # (present views, C)
        features = single.new_zeros(*present.shape, single.shape[1])  # (B, V, C)
        features[present] = single
        if self.blueprint.views == "concat":
            return features.flatten(1)  # (B, V*C)
        return features.sum(dim=1) / present.sum(dim=1, keepdim=True).clamp(min=1)  # (B, C)

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """Turn `(B, V, 3, H, W)` uint8 views into the head's raw output."""
        output: Tensor = self.head(self.embed(views, present))
        return output

    def save(self, path: Path) -> None:
        """Write the checkpoint, from which alone the model can be loaded."""
        content = {"format": FORMAT, "blueprint": asdict(self.blueprint), "state": self.state_dict()}
        torch.save(content, path)


def _build_head(blueprint: Blueprint, width: int) -> Head:
    if blueprint.head == "cells":
        return CellsHead(width, blueprint.classes, answer=blueprint.answer)
    return CoordinatesHead(width)


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

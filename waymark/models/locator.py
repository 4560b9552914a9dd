"""The network: views to features, features to a place and to a landmark. Its checkpoint is the whole model."""

import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from waymark.errors import ModelError
from waymark.images.transforms import normalise
from waymark.models.attention import AttentionBranch, BranchOutput, attend
from waymark.models.backbones import Backbone
from waymark.models.config import ModelConfig
from waymark.models.heads import AttentionHead, LandmarkHead, Place, PlaceHead
from waymark.models.joining import Join
from waymark.models.land import Land
from waymark.system.untrusted import checked, regular_file

FORMAT = 5
OLDER = (3, 4)  # with networks of torchvision
FEATURES_NDIM = 3  # of a batch of features in place of pictures
OUTLINE = "land.outline"  # the one tensor whose length is its own


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
        config: what to build.
        weights: of the backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, weights: str = "none") -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, weights, config.pooling, config.size_px)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))
        self.join = Join(config.views, self.backbone.width, len(config.slots))
        self.neck = None if config.embedding is None else _neck(self.join.width, config.embedding)
        self.width = self.join.width if config.embedding is None else config.embedding
        place, landmark, _ = config.head.parts()
        self.place_head: PlaceHead | None = None
        if place is not None:
            self.place_head = place.build(self.width, cells=config.classes, crs=config.crs)
        self.landmark_head: LandmarkHead | None = None
        if landmark is not None:
            self.landmark_head = landmark.build(self.width, landmarks=len(config.landmarks))
        self.branch: AttentionBranch | None = None
        if isinstance(self.landmark_head, AttentionHead):
            channels = self.backbone.channels(self.landmark_head.options.stage)
            self.branch = AttentionBranch(channels, self.landmark_head.outputs)
        self.land = Land(config.crs) if config.snap_to_land else None

    def see(self, views: Tensor, present: Tensor) -> Seen:
        """Turn views into what the heads see.

        Views that are not there are left out of the backbone, so that they touch no batch
        statistics.

        Args:
            views: `(B, V, 3, H, W)` uint8, or the `(B, V, C)` features that the backbone has made of them before.
            present: `(B, V)` which views are there.
        """
        if views.ndim == FEATURES_NDIM:
            return Seen(self._joined(views[present], present))
        pictures = normalise(views[present], self.mean, self.std)  # (present views, 3, H, W)
        if self.branch is None or not isinstance(self.landmark_head, AttentionHead):
            features = self.backbone(pictures)
            if self.config.embeddings is not None:
                features = features.half().float()  # as they are kept: the heads have learnt from these
            return Seen(self._joined(features, present))
        branch, options = self.branch, self.landmark_head.options
        looked: list[BranchOutput] = []

        def attended(maps: Tensor) -> Tensor:
            looked.append(branch(maps))
            return attend(maps, looked[0].map, options.apply)

        features = self.backbone.changed(pictures, options.stage, attended)
        logits, found = looked[0]  # (present views, C), (present views, 1, h, w)
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
        """Compute the raw output of the heads."""
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
        """Answer for each record of the place head's raw output, on land where the configuration asks for it.

        Raises:
            ModelError: the network has no head for places.
        """
        if self.place_head is None:
            raise ModelError("this model knows landmarks only; to place a photo, ask one with a head for places")
        place = self.place_head.place(output)
        return place if self.land is None else place._replace(lat_lon=self.land.nearest(place.lat_lon))

    def save(self, path: Path) -> None:
        """Write the checkpoint, from which alone the model can be loaded."""
        content = {"format": FORMAT, "config": asdict(self.config), "state": self.state_dict()}
        torch.save(content, path)


def _neck(width: int, embedding: int) -> nn.Module:
    """Bring the features to fewer, as ArcFace's authors do (Deng et al. 2019, section 3.2: linear, batch norm)."""
    return nn.Sequential(nn.Linear(width, embedding), nn.BatchNorm1d(embedding))


def load_locator(path: Path) -> Locator:
    """Load a locator from its checkpoint, without running any code that it may hold.

    The network is built without any memory for its weights, and takes those of the file where they fit.

    Raises:
        ModelError: the file is missing or no checkpoint of this format.
    """
    content = _read_checkpoint(path)
    if isinstance(content, dict) and content.get("format") in OLDER:
        raise ModelError(f"{path} holds a network of torchvision, and Waymark now builds timm's; train the model again")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{path} is no checkpoint of format {FORMAT}; train the model again")
    try:
        with torch.device("meta"):
            locator = Locator(checked(content.get("config"), ModelConfig, "its configuration"))
        _check_state(content.get("state"), locator.state_dict())
        locator.load_state_dict(content["state"], assign=True)
    except ModelError as error:
        raise ModelError(f"{path} is no model of Waymark: {error}; train the model again") from error
    except Exception as error:  # a backbone raises anything on options that are none
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelError(
            f"{path} does not hold what its configuration asks for ({reason}); train the model again"
        ) from error
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
    """Refuse tensors of other names, shapes or types, larger than their bytes, or NaN."""
    if not isinstance(state, dict) or set(state) != set(wanted):
        raise ModelError("its tensors are not those of its configuration")
    for name, tensor in state.items():
        like = wanted[name]
        same = isinstance(tensor, Tensor) and tensor.dtype == like.dtype and tensor.layout == like.layout
        if not same or (tensor.shape != like.shape and name != OUTLINE) or tensor.is_meta:
            raise ModelError(f"{name} is not the tensor of its configuration")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ModelError(f"{name} is larger than its bytes")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ModelError(f"{name} holds NaN or infinite numbers")

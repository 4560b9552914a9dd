"""Transforms of pixels between a shard and a backbone."""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from waymark.images.shards import check_size
from waymark.options.kinds import Fraction, Half, Noise, PositiveFraction, Share, SizePx
from waymark.options.named import STRICT

Policy = Literal["imagenet", "trivial", "rand"]
Interpolation = Literal["lanczos", "bicubic", "bilinear"]

BILINEAR = v2.InterpolationMode.BILINEAR
POLICIES: dict[Policy, Callable[..., Callable[[Tensor], Tensor]]] = {
    "imagenet": v2.AutoAugment,
    "trivial": v2.TrivialAugmentWide,
    "rand": v2.RandAugment,
}


def shrink(pixels: NDArray[np.uint8], size_px: int, interpolation: Interpolation = "lanczos") -> NDArray[np.uint8]:
    """Scale a square picture of a shard to the size that a model sees.

    Training and inference both use it. Pillow's filters are in fixed point, and those of `lanczos` made the shards.

    Args:
        pixels: `(H, H, 3)`.
        size_px: new side; the present side returns the same pixels.
        interpolation: that of the pictures which pretrained weights were learnt from, else that of the shards.

    Raises:
        ModelError: the new side is larger than the present one.
    """
    check_size(len(pixels), size_px)
    if len(pixels) == size_px:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size_px, size_px), Image.Resampling[interpolation.upper()]))


@dataclass(frozen=True, config=STRICT)
class Augmentation:
    """Random changes to training pictures, the same for all views of a record except for the noise.

    They are applied in the order of the arguments: first geometry, then colours, and noise last, so that nothing
    smooths it. Views stay in their slots, even if rotated or mirrored.

    Val and test are never augmented: their metrics measure the model on real pictures and are the same in every run.
    (The Romanian team rotated theirs, so their 87.97 % is the accuracy on rotated pictures.)

    Args:
        flip: whether half the records are mirrored. Off by default: a mirrored view to the north has east on its left,
            and the sea on the wrong side. For single photos of unknown heading it is less harmful, but it still
            mirrors writing, and the side of the road on which people drive.
        rotation_deg: largest angle of rotation, in either direction. A rig is level, so a few degrees are enough.
        translate: largest translation along each axis as a share of the side, up to 0.5. The edges are filled with the
            mirrored picture, for rotations, too: black corners would occur in training only.
        crop: smallest share of the area that a random crop keeps; 1 is off.
        crop_px: side to which crops are scaled, None for that of the pictures. Objects are larger in a crop than in the
            whole picture; scaled to a shorter side they have the same size as in val and test, at lower cost
            (Touvron et al. 2019, Fixing the train-test resolution discrepancy).
        auto: a published policy with its own published strengths: `imagenet` (AutoAugment),
            `trivial` (TrivialAugment, which rotates by up to 135 degrees) or `rand` (RandAugment). None of them
            mirrors, but all shear, and leave black edges.
        light: largest relative change of brightness and of contrast; 0 is off.
        saturation: largest relative change of the saturation; 0 is off.
        hue: largest rotation of the hue, 0.5 is half the colour wheel. The hues of soil and stone distinguish regions,
            so use small values. It takes longer than all others.
        grey: probability of converting a record to grey.
        noise: standard deviation of the noise, of pixels from 0 to 255; each pixel has its own.
        drop_view: probability of hiding a view, so that the model learns to handle fewer; one view always stays.
    """

    flip: bool = False
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    translate: Half = 0.0
    crop: PositiveFraction = 1.0
    crop_px: SizePx | None = None
    auto: Policy | None = None
    light: Share = 0.0
    saturation: Share = 0.0
    hue: Half = 0.0
    grey: Fraction = 0.0
    noise: Noise = 0.0
    drop_view: Share = 0.0

    def pixels(self, views: Tensor) -> Tensor:
        """Augment `(V, 3, H, H)` uint8 pictures to `(V, 3, S, S)`, where S is the side of crops if set."""
        return self._colours(self._geometry(views))

    def _geometry(self, views: Tensor) -> Tensor:
        if self.flip:
            views = v2.RandomHorizontalFlip()(views)
        if self.rotation_deg > 0 or self.translate > 0:
            views = self._move(views)
        if self.crop < 1 or self.crop_px is not None:
            side_px = self.crop_px or views.shape[-1]
            views = v2.RandomResizedCrop([side_px] * 2, scale=(self.crop, 1.0), ratio=(0.9, 1.1), antialias=True)(views)
        return views

    def _move(self, views: Tensor) -> Tensor:
        """Rotate and translate within a mirrored frame, so that the edges are filled."""
        size_px = views.shape[-1]
        angle, right, down = (torch.rand(3) * 2 - 1).tolist()
        angle, right, down = angle * self.rotation_deg, right * self.translate, down * self.translate
        frame = math.ceil(size_px * _reach(angle, max(abs(right), abs(down)))) + 1
        framed = F.pad(views, [min(frame, size_px - 1)] * 4, padding_mode="reflect")
        shift = [round(right * size_px), round(down * size_px)]
        moved = F.affine(framed, angle, shift, scale=1.0, shear=[0.0, 0.0], interpolation=BILINEAR)
        centre: Tensor = F.center_crop(moved, [size_px, size_px])
        return centre

    def _colours(self, views: Tensor) -> Tensor:
        if self.auto is not None:
            views = POLICIES[self.auto](interpolation=BILINEAR)(views)
        if self.light > 0 or self.saturation > 0 or self.hue > 0:
            views = v2.ColorJitter(self.light, self.light, self.saturation, self.hue)(views)
        if self.grey > 0:
            views = v2.RandomGrayscale(self.grey)(views)
        if self.noise > 0:
            views = (views + self.noise * torch.randn(views.shape)).round().clamp(0, 255).to(torch.uint8)
        return views

    def hide(self, present: Tensor) -> Tensor:
        """Hide some of the `(V,)` present views, never all."""
        if self.drop_view == 0:
            return present
        chance = torch.rand(present.shape)
        kept = present & (chance >= self.drop_view)
        best = chance.where(present, torch.tensor(-1.0)).argmax()
        kept[best] = present[best]
        return kept


def _reach(angle_deg: float, translate: float) -> float:
    """Compute the margin that moving and then rotating a square needs, as a share of its side."""
    angle = math.radians(angle_deg)
    return (0.5 + translate) * (abs(math.cos(angle)) + abs(math.sin(angle))) - 0.5


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise `(N, 3, H, W)` uint8 pixels to zero mean and unit deviation in each channel.

    Args:
        pixels: `(N, 3, H, W)` from 0 to 255.
        mean: `(3,)` of the training pixels, from 0 to 255.
        std: `(3,)` of the training pixels; a constant channel becomes zero.
    """
    scale = torch.where(std > 0, 1 / std.clamp(min=1e-6), torch.zeros_like(std))
    return (pixels.to(mean.dtype) - mean[:, None, None]) * scale[:, None, None]

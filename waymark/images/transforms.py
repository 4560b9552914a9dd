"""What happens to pixels between a shard and a backbone."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training pictures, the same for all views of a record.

    Val and test are never touched, not even turned: a figure must say how the model does on
    the pictures that people bring, and must not change from one run to the next. (The Romanian
    team rotated theirs, so their 87.97 % is the accuracy on rotated pictures.)

    Args:
        crop: smallest share of the area that a random crop keeps; 1 is off.
        light: largest relative change of brightness and of contrast; 0 is off.
        flip: whether half the pictures are mirrored. Off by default: a mirrored view to the
            north has east on its left, and the sea on the wrong side.
        drop_view: probability with which a view is hidden, so that the model copes with fewer;
            one view always stays.
    """

    crop: float = 1.0
    light: float = 0.0
    flip: bool = False
    drop_view: float = 0.0

    def pixels(self, views: Tensor) -> Tensor:
        """Change `(V, 3, H, W)` uint8 pictures."""
        if self.crop < 1:
            size_px = list(views.shape[-2:])
            views = v2.RandomResizedCrop(size_px, scale=(self.crop, 1.0), ratio=(0.9, 1.1), antialias=True)(views)
        if self.light > 0:
            views = v2.ColorJitter(brightness=self.light, contrast=self.light)(views)
        if self.flip:
            views = v2.RandomHorizontalFlip()(views)
        return views

    def hide(self, present: Tensor) -> Tensor:
        """Hide some of the `(V,)` views that are there, never all."""
        if self.drop_view == 0:
            return present
        chance = torch.rand(present.shape)
        kept = present & (chance >= self.drop_view)
        best = chance.where(present, torch.tensor(-1.0)).argmax()
        kept[best] = present[best]
        return kept


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Bring `(N, 3, H, W)` uint8 pixels to zero mean and unit deviation in each channel.

    Args:
        pixels: `(N, 3, H, W)` from 0 to 255.
        mean: `(3,)` of the training pixels, from 0 to 255.
        std: `(3,)` of the training pixels; a channel without any deviation is left at zero.
    """
    scale = torch.where(std > 0, 1 / std.clamp(min=1e-6), torch.zeros_like(std))
    return (pixels.to(mean.dtype) - mean[:, None, None]) * scale[:, None, None]

"""Looking inside a network: its first filters, what its stages see in a photo, what it attends to for an answer."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from waymark.errors import ModelError
from waymark.models.heads import CellHead
from waymark.models.locator import Locator, Output
from waymark.report.heat import Pixels, coloured, draw_attention

FILTER_PX = 48  # least side of a filter in the picture
TILE_PX = 128  # least side of a photo or map in the picture
GAP_PX = 4
LEAST_SIDE = 2  # a map of a single pixel says nothing of where
DROP = ".attn_drop"  # through which timm's transformers send the weights of their attention
CAM_SIDE = 4  # least side of the map that Grad-CAM is taken from


def first_layer_filters(locator: Locator) -> Pixels:
    """Draw the filters of the first convolution as a square of small pictures.

    Each filter is scaled by itself, from its lowest weight of all three colours (black) to its
    highest (white); one without any contrast is grey. Clear edges and spots of colour have been
    learnt, mere noise has not.
    """
    convolution = next(layer for layer in locator.backbone.modules() if isinstance(layer, nn.Conv2d))
    weights = convolution.weight.detach().cpu().numpy().transpose(0, 2, 3, 1)  # (filters, h, w, 3)
    side_px = math.ceil(FILTER_PX / weights.shape[1]) * weights.shape[1]  # all weights as large
    tiles = [_enlarged((_scaled(kernel) * 255).round().astype(np.uint8), side_px) for kernel in weights]
    columns = math.ceil(math.sqrt(len(tiles)))
    return _grid([tiles[start : start + columns] for start in range(0, len(tiles), columns)])


def feature_maps(
    locator: Locator, views: Tensor, present: Tensor, *, layers: int = 4, maps: int = 8
) -> list[tuple[str, Pixels]]:
    """Draw what the stages of the backbone see in a record.

    A stage is what the backbone does at one resolution, and is drawn as it ends. Each view has
    a row: the photo as the network sees it, then the channels that vary most over the views,
    the liveliest first. A channel has one scale in all rows: its lowest value is dark blue, its
    highest yellow. Each square of a map is one of its pixels.

    Args:
        locator: the network.
        views: `(V, 3, H, W)` uint8.
        present: `(V,)` which views are there.
        layers: most stages, spread evenly from the first to the last.
        maps: most channels of each.

    Returns:
        For each stage its name, such as `layer2: 8 of 512 channels, 8 x 8`, and the picture.

    Raises:
        ModelError: no view is there, or the network has no maps.
    """
    _check(locator, present)
    with torch.no_grad(), _watched(locator, locator.backbone.stages()) as seen:
        locator.embed(views[None].to(locator.mean.device), present[None].to(locator.mean.device))
        stages = list(_stages(seen).items())
    chosen = np.unique(np.linspace(0, len(stages) - 1, min(layers, len(stages))).round().astype(int))
    photos = _photos(views[present])
    return [_drawn(name, found.cpu().numpy(), photos, maps) for name, found in (stages[place] for place in chosen)]


def _drawn(name: str, found: NDArray[np.float32], photos: Sequence[Pixels], maps: int) -> tuple[str, Pixels]:
    """Draw the liveliest of `(V, C, h, w)` channels next to the photos."""
    lively = np.argsort(-found.std(axis=(0, 2, 3)), kind="stable")[:maps]
    heat = np.stack([_scaled(found[:, channel]) for channel in lively], axis=1)  # (V, maps, h, w)
    tiles = [
        [photo, *(_enlarged(coloured(one), len(photo)) for one in row)] for photo, row in zip(photos, heat, strict=True)
    ]
    return f"{name}: {len(lively)} of {found.shape[1]} channels, {found.shape[2]} x {found.shape[3]}", _grid(tiles)


def class_activation(locator: Locator, views: Tensor, present: Tensor, *, landmark: bool = False) -> tuple[str, Pixels]:
    """Draw where in a record the backbone found what speaks for the most probable cell or landmark.

    Grad-CAM of Selvaraju et al., "Visual Explanations from Deep Networks via Gradient-based
    Localization" (2017), equations 1 and 2, at the last stage whose map has 4 x 4 pixels; all
    views share one scale. It shows what raised this answer's score, not whether the answer is right,
    and it is as coarse as the map. Where nothing speaks for it, all is dark blue.

    Args:
        locator: a network whose head has cells, or one with landmarks.
        views: `(V, 3, H, W)` uint8.
        present: `(V,)` which views are there.
        landmark: whether the landmark is explained that the head says, instead of the cell.

    Returns:
        The name of the stage and of what is explained, and a picture: each photo above the photo under its map.

    Raises:
        ModelError: the network has no such classes or no maps, or no view is there.
    """
    _check(locator, present)
    with torch.enable_grad(), _watched(locator, locator.backbone.stages()) as seen:
        device = locator.mean.device
        output = locator(views[None].to(device), present[None].to(device))
        score, answer = _best_landmark(locator, output) if landmark else _best_cell(locator, output)
        stages = _stages(seen)
        name = ([layer for layer, found in stages.items() if min(found.shape[2:]) >= CAM_SIDE] or list(stages))[-1]
        (slope,) = torch.autograd.grad(score, stages[name])
    weight = slope.mean(dim=(2, 3), keepdim=True)  # (V, C, 1, 1)
    heat = (weight * stages[name].detach()).sum(dim=1).relu()  # (V, h, w)
    return _under_photos(f"{name}: Grad-CAM of {answer}", heat, views[present])


def token_attention(locator: Locator, views: Tensor, present: Tensor) -> tuple[str, Pixels] | None:
    """Draw where in a record the last block of a transformer looks.

    It is the attention that the class token pays to each patch or, in a network without one, that all tokens pay on
    average; the mean of the heads. All views share one scale, from none, dark blue, to the highest, yellow.

    Args:
        locator: the network.
        views: `(V, 3, H, W)` uint8.
        present: `(V,)` which views are there.

    Returns:
        The name of the block and of what is drawn, and a picture as of `class_activation`; None where no token sees all
        patches, as with windows.

    Raises:
        ModelError: no view is there.
    """
    _check(locator, present, maps=False)
    network = locator.backbone.network
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    drops = [(name, layer) for name, layer in network.named_modules() if name.endswith(DROP)]
    if grid is None or not drops:
        return None
    layer = drops[-1][0].removesuffix(DROP)
    with torch.no_grad(), _unfused(network.get_submodule(layer)), _watched(locator, drops[-1:]) as seen:
        locator.embed(views[None].to(locator.mean.device), present[None].to(locator.mean.device))
    attention = next(iter(seen.values())).mean(dim=1)  # (V, tokens that look, tokens that are seen)
    before = getattr(network, "num_prefix_tokens", 0)
    if attention.shape != (int(present.sum()), *2 * [before + math.prod(grid)]):
        return None
    classes = getattr(network, "cls_token", None) is not None
    looks = (attention[:, 0] if classes else attention.mean(dim=1))[:, before:].reshape(-1, *grid)
    whose = "the class token" if classes else "all tokens"
    return _under_photos(f"{layer.removesuffix('.attn')}: attention of {whose}", looks, views[present])


def _under_photos(label: str, heat: Tensor, views: Tensor) -> tuple[str, Pixels]:
    """Draw each view above itself under its `(h, w)` map of what is not negative."""
    scaled = (heat / heat.max().clamp(min=float(np.finfo(np.float32).tiny))).cpu().numpy()
    photos = _photos(views)
    under = [draw_attention(photo, one) for photo, one in zip(photos, scaled, strict=True)]
    return f"{label}, {scaled.shape[1]} x {scaled.shape[2]}", _grid([photos, under])


def _best_cell(locator: Locator, output: Output) -> tuple[Tensor, str]:
    head = locator.place_head
    if not isinstance(head, CellHead):
        raise ModelError(f"the head {locator.config.head.name} has no cells to explain; ask a model with cells")
    score, choice = head.logits(output.place)[0].max(dim=0)
    return score, f"cell {int(head.cell_ids[choice])}"


def _best_landmark(locator: Locator, output: Output) -> tuple[Tensor, str]:
    if locator.landmark_head is None:
        raise ModelError("this model has no landmarks to explain; ask one with a head for landmarks")
    score, choice = locator.landmark_head.scores(output.landmark)[0].max(dim=0)
    return score, f"landmark {locator.config.landmark_names[int(choice)]}"


def _check(locator: Locator, present: Tensor, *, maps: bool = True) -> None:
    if maps and not locator.backbone.has_maps:
        raise ModelError(f"{locator.backbone.name} has tokens in place of maps; look at its attention")
    if not present.any():
        raise ModelError("the record has no view to look at; choose one whose pictures could be decoded")


@contextmanager
def _watched(locator: Locator, layers: Sequence[tuple[str, nn.Module]]) -> Iterator[dict[str, Tensor]]:
    """Note what layers of the backbone return, by name, while the network is evaluated."""
    seen: dict[str, Tensor] = {}

    def watch(name: str, layer: nn.Module) -> RemovableHandle:
        return layer.register_forward_hook(lambda _layer, _inputs, output: seen.update({name: output}))

    first = next(locator.backbone.parameters())
    training, learning = locator.training, first.requires_grad
    locator.eval()
    first.requires_grad_(True)  # else a frozen backbone has no gradients to ask for
    hooks = [watch(name, layer) for name, layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
        first.requires_grad_(learning)
        locator.train(training)


@contextmanager
def _unfused(attention: Any) -> Iterator[None]:
    """Let a layer of attention compute its weights where they can be seen, in place of the answer alone."""
    fused = getattr(attention, "fused_attn", False)
    attention.fused_attn = False
    try:
        yield
    finally:
        attention.fused_attn = fused


def _stages(seen: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take of each resolution the `(V, C, h, w)` map of the last layer that has it."""
    maps = {name: found for name, found in seen.items() if found.ndim == 4 and min(found.shape[2:]) >= LEAST_SIDE}
    last = {tuple(found.shape[2:]): name for name, found in maps.items()}
    return {name: found for name, found in maps.items() if name in last.values()}


def _photos(views: Tensor) -> list[Pixels]:
    return [_enlarged(view, TILE_PX) for view in views.permute(0, 2, 3, 1).cpu().numpy()]


def _scaled(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Bring values to 0-1; without any contrast all are 0.5."""
    low, high = float(values.min()), float(values.max())
    return np.full(values.shape, 0.5) if high <= low else (values.astype(np.float64) - low) / (high - low)


def _enlarged(pixels: Pixels, side_px: int) -> Pixels:
    """Enlarge a small picture without smoothing it; one that is large enough stays."""
    if len(pixels) >= side_px:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.NEAREST))


def _grid(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """Lay tiles of one size in rows on white; the last row may be shorter."""
    step_y, step_x = (side + GAP_PX for side in rows[0][0].shape[:2])
    picture = np.full((len(rows) * step_y + GAP_PX, len(rows[0]) * step_x + GAP_PX, 3), 255, dtype=np.uint8)
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            top, left = row * step_y + GAP_PX, column * step_x + GAP_PX
            picture[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return picture

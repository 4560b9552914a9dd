"""How large a network is, and how much it computes."""

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from waymark.models.locator import Locator


def size_of(locator: Locator, checkpoint: Path) -> dict[str, float]:
    """Measure a network.

    Args:
        locator: the network.
        checkpoint: its file.

    Returns:
        `parameters_millions`, `checkpoint_mb` (1,000,000 bytes), and `gmacs`: thousand million products that are
        added up, in convolutions and layers, for one record with all its views.
    """
    slots, side = len(locator.config.slots), locator.config.size_px
    views = torch.zeros(1, slots, 3, side, side, dtype=torch.uint8, device=locator.mean.device)
    present = torch.ones(1, slots, dtype=torch.bool, device=locator.mean.device)
    learning = locator.training
    with FlopCounterMode(display=False) as counted, torch.inference_mode():
        locator.eval()(views, present)
    locator.train(learning)
    return {
        "parameters_millions": sum(weights.numel() for weights in locator.parameters()) / 1e6,
        "checkpoint_mb": checkpoint.stat().st_size / 1e6,
        "gmacs": counted.get_total_flops() / 2 / 1e9,  # a product and a sum are two operations
    }

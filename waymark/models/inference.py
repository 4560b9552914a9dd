"""Run a locator over records, outside training."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from waymark.images.batches import Batch
from waymark.models.backbones import exact_convolutions
from waymark.models.locator import Locator


class Outputs(NamedTuple):
    """What the network gives for each record, on the CPU."""

    place: Tensor  # (N, K) raw output of the head for places, no columns without one
    landmark: Tensor  # (N, L) raw output of the head for landmarks, likewise
    embedding: Tensor  # (N, D) features that the heads see
    maps: Tensor | None = None  # (N, V, h, w) attention, 0 to 1, where the network has any


def run(locator: Locator, batches: Iterable[Batch], *, landmark: bool = True) -> Outputs:
    """Run a locator over batches, on the GPU when there is one; the order stays.

    Args:
        locator: the network.
        batches: records.
        landmark: whether the raw output for landmarks is kept, of which there may be many.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    exact_convolutions()
    locator = locator.to(device).eval()
    found, maps = [], []
    with torch.inference_mode():
        for batch in tqdm(batches, unit="batch", desc="predict", disable=None):
            seen = locator.see(batch.views.to(device), batch.present.to(device))
            output = locator.answer(seen)
            kept = output.landmark if landmark else output.landmark[:, :0].clone()
            found.append([part.cpu() for part in (output.place, kept, seen.embedding)])
            maps += [] if seen.maps is None else [seen.maps.cpu()]
    locator.to("cpu")
    place, kept, embedding = map(torch.cat, zip(*found, strict=True))
    return Outputs(place, kept, embedding, torch.cat(maps) if maps else None)

"""From the pictures of a source to features of its records, through frozen backbones."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from waymark.images.decode import MAX_PIXELS, Fit
from waymark.images.resizing import read_pictures
from waymark.images.shards import Shards
from waymark.models.backbones import Backbone
from waymark.models.calibration import unit_length
from waymark.models.embedding import Embedder, EmbeddingOptions
from waymark.models.neighbours import Features
from waymark.models.pooling import Levels

HUES, LEVELS = 16, 4  # of a histogram of colours: 16 hues, 4 levels of saturation, 4 of brightness
COLOURS = "colours"


class View(NamedTuple):
    """A picture of a record."""

    record: int  # row
    source: Path | tuple[str, int]  # its file, or its key in the shards


@dataclass(frozen=True)
class Embedded:
    """Features of all records by one way to compute them; N records.

    Attributes:
        name: such as `lite0-levels`.
        options: entries of `embeddings:` that give them, by name; none for colours.
        features: `(N, D)`; 0 for a record without a readable picture.
        seconds: that the pictures of these records took.
        megabytes: of the weights.
    """

    name: str
    options: dict[str, EmbeddingOptions]
    features: Features
    seconds: float
    megabytes: float


class Seen(NamedTuple):
    """What became of the pictures."""

    pictured: NDArray[np.bool_]  # (N,) records with a readable picture
    statuses: Counter[str]  # pictures by status


class TwoPoolings(nn.Module):
    """The mean of the last map, and mean and deviation of the maps at all levels, in one pass.

    Args:
        last: network whose last map is pooled.
    """

    def __init__(self, last: Backbone) -> None:
        super().__init__()
        self.last = last
        self.pooling = Levels().build([last.channels(-1 - number) for number in range(len(last.stages()))])

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn `(N, 3, H, W)` normalised pictures into `(N, width + width of levels)` features."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        maps, levels = self.last.network.forward_intermediates(pictures)
        return torch.cat([self.last.pooled(maps), self.pooling(levels)], dim=1)


class Pictures:
    """The pictures of N records, in order, decoded as often as somebody asks.

    Args:
        views: by record.
        records: how many there are.
        shards: from which they come; None for files.
        fit: how files become square.
    """

    def __init__(self, views: Sequence[View], records: int, shards: Shards | None, fit: Fit) -> None:
        self.views, self.records, self.shards, self.fit = views, records, shards, fit
        self.statuses: Counter[str] = Counter()

    def read(self, size_px: int, label: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Decode pictures to squares of a side, with the row of their record; without those that are unreadable."""
        self.statuses = Counter()
        if self.shards is None:
            files = [view.source for view in self.views if isinstance(view.source, Path)]
            found = (
                (picture.status, picture.pixels)
                for picture in read_pictures(files, size_px, max_pixels=MAX_PIXELS, fit=self.fit)
            )
        else:
            found = (
                ("ok", self.shards[view.source]) if view.source in self.shards else ("unreadable", None)
                for view in self.views
                if isinstance(view.source, tuple)
            )
        progress = tqdm(found, total=len(self.views), unit="picture", desc=label, disable=None)
        for view, (status, pixels) in zip(self.views, progress, strict=True):
            self.statuses[status] += 1
            if pixels is not None:
                yield view.record, pixels

    def embed(self, options: EmbeddingOptions, shard_px: int, name: str) -> tuple[list[Embedded], Seen]:
        """Send all pictures through a backbone once.

        Args:
            options: of the entry of `embeddings:`, with pooling `mean`.
            shard_px: side of the squares that pictures are brought to first.
            name: of the entry.

        Returns:
            Features by mean, of a convolutional network also by levels and by both; and of the colours.
        """
        begin = time.perf_counter()
        embedder = Embedder(options, shard_px)
        network = embedder.backbone
        cuts = [network.width]
        if network.has_maps:
            embedder.backbone = TwoPoolings(network).eval().requires_grad_(False)  # type: ignore[assignment]
        rows: list[int] = []
        colours: list[NDArray[np.float32]] = []

        def noted() -> Iterator[NDArray[np.uint8]]:
            for row, pixels in self.read(shard_px, name):
                rows.append(row)
                colours.append(colour_histogram(pixels))
                yield pixels

        found = list(embedder.embed(noted()))
        megabytes = sum(value.nbytes for value in network.state_dict().values()) / 1e6
        seconds = time.perf_counter() - begin
        seen = Seen(np.isin(np.arange(self.records), rows), self.statuses)
        if not found:
            return [], seen
        stacked = np.stack(found).astype(np.float32)
        parts = [_by_record(part, rows, self.records) for part in np.split(stacked, cuts, axis=1) if part.shape[1]]
        own = {name: replace(options, size_px=embedder.size_px)}
        entries = [Embedded(name, own, parts[0], seconds, megabytes)]
        if network.has_maps:
            of_levels = {f"{name}-levels": replace(own[name], pooling=Levels())}
            entries.append(Embedded(f"{name}-levels", of_levels, parts[1], seconds, megabytes))
            entries.append(joined(entries))
        histogram = _by_record(np.stack(colours), rows, self.records)
        return [*entries, Embedded(COLOURS, {}, histogram, 0.0, 0.0)], seen


def joined(entries: Sequence[Embedded]) -> Embedded:
    """Concatenate features of the same records."""
    options = {name: option for entry in entries for name, option in entry.options.items()}
    features = np.hstack([entry.features for entry in entries])
    costs = {next(iter(entry.options.values())).backbone: (entry.seconds, entry.megabytes) for entry in entries}
    seconds, megabytes = (sum(cost) for cost in zip(*costs.values(), strict=True))
    return Embedded(" + ".join(entry.name for entry in entries), options, features, seconds, megabytes)


def colour_histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Count the colours of `(H, W, 3)` pixels: `(256,)` square roots of the shares of hue, saturation and brightness.

    They are of unit length, and the cosine of two is the Bhattacharyya coefficient.
    """
    hue, saturation, brightness = np.asarray(Image.fromarray(pixels).convert("HSV")).reshape(-1, 3).astype(int).T
    step = 256 // LEVELS
    bins = (hue * HUES // 256 * LEVELS + saturation // step) * LEVELS + brightness // step
    share = np.bincount(bins, minlength=HUES * LEVELS * LEVELS) / len(bins)
    return np.sqrt(share).astype(np.float32)


def _by_record(features: NDArray[np.float32], rows: Sequence[int], records: int) -> Features:
    """Average the unit-length features of the views of each record."""
    total = np.zeros((records, features.shape[1]), np.float32)
    np.add.at(total, np.asarray(rows), unit_length(torch.from_numpy(features)))
    return total / np.maximum(np.bincount(rows, minlength=records), 1).astype(np.float32)[:, None]

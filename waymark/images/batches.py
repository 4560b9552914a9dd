"""Batches of records: pixels from shards, labels from tables."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from waymark.images.embeddings import Embeddings
from waymark.images.shards import Shards, check_size
from waymark.images.transforms import Augmentation, Interpolation, shrink
from waymark.images.views import Heading, place_views
from waymark.system.processes import begin_worker


class Batch(NamedTuple):
    """Records as tensors; missing labels are NaN or -1."""

    views: Tensor  # (B, V, 3, H, W) uint8, or (B, V, C) float32 features that were computed before
    present: Tensor  # (B, V) bool
    lat_lon: Tensor  # (B, 2) float64, degrees
    xy_m: Tensor  # (B, 2) float64, metres in the model's CRS
    label: Tensor  # (B,) int64, class of the record's cell
    landmark: Tensor  # (B,) int64, class of the landmark; -1 if none or unknown, -2 if the pictures show none


@dataclass(frozen=True)
class Examples:
    """The records of one split, row by row.

    Args:
        record_ids: of each record.
        headings: in degrees of each record's views.
        lat_lon: `(N, 2)` degrees, NaN where unknown.
        xy_m: `(N, 2)` metres, NaN where unknown.
        label: `(N,)` class of the cell, -1 if none.
        landmark: `(N,)` class of the landmark, -1 if none, -2 if the pictures show no landmark.
    """

    record_ids: Sequence[str]
    headings: Sequence[Sequence[Heading]]
    lat_lon: NDArray[np.float64]
    xy_m: NDArray[np.float64]
    label: NDArray[np.int64]
    landmark: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.record_ids)


class Draw(NamedTuple):
    """A row to read: its epoch (None outside training), and how often it was drawn before."""

    row: int
    epoch: int | None
    turn: int = 0


class RecordDataset(Dataset[Batch]):
    """Reads examples by row, and augments their pixels in training only.

    Of features that were computed before, training draws the picture's or those of the mirrored one, if they are there.

    Args:
        examples: the records.
        shards: pixels, or features.
        slots: headings of the model's slots.
        augmentation: of the training pictures, in the size that the model sees.
        seed: of the augmentation.
        size_px: side of the pictures that the model sees; None for that of the shards.
        interpolation: from the shards to that side.

    Raises:
        ModelError: the model would see larger pictures than the shards have.
    """

    def __init__(
        self,
        examples: Examples,
        shards: Shards | Embeddings,
        slots: Sequence[Heading],
        augmentation: Augmentation,
        seed: int,
        size_px: int | None = None,
        interpolation: Interpolation = "lanczos",
    ) -> None:
        self.examples, self.shards, self.slots = examples, shards, slots
        self.augmentation, self.seed = augmentation, seed
        self.interpolation = interpolation
        if isinstance(shards, Shards):
            self.size_px = shards.size_px if size_px is None else size_px
            check_size(shards.size_px, self.size_px)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, draw: Draw) -> Batch:
        if isinstance(self.shards, Embeddings):
            views, present = self._features(draw, self.shards)
        else:
            views, present = self._pixels(draw, self.shards)
        known = self.examples
        truths = (torch.tensor(column[draw.row]) for column in (known.lat_lon, known.xy_m, known.label, known.landmark))
        return Batch(views, present, *truths)

    def _pixels(self, draw: Draw, shards: Shards) -> tuple[Tensor, Tensor]:
        views, present = self._views(draw.row, shards)
        if draw.epoch is not None:
            with self._seeded(draw):
                changed = self.augmentation.pixels(views[present])
                views = changed.new_zeros(len(views), *changed.shape[1:])
                views[present] = changed
                present = self.augmentation.hide(present)
        return views, present

    def _views(self, row: int, shards: Shards) -> tuple[Tensor, Tensor]:
        views = np.zeros((len(self.slots), self.size_px, self.size_px, 3), dtype=np.uint8)
        present = np.zeros(len(self.slots), dtype=bool)
        for slot, key in self._keys(row, shards):
            views[slot], present[slot] = shrink(shards[key], self.size_px, self.interpolation), True
        return torch.from_numpy(views).permute(0, 3, 1, 2), torch.from_numpy(present)

    def _features(self, draw: Draw, embeddings: Embeddings) -> tuple[Tensor, Tensor]:
        views = torch.zeros(len(self.slots), embeddings.width)
        present = torch.zeros(len(self.slots), dtype=torch.bool)
        with self._seeded(draw) if draw.epoch is not None else nullcontext():
            flip = draw.epoch is not None and bool(torch.rand(()) < 0.5)
            for slot, key in self._keys(draw.row, embeddings):
                other = embeddings.mirrored(key) if flip else None
                features = embeddings[key] if other is None else other
                views[slot], present[slot] = torch.from_numpy(features.astype(np.float32)), True
            if draw.epoch is not None:
                present = self.augmentation.hide(present)
        return views, present

    def _keys(self, row: int, known: Shards | Embeddings) -> Iterator[tuple[int, tuple[str, int]]]:
        """List the slots that have a picture, and the record and view of each."""
        for view, slot in enumerate(place_views(self.examples.headings[row], self.slots)):
            key = (self.examples.record_ids[row], view)
            if slot is not None and key in known:
                yield slot, key

    @contextmanager
    def _seeded(self, draw: Draw) -> Iterator[None]:
        """Draw the same for any number of workers, and after a restart."""
        with torch.random.fork_rng(devices=[]):
            seed = hash((self.seed, draw.epoch, draw.row, *([draw.turn] if draw.turn else [])))
            torch.default_generator.manual_seed(seed)  # the CPU's alone: seeds of a GPU would queue up without one
            yield


class EvenBatches(Sampler[list[Draw]]):
    """Batches of nearly equal length that together contain every row once, or as many rows drawn at random.

    No row is dropped, and no batch has a single row, which batch norm cannot handle: batches of 2 include one of 3 if
    the number of rows is odd.

    Args:
        rows: number of rows.
        batch_size: rows in a batch; the remainder is distributed, so that most batches are slightly smaller.
        seed: of the order; None keeps the rows in order and marks them as outside training.
        chances: `(rows,)` probability of each row to be drawn, with replacement; None takes every row once.
    """

    def __init__(
        self, rows: int, batch_size: int, seed: int | None, chances: NDArray[np.float64] | None = None
    ) -> None:
        self.rows, self.seed, self.epoch, self.chances = rows, seed, 0, chances
        self.batches = min(-(-rows // batch_size), max(1, rows // min(2, batch_size)))

    @property
    def sampler(self) -> "EvenBatches":
        """Return the object whose epoch Lightning sets: it looks for the sampler of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; called by Lightning, also when training resumes."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Draw]]:
        order, epoch = np.arange(self.rows), None
        if self.seed is not None:
            order, epoch = self._drawn(np.random.default_rng([self.seed, self.epoch])), self.epoch
        times: Counter[int] = Counter()
        for batch in np.array_split(order, self.batches) if self.rows else []:
            yield [Draw(row, epoch, _count(times, row)) for row in batch.tolist()]

    def _drawn(self, generator: np.random.Generator) -> NDArray[np.int64]:
        if self.chances is None:
            return generator.permutation(self.rows)
        return generator.choice(self.rows, size=self.rows, p=self.chances)


def _count(times: "Counter[int]", row: int) -> int:
    """Return how often a row was drawn before, and count this time."""
    times[row] += 1
    return times[row] - 1


def stack(examples: Sequence[Batch]) -> Batch:
    """Stack single examples into a batch."""
    return Batch(*(torch.stack(column) for column in zip(*examples, strict=True)))


@dataclass
class RecordLoaders:
    """Loaders of one model's records.

    Args:
        shards: pixels, or features.
        slots: headings of the model's slots.
        batch_size: most records in a batch.
        augmentation: of the training pictures.
        seed: of order and augmentation.
        workers: processes that read; 0 reads in this one.
        size_px: side of the pictures that the model sees; None for that of the shards.
        interpolation: from the shards to that side.
        chances: probability of each training record to be drawn, see `EvenBatches`.
    """

    shards: Shards | Embeddings
    slots: Sequence[Heading]
    batch_size: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    workers: int = 0
    size_px: int | None = None
    interpolation: Interpolation = "lanczos"
    chances: NDArray[np.float64] | None = None

    def training(self, examples: Examples) -> "DataLoader[Batch]":
        """Load in a new order each epoch, with augmentation."""
        return self._loader(examples, self.seed)

    def evaluation(self, examples: Examples) -> "DataLoader[Batch]":
        """Load in order, without augmentation."""
        return self._loader(examples, None)

    def _loader(self, examples: Examples, seed: int | None) -> "DataLoader[Batch]":
        return DataLoader(
            RecordDataset(
                examples, self.shards, self.slots, self.augmentation, self.seed, self.size_px, self.interpolation
            ),
            batch_sampler=EvenBatches(len(examples), self.batch_size, seed, None if seed is None else self.chances),
            collate_fn=stack,
            num_workers=self.workers,
            worker_init_fn=begin_worker,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

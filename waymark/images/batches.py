"""Records as batches: pixels from shards, truths from tables."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from waymark.images.shards import Shards
from waymark.images.transforms import Augmentation, check_size, shrink
from waymark.images.views import Heading, place_views
from waymark.system.processes import begin_worker


class Batch(NamedTuple):
    """Records as tensors; what a record has no truth for is NaN or -1."""

    views: Tensor  # (B, V, 3, H, W) uint8
    present: Tensor  # (B, V) bool
    lat_lon: Tensor  # (B, 2) float64, degrees
    xy_m: Tensor  # (B, 2) float64, metres in the model's CRS
    label: Tensor  # (B,) int64, cell that the record lies in, as a class
    landmark: Tensor  # (B,) int64, class of the landmark; -1 where it is none or unknown, -2 where there is none to see


@dataclass(frozen=True)
class Examples:
    """The records of one split, row by row.

    Args:
        record_ids: of each record.
        headings: in degrees of each record's views.
        lat_lon: `(N, 2)` degrees, NaN where unknown.
        xy_m: `(N, 2)` metres, NaN where unknown.
        label: `(N,)` class of the cell, -1 where it has none.
        landmark: `(N,)` class of the landmark, -1 where it has none, -2 where the pictures show no landmark.
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
    """A row to be read in an epoch of training, for which time; outside training the epoch is None."""

    row: int
    epoch: int | None
    turn: int = 0


class RecordDataset(Dataset[Batch]):
    """Reads examples by row, and changes their pixels in training only.

    Args:
        examples: to be read.
        shards: pixels.
        slots: headings of the model's slots.
        augmentation: of the training pictures; it sees them as large as the model does.
        seed: of the augmentation.
        size_px: side of the pictures that the model sees; None is the shards'.

    Raises:
        ModelError: the model would see larger pictures than the shards hold.
    """

    def __init__(
        self,
        examples: Examples,
        shards: Shards,
        slots: Sequence[Heading],
        augmentation: Augmentation,
        seed: int,
        size_px: int | None = None,
    ) -> None:
        self.examples, self.shards, self.slots = examples, shards, slots
        self.augmentation, self.seed = augmentation, seed
        self.size_px = shards.size_px if size_px is None else size_px
        check_size(shards.size_px, self.size_px)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, draw: Draw) -> Batch:
        views, present = self._views(draw.row)
        if draw.epoch is not None:
            with torch.random.fork_rng(devices=[]):  # the same however many workers, and after a restart
                seed = hash((self.seed, draw.epoch, draw.row, *([draw.turn] if draw.turn else [])))
                torch.default_generator.manual_seed(seed)  # alone: seeds of a GPU would queue up where there is none
                changed = self.augmentation.pixels(views[present])
                views = changed.new_zeros(len(views), *changed.shape[1:])
                views[present] = changed
                present = self.augmentation.hide(present)
        its = self.examples
        truths = (torch.tensor(column[draw.row]) for column in (its.lat_lon, its.xy_m, its.label, its.landmark))
        return Batch(views, present, *truths)

    def _views(self, row: int) -> tuple[Tensor, Tensor]:
        views = np.zeros((len(self.slots), self.size_px, self.size_px, 3), dtype=np.uint8)
        present = np.zeros(len(self.slots), dtype=bool)
        for view, slot in enumerate(place_views(self.examples.headings[row], self.slots)):
            key = (self.examples.record_ids[row], view)
            if slot is not None and key in self.shards:
                views[slot], present[slot] = shrink(self.shards[key], self.size_px), True
        return torch.from_numpy(views).permute(0, 3, 1, 2), torch.from_numpy(present)


class EvenBatches(Sampler[list[Draw]]):
    """Batches of nearly equal length that together hold every row once, or as many rows drawn by chance.

    No row is dropped, and no batch is left with a single row, which batch norm could not take:
    batches of 2 have one of 3 among them where the rows are odd.

    Args:
        rows: number of rows.
        batch_size: rows in a batch; the last ones are shared out, so that most have a few less.
        seed: of the order; None keeps the rows in order and marks them as outside training.
        chances: `(rows,)` of each row to be drawn, with replacement, where not every row is to come once.
    """

    def __init__(
        self, rows: int, batch_size: int, seed: int | None, chances: NDArray[np.float64] | None = None
    ) -> None:
        self.rows, self.seed, self.epoch, self.chances = rows, seed, 0, chances
        self.batches = min(-(-rows // batch_size), max(1, rows // min(2, batch_size)))

    @property
    def sampler(self) -> "EvenBatches":
        """The object whose epoch Lightning sets: it asks a batch sampler for its sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes; Lightning calls it, also when training goes on after a kill."""
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
    """Say how often a row came before, and count this time."""
    times[row] += 1
    return times[row] - 1


def stack(examples: Sequence[Batch]) -> Batch:
    """Stack single examples into a batch."""
    return Batch(*(torch.stack(column) for column in zip(*examples, strict=True)))


@dataclass
class RecordLoaders:
    """Loaders of one model's records.

    Args:
        shards: pixels.
        slots: headings of the model's slots.
        batch_size: most records in a batch.
        augmentation: of the training pictures.
        seed: of order and augmentation.
        workers: processes that read; 0 reads in this one.
        size_px: side of the pictures that the model sees; None is the shards'.
        chances: of the training records to be drawn, see `EvenBatches`.
    """

    shards: Shards
    slots: Sequence[Heading]
    batch_size: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    workers: int = 0
    size_px: int | None = None
    chances: NDArray[np.float64] | None = None

    def training(self, examples: Examples) -> "DataLoader[Batch]":
        """Load in a new order each epoch, augmented."""
        return self._loader(examples, self.seed)

    def evaluation(self, examples: Examples) -> "DataLoader[Batch]":
        """Load in order, untouched."""
        return self._loader(examples, None)

    def _loader(self, examples: Examples, seed: int | None) -> "DataLoader[Batch]":
        return DataLoader(
            RecordDataset(examples, self.shards, self.slots, self.augmentation, self.seed, self.size_px),
            batch_sampler=EvenBatches(len(examples), self.batch_size, seed, None if seed is None else self.chances),
            collate_fn=stack,
            num_workers=self.workers,
            worker_init_fn=begin_worker,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

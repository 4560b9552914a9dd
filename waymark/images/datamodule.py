"""Records as batches: pixels from shards, truths from tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from waymark.images.shards import Shards
from waymark.images.transforms import Augmentation, check_size, shrink
from waymark.images.views import Heading, place_views


class Batch(NamedTuple):
    """Records as tensors; what a record has no truth for is NaN or -1."""

    views: Tensor  # (B, V, 3, H, W) uint8
    present: Tensor  # (B, V) bool
    lat_lon: Tensor  # (B, 2) float64, degrees
    xy_m: Tensor  # (B, 2) float64, metres in the model's CRS
    label: Tensor  # (B,) int64, class of the head


@dataclass(frozen=True)
class Examples:
    """The records of one split, row by row.

    Args:
        record_ids: of each record.
        headings: in degrees of each record's views.
        lat_lon: `(N, 2)` degrees, NaN where unknown.
        xy_m: `(N, 2)` metres, NaN where unknown.
        label: `(N,)` class of the head, -1 where it has none.
    """

    record_ids: Sequence[str]
    headings: Sequence[Sequence[Heading]]
    lat_lon: NDArray[np.float64]
    xy_m: NDArray[np.float64]
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.record_ids)


class Draw(NamedTuple):
    """A row to be read in an epoch of training; outside training the epoch is None."""

    row: int
    epoch: int | None


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
                torch.manual_seed(hash((self.seed, draw.epoch, draw.row)))
                views[present] = self.augmentation.pixels(views[present])
                present = self.augmentation.hide(present)
        lat_lon, xy_m, label = self.examples.lat_lon, self.examples.xy_m, self.examples.label
        return Batch(
            views,
            present,
            torch.tensor(lat_lon[draw.row]),
            torch.tensor(xy_m[draw.row]),
            torch.tensor(label[draw.row]),
        )

    def _views(self, row: int) -> tuple[Tensor, Tensor]:
        views = np.zeros((len(self.slots), self.size_px, self.size_px, 3), dtype=np.uint8)
        present = np.zeros(len(self.slots), dtype=bool)
        for view, slot in enumerate(place_views(self.examples.headings[row], self.slots)):
            key = (self.examples.record_ids[row], view)
            if slot is not None and key in self.shards:
                views[slot], present[slot] = shrink(self.shards[key], self.size_px), True
        return torch.from_numpy(views).permute(0, 3, 1, 2), torch.from_numpy(present)


class EvenBatches(Sampler[list[Draw]]):
    """Batches of nearly equal length that together hold every row once.

    No row is dropped, and no batch is left with a single row, which batch norm could not take:
    batches of 2 have one of 3 among them where the rows are odd.

    Args:
        rows: number of rows.
        batch_size: rows in a batch; the last ones are shared out, so that most have a few less.
        seed: of the order; None keeps the rows in order and marks them as outside training.
    """

    def __init__(self, rows: int, batch_size: int, seed: int | None) -> None:
        self.rows, self.seed, self.epoch = rows, seed, 0
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
            order, epoch = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows), self.epoch
        for batch in np.array_split(order, self.batches) if self.rows else []:
            yield [Draw(int(row), epoch) for row in batch]


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
    """

    shards: Shards
    slots: Sequence[Heading]
    batch_size: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    workers: int = 0
    size_px: int | None = None

    def training(self, examples: Examples) -> "DataLoader[Batch]":
        """Load in a new order each epoch, augmented."""
        return self._loader(examples, self.seed)

    def evaluation(self, examples: Examples) -> "DataLoader[Batch]":
        """Load in order, untouched."""
        return self._loader(examples, None)

    def _loader(self, examples: Examples, seed: int | None) -> "DataLoader[Batch]":
        return DataLoader(
            RecordDataset(examples, self.shards, self.slots, self.augmentation, self.seed, self.size_px),
            batch_sampler=EvenBatches(len(examples), self.batch_size, seed),
            collate_fn=stack,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


class RecordDataModule(L.LightningDataModule):
    """Training and validation records for Lightning's trainer."""

    def __init__(self, train: Examples, val: Examples, loaders: RecordLoaders) -> None:
        super().__init__()
        self.train, self.val, self.loaders = train, val, loaders

    def train_dataloader(self) -> "DataLoader[Batch]":
        """Load training records, shuffled and augmented."""
        return self.loaders.training(self.train)

    def val_dataloader(self) -> "DataLoader[Batch]":
        """Load validation records, untouched."""
        return self.loaders.evaluation(self.val)

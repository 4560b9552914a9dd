"""Records for Lightning's trainer, apart so that inference does not import Lightning."""

import lightning as L
from torch.utils.data import DataLoader

from waymark.images.batches import Batch, Examples, RecordLoaders


class RecordDataModule(L.LightningDataModule):
    """Training and validation records for Lightning's trainer."""

    def __init__(self, train: Examples, val: Examples, loaders: RecordLoaders) -> None:
        super().__init__()
        self.train, self.val, self.loaders = train, val, loaders

    def train_dataloader(self) -> "DataLoader[Batch]":
        """Load training records, shuffled and augmented."""
        return self.loaders.training(self.train)

    def val_dataloader(self) -> "DataLoader[Batch]":
        """Load validation records, without augmentation."""
        return self.loaders.evaluation(self.val)

"""How a locator is trained: one step for training and validation, each part when it is its time."""

import logging
import math
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric

from waymark.errors import ModelError
from waymark.images.datamodule import Batch
from waymark.metrics import MeanHaversine
from waymark.models.finetuning import FineTuning, Unfreeze
from waymark.models.locator import Locator
from waymark.models.optimization import OptimizerName, ScheduleName, build_optimizer, build_schedule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Optimization:
    """What is optimized when, and how.

    Args:
        optimizer: name.
        schedule: name.
        optimizer_options: of `build_optimizer`; `lr` may lack where `tune` finds it.
        schedule_options: of `build_schedule`.
        unfreeze: steps in which the backbone begins to learn; none trains all from the start.
    """

    optimizer: OptimizerName
    schedule: ScheduleName
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    schedule_options: dict[str, Any] = field(default_factory=dict)
    unfreeze: tuple[Unfreeze, ...] = ()


class LocatorModule(L.LightningModule):
    """Trains a locator.

    Args:
        locator: to be trained.
        optimization: how.
        epochs: length of the training.
        seed: of what is random inside the network, such as dropout.
    """

    def __init__(self, locator: Locator, optimization: Optimization, *, epochs: int, seed: int) -> None:
        super().__init__()
        self.locator, self.optimization, self.epochs, self.seed = locator, optimization, epochs, seed
        self.fine_tuning = FineTuning(locator, optimization.unfreeze)
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.val_km = MeanHaversine()
        self.curves: list[dict[str, float]] = []  # a row for each epoch, also over a restart
        self.rates: dict[str, float] = {}  # learning rate of each group, as the epoch began

    def _shared_step(self, batch: Batch, mean: MeanMetric) -> tuple[Tensor, Tensor]:
        """Give loss and raw output, and count the loss by record, not by batch."""
        output = self.locator(batch.views, batch.present).float()  # half precision is for the layers alone
        loss = self.locator.head.loss(output, batch)
        records = int(self.locator.head.known(batch).sum())
        if records:
            mean.update(loss.detach(), weight=records)
        return loss, output

    def on_train_epoch_start(self) -> None:
        """Let learn what learns in this epoch, and note the learning rates: the head's, then each step's."""
        optimizer = self.trainer.optimizers[0]
        self.fine_tuning.begin(self.current_epoch, optimizer)
        self.rates = {
            f"learning_rate_{place}" if place else "learning_rate": float(group["lr"])
            for place, group in enumerate(optimizer.param_groups)
        }

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed each batch by its number, so that a restart repeats what the kill cut off.

        Once an epoch is not enough: loaders draw from the same source, and do so at other
        moments after a restart.
        """
        torch.manual_seed(hash((self.seed, self.current_epoch, batch_idx)))

    def training_step(self, batch: Batch) -> Tensor:
        """Give the loss; no distance is computed here."""
        return self._shared_step(batch, self.train_loss)[0]

    def validation_step(self, batch: Batch) -> None:
        """Add up the loss, and the great-circle distances of the answers.

        Raises:
            ModelError: the answers are no numbers any more.
        """
        _, output = self._shared_step(batch, self.val_loss)
        if not output.isfinite().all():
            raise ModelError(
                f"training diverged in epoch {self.current_epoch}: the answers are no numbers any more;"
                " choose a smaller learning rate (optimizer.lr)"
            )
        self.val_km.update(self.locator.place(output).lat_lon.to(self.device), batch.lat_lon)

    def on_train_epoch_end(self) -> None:
        """Log the figures of the epoch, those that choose the best one among them.

        Lightning calls this after the validation of the epoch and before it keeps checkpoints.
        """
        figures = {
            "train/loss": _mean(self.train_loss),
            "val/loss": _mean(self.val_loss),
            "val/mean_km": float(self.val_km.compute()),
        }
        self.log_dict(figures, prog_bar=True)
        schedule = self.lr_schedulers()
        if isinstance(schedule, ReduceLROnPlateau):
            schedule.step(figures["val/loss"])
        row = {name.replace("/", "_"): value for name, value in (figures | self.rates).items()}
        self.curves.append({"epoch": self.current_epoch, **row})
        logger.info("epoch %d: " + ", ".join(f"{name} {value:.4g}" for name, value in row.items()), self.current_epoch)
        for metric in (self.train_loss, self.val_loss, self.val_km):
            metric.reset()

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step the schedules that follow no metric.

        Lightning steps those that do after it has kept the checkpoint, which would forget the
        step; so `on_train_epoch_end` has done that before.
        """
        if metric is None:
            scheduler.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the curves with the checkpoint."""
        checkpoint["curves"] = self.curves

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the curves of the epochs before the restart."""
        self.curves = list(checkpoint["curves"])

    def configure_optimizers(self) -> Any:
        """Build optimizer and schedule over all that ever learns; what is frozen gets no gradient."""
        how = self.optimization
        groups = self.fine_tuning.groups(how.optimizer_options["lr"])
        optimizer = build_optimizer(how.optimizer, groups, **how.optimizer_options)
        batches = int(self.trainer.estimated_stepping_batches) if how.schedule == "one_cycle" else 0
        schedule = build_schedule(how.schedule, optimizer, epochs=self.epochs, batches=batches, **how.schedule_options)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def _mean(losses: MeanMetric) -> float:
    """Give the mean by record; NaN where no record has the truth that the head learns."""
    return float(losses.compute()) if losses.update_called else math.nan

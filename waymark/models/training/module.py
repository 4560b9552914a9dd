"""How a locator is trained: one step for training and validation."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric, Metric

from waymark.errors import ModelError
from waymark.images.batches import Batch
from waymark.metrics.stateful import GlobalAveragePrecision, MeanHaversine
from waymark.models.heads import Head
from waymark.models.locator import Locator, Output
from waymark.models.training.finetuning import FineTuning, Unfreeze
from waymark.models.training.optimizers import OptimizerOptions
from waymark.models.training.schedules import ScheduleOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Optimization:
    """What is optimized when, and how.

    Args:
        optimizer: and its learning rate.
        schedule: of the learning rate.
        unfreeze: steps in which the backbone begins to learn; none trains all from the start, and None
            never trains the backbone.
    """

    optimizer: OptimizerOptions
    schedule: ScheduleOptions
    unfreeze: tuple[Unfreeze, ...] | None = ()


class Losses(nn.Module):
    """Mean loss of each head by record, not by batch, and their weighted sum.

    Args:
        weights: what the loss of each head counts, by its name.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = weights
        self.means = nn.ModuleDict({name: MeanMetric() for name in weights})

    def update(self, name: str, loss: Tensor, weight: float) -> None:
        """Add the mean loss of a head over a batch whose records count so much together."""
        if weight:
            self._mean(name).update(loss.detach(), weight=weight)

    def compute(self) -> float:
        """Compute the weighted sum of the means; NaN where no record has a truth that a head learns."""
        known = [name for name in self.weights if self._mean(name).update_called]
        return sum(self.weights[name] * float(self._mean(name).compute()) for name in known) if known else math.nan

    def reset(self) -> None:
        """Start again."""
        for name in self.weights:
            self._mean(name).reset()

    def _mean(self, name: str) -> Metric:
        mean = self.means[name]
        assert isinstance(mean, Metric)
        return mean


class LocatorModule(L.LightningModule):
    """Trains a locator.

    Args:
        locator: to be trained.
        optimization: how.
        epochs: length of the training.
        seed: of what is random inside the network, such as dropout.
        weights: what the losses of the heads `place` and `landmark` count; 1 each where None.
    """

    def __init__(
        self,
        locator: Locator,
        optimization: Optimization,
        *,
        epochs: int,
        seed: int,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.locator, self.optimization, self.epochs, self.seed = locator, optimization, epochs, seed
        heads: dict[str, Head | None] = {"place": locator.place_head, "landmark": locator.landmark_head}
        self.heads = {name: head for name, head in heads.items() if head is not None}
        self.weights = {name: 1.0 if weights is None else weights[name] for name in self.heads}
        self.fine_tuning = FineTuning(locator, optimization.unfreeze)
        self.train_loss, self.val_loss = Losses(self.weights), Losses(self.weights)
        self.val_km, self.val_gap, self.val_top1 = MeanHaversine(), GlobalAveragePrecision(), MeanMetric()
        self.seen = 0  # val records of the epoch, whose number orders what ties
        self.curves: list[dict[str, float]] = []  # a row for each epoch, also over a restart
        self.after_epoch: Callable[[Sequence[dict[str, float]]], None] | None = None  # takes the curves
        self.rates: dict[str, float] = {}  # learning rate of each group, as the epoch began

    def _shared_step(self, batch: Batch, losses: Losses) -> tuple[Tensor, Output]:
        """Compute loss and raw output, and count the loss of each head by record."""
        raw: Output = self.locator(batch.views, batch.present)
        output = Output(*(part.float() for part in raw))  # half precision is for the layers alone
        total = torch.zeros((), device=self.device)
        for name, head in self.heads.items():
            part = getattr(output, name)
            loss = head.loss(part, batch)
            losses.update(name, loss, float(head.weight(batch).sum()))
            total = total + self.weights[name] * loss
        return total, output

    def on_train_start(self) -> None:
        """Log where the training begins, or goes on."""
        logger.info(
            "training from epoch %d of %d", self.current_epoch + 1, self.epochs
        )  # flows/stages/progress.py reads it

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
        """Compute the loss; no distance is computed here."""
        return self._shared_step(batch, self.train_loss)[0]

    def validation_step(self, batch: Batch) -> None:
        """Add up the loss, and the great-circle distances of the answers.

        Raises:
            ModelError: the answers are NaN or infinite.
        """
        _, output = self._shared_step(batch, self.val_loss)
        if not all(part.isfinite().all() for part in output):
            raise ModelError(
                f"training diverged in epoch {self.current_epoch + 1}: the loss is NaN or infinite;"
                " choose a smaller learning rate (optimizer.lr)"
            )
        if self.locator.place_head is not None:
            self.val_km.update(self.locator.place(output.place).lat_lon.to(self.device), batch.lat_lon)
        if self.locator.landmark_head is not None:
            self._count_landmarks(self.locator.landmark_head.scores(output.landmark), batch.landmark)
            self.seen += len(batch.landmark)

    def _count_landmarks(self, scores: Tensor, landmark: Tensor) -> None:
        """Add the answers of a batch: each is given, also for pictures without a landmark."""
        score, answer = scores.max(dim=1)
        known, right = landmark >= 0, answer == landmark
        ids = torch.arange(self.seen, self.seen + len(landmark), device=self.device)
        self.val_gap.update(score, right, ids, int(known.sum()))
        if known.any():
            self.val_top1.update(right[known].float())

    def on_train_epoch_end(self) -> None:
        """Log the figures of the epoch, those that choose the best one among them.

        Lightning calls this after the validation of the epoch and before it keeps checkpoints.
        """
        figures = {
            "train/loss": self.train_loss.compute(),
            "val/loss": self.val_loss.compute(),
            **({} if self.locator.place_head is None else {"val/mean_km": float(self.val_km.compute())}),
            **({} if self.locator.landmark_head is None else self._landmark_figures()),
        }
        self.log_dict(figures, prog_bar=True)
        schedule = self.lr_schedulers()
        if isinstance(schedule, ReduceLROnPlateau):
            schedule.step(figures["val/loss"])
        row = {name.replace("/", "_"): value for name, value in (figures | self.rates).items()}
        self.curves.append({"epoch": self.current_epoch, **row})
        said = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
        logger.info(
            "epoch %d of %d: %s", self.current_epoch + 1, self.epochs, said
        )  # flows/stages/progress.py reads it
        if self.after_epoch is not None:
            self.after_epoch(self.curves)
        for metric in (self.train_loss, self.val_loss, self.val_km, self.val_gap, self.val_top1):
            metric.reset()
        self.seen = 0

    def _landmark_figures(self) -> dict[str, float]:
        top1 = float(self.val_top1.compute()) if self.val_top1.update_called else math.nan
        return {"val/gap": float(self.val_gap.compute()), "val/top1": top1}

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
        optimizer = how.optimizer.build(self.fine_tuning.groups(how.optimizer.rate))
        batches = int(self.trainer.estimated_stepping_batches) if how.schedule.interval == "step" else 0
        schedule = how.schedule.build(optimizer, epochs=self.epochs, batches=batches)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

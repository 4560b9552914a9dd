"""Schedules of the learning rate, each with its options."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from pydantic.dataclasses import dataclass
from torch import optim
from torch.optim import lr_scheduler

from waymark.errors import ModelError
from waymark.options.kinds import Epoch, Epochs, Factor, Few, RateOrNone, Times
from waymark.options.named import STRICT, Named

MONITOR = "val/loss"
LEAST_CYCLE_BATCHES = 3  # up, top, down


class ScheduleOptions(Named, ABC):
    """Options of all schedules; each group of parameters follows the same curve from its own learning rate."""

    kind = "schedule"
    interval: ClassVar[Literal["epoch", "step"]] = "epoch"

    @abstractmethod
    def _scheduler(self, optimizer: optim.Optimizer, epochs: int, batches: int) -> Any: ...

    def build(self, optimizer: optim.Optimizer, *, epochs: int, batches: int = 0) -> dict[str, Any]:
        """Build the schedule as Lightning takes it.

        Args:
            optimizer: whose learning rate is scheduled.
            epochs: length of the training.
            batches: length of the training, for schedules that are stepped by batch.

        Raises:
            ModelError: the rate does not fall, or the training is too short.
        """
        return {"scheduler": self._scheduler(optimizer, epochs, batches), "interval": self.interval, "monitor": MONITOR}


@dataclass(frozen=True, config=STRICT)
class Constant(ScheduleOptions):
    """Schedule `constant`."""

    name: Literal["constant"] = "constant"

    def _scheduler(self, optimizer: optim.Optimizer, epochs: int, batches: int) -> Any:
        return lr_scheduler.ConstantLR(optimizer, factor=1.0)


@dataclass(frozen=True, config=STRICT)
class Step(ScheduleOptions):
    """Schedule `step`: times `factor` every `step_epochs`."""

    name: Literal["step"] = "step"
    step_epochs: Epochs = 10
    factor: Factor = 0.1

    def _scheduler(self, optimizer: optim.Optimizer, epochs: int, batches: int) -> Any:
        return lr_scheduler.StepLR(optimizer, self.step_epochs, self.factor)


@dataclass(frozen=True, config=STRICT)
class Plateau(ScheduleOptions):
    """Schedule `plateau`: times `factor` when the validation loss has not fallen for more than `patience` epochs."""

    name: Literal["plateau"] = "plateau"
    factor: Factor = 0.1
    patience: Epoch = 5

    def _scheduler(self, optimizer: optim.Optimizer, epochs: int, batches: int) -> Any:
        return lr_scheduler.ReduceLROnPlateau(optimizer, factor=self.factor, patience=self.patience)


@dataclass(frozen=True, config=STRICT)
class Cosine(ScheduleOptions):
    """Schedule `cosine`: down to `lr_min` at the last epoch."""

    name: Literal["cosine"] = "cosine"
    lr_min: RateOrNone = 0.0

    def _scheduler(self, optimizer: optim.Optimizer, epochs: int, batches: int) -> Any:
        _check_lowest(optimizer, self.lr_min)
        return lr_scheduler.CosineAnnealingLR(optimizer, epochs, self.lr_min)


@dataclass(frozen=True, config=STRICT)
class WarmRestarts(ScheduleOptions):
    """Schedule `warm_restarts`: cosines down to `lr_min`, again and again (Loshchilov and Hutter 2017).

    Args:
        t_0: epochs to the first restart.
        t_mult: by which each cycle is longer than the last.
        lr_min: rate at the end of each.
    """

    name: Literal["warm_restarts"] = "warm_restarts"
    t_0: Epochs = 10
    t_mult: Few = 1
    lr_min: RateOrNone = 0.0

    def _scheduler(self, optimizer: optim.Optimizer, epochs: int, batches: int) -> Any:
        _check_lowest(optimizer, self.lr_min)
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, self.t_0, self.t_mult, self.lr_min)


@dataclass(frozen=True, config=STRICT)
class OneCycle(ScheduleOptions):
    """Schedule `one_cycle`: up to the optimizer's rate and down again (Smith and Topin 2018); momentum stays.

    Args:
        warmup: share of the batches on the way up.
        div_factor: highest rate over the first.
        final_div_factor: first rate over the last.
    """

    interval: ClassVar[Literal["epoch", "step"]] = "step"

    name: Literal["one_cycle"] = "one_cycle"
    warmup: Factor = 0.3
    div_factor: Times = 25.0
    final_div_factor: Times = 10_000.0

    def _scheduler(self, optimizer: optim.Optimizer, epochs: int, batches: int) -> Any:
        if batches < LEAST_CYCLE_BATCHES:
            raise ModelError(
                f"the schedule one_cycle needs {LEAST_CYCLE_BATCHES} batches, and this training has {batches};"
                " train for more epochs, with a smaller batch_size, or with another schedule"
            )
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=batches,
            pct_start=max(self.warmup, 2 / batches),  # torch divides by zero where the way up is a single batch
            div_factor=self.div_factor,
            final_div_factor=self.final_div_factor,
            cycle_momentum=False,
        )


def _check_lowest(optimizer: optim.Optimizer, lr_min: float) -> None:
    lowest = min(group["lr"] for group in optimizer.param_groups)
    if lr_min >= lowest:
        raise ModelError(
            f"schedule.lr_min {lr_min:g} is not below the learning rate {lowest:g}, from which it should fall;"
            " choose a smaller one, such as 0"
        )

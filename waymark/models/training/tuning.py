"""Before the training: the largest batch that fits, and a learning rate for it."""

import copy
import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from waymark.errors import ModelError
from waymark.images.batches import Batch
from waymark.images.datamodule import RecordDataModule
from waymark.models.training.fitting import Precision, trainer_precision
from waymark.models.training.module import LocatorModule
from waymark.models.training.schedules import Constant

logger = logging.getLogger(__name__)

LOWEST_LR, HIGHEST_LR = 1e-7, 10.0
RANGE_BATCHES = 100
WINDOW_BATCHES = 11  # over which the losses are averaged
DIVERGED = 10.0  # times the first losses
BELOW_LOWEST = 1 / 3  # of the rate at which the loss is lowest: there it is about to rise
LEAST_GAIN = 0.02  # share by which the loss must fall, or nothing was learnt at any rate
CPU_BATCH, GPU_BATCH = 64, 1024
TRIAL_BATCHES = 2  # the second finds the optimizer's state in memory


class Tuned(NamedTuple):
    """What was found; None for what was not looked for."""

    lr: float | None
    batch_size: int | None


def tune(
    module: LocatorModule,
    data: RecordDataModule,
    work: Path,
    *,
    lr_auto: bool,
    batch_auto: bool,
    precision: Precision = "32",
) -> Tuned:
    """Find what `auto` stands for, and set it in the module and in the data.

    Training records alone are used, and the module's weights and torch's chance are as before. What was
    found is kept in `tuned.json` of the work folder, so that a killed training goes on with it.

    Args:
        module: to be trained.
        data: training records.
        work: folder of checkpoints.
        lr_auto: whether to look for the learning rate; with steps of fine-tuning it is the head's.
        batch_auto: whether to look for the largest batch that fits.
        precision: of the training.

    Raises:
        ModelError: no learning rate lets the loss fall, or not even the smallest batch fits.
    """
    path = work / "tuned.json"
    tuned = Tuned(None, None)
    if path.exists():
        tuned = Tuned(**json.loads(path.read_text()))
    elif lr_auto or batch_auto:
        work.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng():
            batch_size = _largest_batch(module, data, precision) if batch_auto else None
            _take(Tuned(None, batch_size), module, data)
            tuned = Tuned(_find_lr(module, data, precision) if lr_auto else None, batch_size)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(tuned._asdict()))
        part.replace(path)
    _take(tuned, module, data)
    for name, value in tuned._asdict().items():
        if value is not None:
            logger.info("%s auto: %g", name, value)
    return tuned


def _take(tuned: Tuned, module: LocatorModule, data: RecordDataModule) -> None:
    if tuned.batch_size is not None:
        data.loaders.batch_size = tuned.batch_size
    if tuned.lr is not None:
        optimizer = replace(module.optimization.optimizer, lr=tuned.lr)
        module.optimization = replace(module.optimization, optimizer=optimizer)


class Trial(LocatorModule):
    """Trains a copy of a module for a few batches, without validation and curves."""

    def __init__(self, module: LocatorModule, *, all_learn: bool) -> None:
        how = module.optimization
        steps = how.unfreeze
        if all_learn and steps is not None:
            steps = tuple(replace(step, epoch=0) for step in steps)
        how = replace(how, optimizer=replace(how.optimizer, lr=LOWEST_LR), schedule=Constant(), unfreeze=steps)
        super().__init__(
            copy.deepcopy(module.locator), how, epochs=module.epochs, seed=module.seed, weights=module.weights
        )

    def on_train_epoch_start(self) -> None:
        """Freeze what is frozen in the first epoch, however often the records repeat."""
        self.fine_tuning.begin(0, self.trainer.optimizers[0])

    def on_train_epoch_end(self) -> None:
        """Keep no curves."""

    def try_batches(self, data: RecordDataModule, batches: int, precision: Precision) -> None:
        """Train for so many batches."""
        trainer = L.Trainer(
            max_steps=batches,
            max_epochs=-1,
            limit_val_batches=0,
            accelerator="auto",
            devices=1,
            precision=trainer_precision(precision),
            deterministic="warn",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self, train_dataloaders=data.train_dataloader())


class RangeTest(Trial):
    """Trains with a learning rate that grows from batch to batch, and notes the losses (Smith 2017, section 3.3).

    Groups with a learning rate of their own keep it.
    """

    def __init__(self, module: LocatorModule) -> None:
        super().__init__(module, all_learn=False)
        self.lrs: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Let AdaBound take each rate for the one that it began with, as a training with that rate would."""
        super().on_train_batch_start(batch, batch_idx)
        optimizer = self.trainer.optimizers[0]
        if hasattr(optimizer, "base_lrs"):
            optimizer.base_lrs = [float(group["lr"]) for group in optimizer.param_groups]

    def training_step(self, batch: Batch) -> Tensor:
        """Note rate and loss, and stop where it diverges."""
        loss = super().training_step(batch)
        self.lrs.append(float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        self.losses.append(float(loss.detach()))
        first = np.mean(self.losses[:WINDOW_BATCHES])
        self.trainer.should_stop = not self.losses[-1] < DIVERGED * first  # also where it is NaN
        return loss

    def configure_optimizers(self) -> Any:
        """Let the rate grow by the same factor with each batch."""
        how = self.optimization
        optimizer = how.optimizer.build(self.fine_tuning.groups(LOWEST_LR))
        curves: list[Callable[[int], float]] = [
            _growth if stage.lr is None else _rest for stage in self.fine_tuning.stages
        ]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, curves), "interval": "step"}}


def _growth(batch: int) -> float:
    return math.pow(HIGHEST_LR / LOWEST_LR, batch / (RANGE_BATCHES - 1))


def _rest(batch: int) -> float:
    return 1.0


def _find_lr(module: LocatorModule, data: RecordDataModule, precision: Precision) -> float:
    """Train with growing rates, and take a third of the one at which the loss is lowest.

    Lightning's own finder validates on the way, and takes the steepest slope over the rate itself:
    at rates near zero that is the noise between batches.
    """
    test = RangeTest(module)
    test.try_batches(data, RANGE_BATCHES, precision)
    lr = suggest_lr(test.lrs, test.losses)
    if lr is None:
        raise ModelError(
            f"no learning rate between {LOWEST_LR:g} and {HIGHEST_LR:g} lets the training loss fall in"
            f" {len(test.losses)} batches; set optimizer.lr to a number"
        )
    return lr


def suggest_lr(lrs: list[float], losses: list[float]) -> float | None:
    """Take a learning rate from a range test.

    Args:
        lrs: that grow.
        losses: of the batch at each.

    Returns:
        A third of the rate around which the mean loss is lowest; None where it does not fall.
    """
    count = next((place for place, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    if count < 2 * WINDOW_BATCHES:
        return None
    means = np.convolve(losses[:count], np.full(WINDOW_BATCHES, 1 / WINDOW_BATCHES), mode="valid")
    lowest = int(means.argmin())
    if means[lowest] > (1 - LEAST_GAIN) * means[0]:
        return None
    return float(f"{BELOW_LOWEST * lrs[lowest + WINDOW_BATCHES // 2]:.2g}")


def _largest_batch(module: LocatorModule, data: RecordDataModule, precision: Precision) -> int:
    records = len(data.train)
    if not torch.cuda.is_available():
        logger.info("the memory of the CPU sets no bound to a batch: it holds at most %d records", CPU_BATCH)
        return min(CPU_BATCH, records)
    return largest_fitting(module, data, min(GPU_BATCH, records), precision)


def largest_fitting(module: LocatorModule, data: RecordDataModule, most: int, precision: Precision) -> int:
    """Double the batch until it does not fit into memory, with all that ever learns learning.

    Args:
        module: to be trained.
        data: training records; keeps its batch size.
        most: records in the largest batch.
        precision: of the training.

    Raises:
        ModelError: not even two records fit.
    """
    before, fitting = data.loaders.batch_size, 0
    size = min(2, most)  # batch norm takes no single record
    while fitting < most and _fits(module, data, size, precision):
        fitting, size = size, min(2 * size, most)
    data.loaders.batch_size = before
    if not fitting:
        raise ModelError(
            f"not even a batch of {size} fits into memory; choose a smaller backbone or size_px, or a mixed precision"
        )
    return fitting


def _fits(module: LocatorModule, data: RecordDataModule, size: int, precision: Precision) -> bool:
    data.loaders.batch_size = size
    try:
        Trial(module, all_learn=True).try_batches(data, TRIAL_BATCHES, precision)
        fits = True
    except RuntimeError as error:
        if not is_oom_error(error):
            raise
        fits = False
    garbage_collection_cuda()  # out of the handler, whose error holds on to tensors
    return fits

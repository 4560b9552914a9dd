"""Run the training loop: the best epoch by kilometres counts, and a kill costs one epoch."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import Logger

from waymark.images.datamodule import RecordDataModule
from waymark.models.module import HeadFirst, LocatorModule

MONITOR = "val/mean_km"


class Fitted(NamedTuple):
    """What came of a training."""

    curves: list[dict[str, float]]
    best_epoch: int
    best_val_mean_km: float


class Patience(EarlyStopping):
    """Stops when nothing gets better, also where a kill came after the stop and training goes on."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once where the checkpoint says that patience had run out."""
        trainer.should_stop = self.wait_count >= self.patience


def fit(
    module: LocatorModule,
    data: RecordDataModule,
    work: Path,
    *,
    epochs: int,
    unfreeze_epoch: int = 0,
    patience: int | None = None,
    loggers: Sequence[Logger] = (),
) -> Fitted:
    """Train until the last epoch, or until nothing gets better; leave the best weights in the locator.

    Args:
        module: to be trained.
        data: training and validation records.
        work: folder of checkpoints; where it holds one, training goes on from there.
        epochs: most epochs.
        unfreeze_epoch: first epoch in which the backbone learns.
        patience: epochs without a better `val/mean_km` after which training stops.
        loggers: that follow the curves.
    """
    best = _keep("best", work, monitor=MONITOR)
    # Lightning's own save_last writes in epochs only that are the best so far.
    callbacks: list[Callback] = [HeadFirst(unfreeze_epoch), best, _keep("last", work, monitor=None)]
    if patience is not None:
        callbacks.append(Patience(MONITOR, patience=patience, check_on_train_epoch_end=True))
    if visible := sys.stdout.isatty():
        callbacks.append(TQDMProgressBar())
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        deterministic="warn",
        logger=list(loggers) or False,
        callbacks=callbacks,
        enable_progress_bar=visible,
        enable_model_summary=False,
        log_every_n_steps=1_000_000,  # the curves are by epoch
        num_sanity_val_steps=0,
    )
    last = work / "last.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    module.locator.to("cpu").eval()
    best_epoch = int(state["epoch"])
    return Fitted(module.curves, best_epoch, module.curves[best_epoch]["val_mean_km"])


def _keep(name: str, work: Path, *, monitor: str | None) -> ModelCheckpoint:
    """Keep one checkpoint: of the epoch that is best by the monitor, or of the last epoch without one."""
    return ModelCheckpoint(
        work, filename=name, monitor=monitor, save_on_train_epoch_end=True, enable_version_counter=False
    )

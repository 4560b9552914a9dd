"""Run the training loop: the best epoch by kilometres counts, and a kill costs one epoch."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import Logger

from waymark.errors import ModelError
from waymark.images.datamodule import RecordDataModule
from waymark.models.inference import exact_convolutions
from waymark.models.module import LocatorModule

MONITOR = "val/mean_km"
Precision = Literal["auto", "32", "16-mixed", "bf16-mixed"]


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
    patience: int | None = None,
    precision: Precision = "32",
    loggers: Sequence[Logger] = (),
) -> Fitted:
    """Train until the last epoch, or until nothing gets better; leave the best weights in the locator.

    Args:
        module: to be trained.
        data: training and validation records.
        work: folder of checkpoints; where it holds one, training goes on from there.
        epochs: most epochs.
        patience: epochs without a better `val/mean_km` after which training stops.
        precision: of the sums inside the network; see `trainer_precision`.
        loggers: that follow the curves.
    """
    if precision == "32":
        exact_convolutions()
    best = _keep("best", work, monitor=MONITOR)
    # Lightning's own save_last writes in epochs only that are the best so far.
    callbacks: list[Callback] = [best, _keep("last", work, monitor=None)]
    if patience is not None:
        callbacks.append(Patience(MONITOR, patience=patience, check_on_train_epoch_end=True))
    if visible := sys.stdout.isatty():
        callbacks.append(TQDMProgressBar())
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        precision=trainer_precision(precision),
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


def trainer_precision(precision: Precision) -> Literal["32-true", "16-mixed", "bf16-mixed"]:
    """Say it as Lightning's trainer takes it.

    Args:
        precision: 32 is exact. The mixed ones compute layers in half precision, which is faster on a
            GPU and needs less memory. `auto` is bf16-mixed on a GPU that has it, else 32.

    Raises:
        ModelError: there is no GPU for 16-mixed.
    """
    on_gpu = torch.cuda.is_available()
    if precision == "16-mixed" and not on_gpu:
        raise ModelError("the precision 16-mixed needs a GPU; set it to 32, bf16-mixed or auto")
    if precision == "auto":
        return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
    return "32-true" if precision == "32" else precision


def _keep(name: str, work: Path, *, monitor: str | None) -> ModelCheckpoint:
    """Keep one checkpoint: of the epoch that is best by the monitor, or of the last epoch without one."""
    return ModelCheckpoint(
        work, filename=name, monitor=monitor, save_on_train_epoch_end=True, enable_version_counter=False
    )

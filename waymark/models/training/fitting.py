"""Run the training loop: the epoch that is best on val counts, and a kill costs one epoch."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar

from waymark.errors import ModelError
from waymark.images.datamodule import RecordDataModule
from waymark.models.backbones import exact_convolutions
from waymark.models.locator import Locator
from waymark.models.training.module import LocatorModule

Precision = Literal["auto", "32", "16-mixed", "bf16-mixed"]


class Fitted(NamedTuple):
    """What came of a training."""

    curves: list[dict[str, float]]
    best_epoch: int

    @property
    def best(self) -> dict[str, float]:
        """The figures of the best epoch."""
        return self.curves[self.best_epoch]


class Monitor(NamedTuple):
    """The figure that says which epoch is best, and whether `min` or `max` of it is."""

    figure: str
    mode: str


def monitor_of(locator: Locator) -> Monitor:
    """Choose by what a locator learns: mean error in km, GAP, or with two heads the weighted sum of their losses."""
    if locator.landmark_head is None:
        return Monitor("val/mean_km", "min")
    return Monitor("val/gap", "max") if locator.place_head is None else Monitor("val/loss", "min")


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
    after_epoch: Callable[[Sequence[dict[str, float]]], None] | None = None,
) -> Fitted:
    """Train until the last epoch, or until nothing gets better; leave the best weights in the locator.

    Args:
        module: to be trained.
        data: training and validation records.
        work: folder of checkpoints; where it holds one, training goes on from there.
        epochs: most epochs.
        patience: epochs without a better figure of `monitor_of` after which training stops.
        precision: of the sums inside the network; see `trainer_precision`.
        after_epoch: takes the curves so far, a row for each epoch.

    Raises:
        ModelError: the checkpoint to go on from is damaged, or holds more than numbers.
    """
    if precision == "32":
        exact_convolutions()
    # A fifth of the time, and nothing reads such memory; mypy does not know the module's property.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    module.after_epoch = after_epoch
    monitor = monitor_of(module.locator)
    best = _keep("best", work, monitor)
    # Lightning's own save_last writes in epochs only that are the best so far.
    callbacks: list[Callback] = [best, _keep("last", work)]
    if patience is not None:
        callbacks.append(Patience(monitor.figure, mode=monitor.mode, patience=patience, check_on_train_epoch_end=True))
    if visible := sys.stdout.isatty():
        callbacks.append(TQDMProgressBar())
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        precision=trainer_precision(precision),
        deterministic="warn",
        logger=False,
        callbacks=callbacks,
        enable_progress_bar=visible,
        enable_model_summary=False,
        log_every_n_steps=1_000_000,  # the curves are by epoch
        num_sanity_val_steps=0,
    )
    last = work / "last.ckpt"
    if last.exists():
        _refuse_code(last)
    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    module.locator.to("cpu").eval()
    return Fitted(module.curves, int(state["epoch"]))


def _refuse_code(checkpoint: Path) -> None:
    """Refuse what does not load without running code, as a file that somebody else may have written."""
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # pickle raises anything on a file that is none
        reason = type(error).__name__
        raise ModelError(
            f"{checkpoint} is no checkpoint that loads without running code ({reason}); remove its folder, and the"
            " training starts again"
        ) from error


def trainer_precision(precision: Precision) -> Literal["32-true", "16-mixed", "bf16-mixed"]:
    """Translate the precision for Lightning's trainer.

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


def _keep(name: str, work: Path, monitor: Monitor | None = None) -> ModelCheckpoint:
    """Keep one checkpoint: of the epoch that is best by the monitor, or of the last epoch without one."""
    return ModelCheckpoint(
        work,
        filename=name,
        monitor=None if monitor is None else monitor.figure,
        mode="min" if monitor is None else monitor.mode,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )

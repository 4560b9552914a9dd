"""Optimizers and learning-rate schedules by name."""

from collections.abc import Iterable
from typing import Any, Literal

from torch import nn, optim
from torch.optim import lr_scheduler

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["constant", "step", "plateau", "cosine"]
MONITOR = "val/loss"


def build_optimizer(name: OptimizerName, parameters: Iterable[nn.Parameter], **options: Any) -> optim.Optimizer:
    """Build an optimizer of torch.

    Args:
        name: sgd (with Nesterov momentum where there is momentum), adam or adamw.
        parameters: to be optimized; frozen ones get no gradient and stay as they are.
        options: lr, weight_decay, and momentum or betas, as torch takes them.
    """
    if name == "sgd":
        return optim.SGD(parameters, nesterov=options.get("momentum", 0) > 0, **options)
    if name == "adam":
        return optim.Adam(parameters, **options)
    return optim.AdamW(parameters, **options)


def build_schedule(name: ScheduleName, optimizer: optim.Optimizer, *, epochs: int, **options: Any) -> dict[str, Any]:
    """Build a schedule as Lightning takes it, stepped once an epoch.

    Args:
        name: constant, step, plateau (on the validation loss) or cosine (to `lr_min` at the end).
        optimizer: whose learning rate is scheduled.
        epochs: length of the training.
        options: step_epochs and factor; factor and patience; lr_min.
    """
    scheduler: Any
    if name == "step":
        scheduler = lr_scheduler.StepLR(optimizer, step_size=options["step_epochs"], gamma=options["factor"])
    elif name == "plateau":
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=options["factor"], patience=options["patience"])
    elif name == "cosine":
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=options["lr_min"])
    else:
        scheduler = lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": MONITOR}

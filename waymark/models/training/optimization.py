"""Optimizers and learning-rate schedules by name."""

from collections.abc import Iterable
from typing import Any, Literal

from torch import nn, optim
from torch.optim import lr_scheduler

from waymark.errors import ModelError

OptimizerName = Literal["sgd", "adam", "adamw", "adabound"]
ScheduleName = Literal["constant", "step", "plateau", "cosine", "warm_restarts", "one_cycle"]
MONITOR = "val/loss"
LEAST_CYCLE_BATCHES = 3  # up, top, down


def build_optimizer(
    name: OptimizerName, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], **options: Any
) -> optim.Optimizer:
    """Build an optimizer.

    Args:
        name: sgd (with Nesterov momentum where there is momentum), adam, adamw, or adabound, which
            turns from Adam into SGD (Luo et al. 2019, Algorithm 2; its weight decay is decoupled as AdamW's).
        parameters: to be optimized, or groups of them with a learning rate each; frozen ones get no
            gradient and stay as they are.
        options: lr, weight_decay, and momentum or betas, as torch takes them; adabound also takes
            final_lr, the rate of the SGD that it becomes (other groups' in proportion), and gamma, how fast.
    """
    if name == "sgd":
        return optim.SGD(parameters, nesterov=options.get("momentum", 0) > 0, **options)
    if name == "adam":
        return optim.Adam(parameters, **options)
    if name == "adamw":
        return optim.AdamW(parameters, **options)
    from pytorch_optimizer import AdaBound  # half a second that no other optimizer needs

    optimizer: optim.Optimizer = AdaBound(parameters, **options)
    for group in optimizer.param_groups:
        group["final_lr"] *= group["lr"] / options["lr"]
    return optimizer


def build_schedule(
    name: ScheduleName, optimizer: optim.Optimizer, *, epochs: int, batches: int = 0, **options: Any
) -> dict[str, Any]:
    """Build a schedule as Lightning takes it, stepped once an epoch, `one_cycle` once a batch.

    Each group of parameters follows the same curve from its own learning rate.

    Args:
        name: constant, step, plateau (on the validation loss), cosine (to `lr_min` at the end),
            warm_restarts (the same again and again, Loshchilov and Hutter 2017) or one_cycle (up to
            the optimizer's learning rate and down again, Smith and Topin 2018; momentum stays as it is).
        optimizer: whose learning rate is scheduled.
        epochs: length of the training.
        batches: length of the training, for one_cycle.
        options: step_epochs and factor; factor and patience; lr_min; t_0 (epochs to the first restart),
            t_mult (by which each cycle is longer than the last) and lr_min; warmup (share of the batches
            on the way up), div_factor (highest rate over the first) and final_div_factor (first over the last).

    Raises:
        ModelError: `lr_min` is not below the learning rate, or the training is too short for a cycle.
    """
    scheduler: Any
    if name in ("cosine", "warm_restarts"):
        _check_lowest(optimizer, options["lr_min"])
    if name == "step":
        scheduler = lr_scheduler.StepLR(optimizer, step_size=options["step_epochs"], gamma=options["factor"])
    elif name == "plateau":
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=options["factor"], patience=options["patience"])
    elif name == "cosine":
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=options["lr_min"])
    elif name == "warm_restarts":
        scheduler = lr_scheduler.CosineAnnealingWarmRestarts(
            optimizer, T_0=options["t_0"], T_mult=options["t_mult"], eta_min=options["lr_min"]
        )
    elif name == "one_cycle":
        scheduler = _one_cycle(optimizer, batches, **options)
    else:
        scheduler = lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return {"scheduler": scheduler, "interval": "step" if name == "one_cycle" else "epoch", "monitor": MONITOR}


def _check_lowest(optimizer: optim.Optimizer, lr_min: float) -> None:
    lowest = min(group["lr"] for group in optimizer.param_groups)
    if lr_min >= lowest:
        raise ModelError(
            f"schedule.lr_min {lr_min:g} is not below the learning rate {lowest:g}, from which it should fall;"
            " choose a smaller one, such as 0"
        )


def _one_cycle(
    optimizer: optim.Optimizer, batches: int, *, warmup: float, div_factor: float, final_div_factor: float
) -> lr_scheduler.OneCycleLR:
    if batches < LEAST_CYCLE_BATCHES:
        raise ModelError(
            f"the schedule one_cycle needs {LEAST_CYCLE_BATCHES} batches, and this training has {batches};"
            " train for more epochs, with a smaller batch_size, or with another schedule"
        )
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=batches,
        pct_start=max(warmup, 2 / batches),  # torch divides by zero where the way up is a single batch
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        cycle_momentum=False,
    )

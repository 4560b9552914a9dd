"""How a model is trained: the sections `optimizer`, `schedule` and `unfreeze` of an entry of `models:`."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.common.kinds import Decay, Epoch, Epochs, Factor, Few, Rate, RateOrNone, Share, Times
from tasks.common.stage import STRICT

Found = Rate | Literal["auto"]  # auto looks for it before the training
# Not strict: behind the name of a union pydantic takes YAML's lists for Python's, which are no tuples.
Betas = Annotated[tuple[Share, Share], Field(strict=False)]


@dataclass(frozen=True, config=STRICT)
class Sgd:
    """Optimizer `sgd`, with Nesterov momentum."""

    name: Literal["sgd"]
    lr: Found = 0.01
    momentum: Share = 0.9
    weight_decay: Decay = 0.0


@dataclass(frozen=True, config=STRICT)
class Adam:
    """Optimizer `adam`, or `adamw` with decoupled weight decay."""

    name: Literal["adam", "adamw"]
    lr: Found = 0.001
    betas: Betas = (0.9, 0.999)
    weight_decay: Decay = 0.0


@dataclass(frozen=True, config=STRICT)
class AdaBound:
    """Optimizer `adabound`: Adam that turns into SGD of the rate `final_lr`, the faster the larger `gamma`."""

    name: Literal["adabound"]
    lr: Found = 0.001
    final_lr: Rate = 0.1
    gamma: Factor = 0.001
    betas: Betas = (0.9, 0.999)
    weight_decay: Decay = 0.0


@dataclass(frozen=True, config=STRICT)
class Constant:
    """Schedule `constant`."""

    name: Literal["constant"]


@dataclass(frozen=True, config=STRICT)
class Step:
    """Schedule `step`: times `factor` every `step_epochs`."""

    name: Literal["step"]
    step_epochs: Epochs = 10
    factor: Factor = 0.1


@dataclass(frozen=True, config=STRICT)
class Plateau:
    """Schedule `plateau`: times `factor` when the validation loss has not fallen for more than `patience` epochs."""

    name: Literal["plateau"]
    factor: Factor = 0.1
    patience: Epoch = 5


@dataclass(frozen=True, config=STRICT)
class Cosine:
    """Schedule `cosine`: down to `lr_min` at the last epoch."""

    name: Literal["cosine"]
    lr_min: RateOrNone = 0.0


@dataclass(frozen=True, config=STRICT)
class WarmRestarts:
    """Schedule `warm_restarts`: cosines down to `lr_min`, the first of `t_0` epochs, each `t_mult` times the last."""

    name: Literal["warm_restarts"]
    t_0: Epochs = 10
    t_mult: Few = 1
    lr_min: RateOrNone = 0.0


@dataclass(frozen=True, config=STRICT)
class OneCycle:
    """Schedule `one_cycle`: up to the optimizer's rate over a share `warmup` of the batches, and down again."""

    name: Literal["one_cycle"]
    warmup: Factor = 0.3
    div_factor: Times = 25.0
    final_div_factor: Times = 10_000.0


@dataclass(frozen=True, config=STRICT)
class Unfreezing:
    """A step of fine-tuning.

    Args:
        epoch: first in which the next blocks of the backbone learn.
        blocks: how many, from its output on; null for all that are left.
        lr: their own learning rate; null for the optimizer's.
    """

    epoch: Epoch
    blocks: Few | None = None
    lr: Rate | None = None

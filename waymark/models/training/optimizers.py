"""Optimizers, each with its options."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn, optim

from waymark.options.kinds import Decay, Factor, Rate, Share
from waymark.options.named import STRICT, Named

# Not strict: behind the name of a union pydantic takes YAML's lists for Python's, which are no tuples.
Betas = Annotated[tuple[Share, Share], Field(strict=False)]
Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]


@dataclass(frozen=True, config=STRICT)
class OptimizerOptions(Named, ABC):
    """Options of all optimizers.

    Args:
        lr: learning rate; auto looks for it before the training.
        weight_decay: how fast weights shrink.
    """

    kind = "optimizer"

    lr: Rate | Literal["auto"] = 0.001
    weight_decay: Decay = 0.0

    @property
    def rate(self) -> float:
        """The learning rate.

        Raises:
            ValueError: it is not known yet.
        """
        if self.lr == "auto":
            raise ValueError("the learning rate is not known yet; find it with tune first")
        return self.lr

    @abstractmethod
    def build(self, parameters: Parameters) -> optim.Optimizer:
        """Build the optimizer of parameters, or of groups of them with a learning rate each; frozen ones stay."""


@dataclass(frozen=True, config=STRICT)
class Sgd(OptimizerOptions):
    """Optimizer `sgd`, with Nesterov momentum."""

    name: Literal["sgd"] = "sgd"
    lr: Rate | Literal["auto"] = 0.01
    momentum: Share = 0.9

    def build(self, parameters: Parameters) -> optim.SGD:
        """Build torch's optimizer."""
        decay, momentum = self.weight_decay, self.momentum
        return optim.SGD(parameters, self.rate, momentum, weight_decay=decay, nesterov=momentum > 0)


@dataclass(frozen=True, config=STRICT)
class Adam(OptimizerOptions):
    """Optimizer `adam`, or `adamw` with decoupled weight decay."""

    name: Literal["adam", "adamw"] = "adamw"
    betas: Betas = (0.9, 0.999)

    def build(self, parameters: Parameters) -> optim.Optimizer:
        """Build the optimizer."""
        kind = optim.Adam if self.name == "adam" else optim.AdamW
        return kind(parameters, self.rate, self.betas, weight_decay=self.weight_decay)


@dataclass(frozen=True, config=STRICT)
class AdaBound(OptimizerOptions):
    """Optimizer `adabound`: Adam that turns into SGD (Luo et al. 2019, Algorithm 2; decoupled weight decay).

    Args:
        final_lr: rate of the SGD that it becomes; that of groups with a rate of their own is in proportion.
        gamma: how fast it turns; the larger, the faster.
        betas: as of `adam`.
    """

    name: Literal["adabound"] = "adabound"
    final_lr: Rate = 0.1
    gamma: Factor = 0.001
    betas: Betas = (0.9, 0.999)

    def build(self, parameters: Parameters) -> optim.Optimizer:
        """Build the optimizer."""
        from pytorch_optimizer import AdaBound as Bounded  # half a second that no other optimizer needs

        optimizer: optim.Optimizer = Bounded(
            parameters, self.rate, self.final_lr, self.betas, self.gamma, self.weight_decay
        )
        for group in optimizer.param_groups:
            group["final_lr"] *= group["lr"] / self.rate
        return optimizer

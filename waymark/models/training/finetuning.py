"""Fine-tuning: the head first, then blocks of the backbone, each with a learning rate of its own."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic.dataclasses import dataclass
from torch import nn, optim

from waymark.errors import ModelError
from waymark.models.locator import Locator
from waymark.options.kinds import Epoch, Few, Rate
from waymark.options.named import STRICT


@dataclass(frozen=True, config=STRICT)
class Unfreeze:
    """A step of fine-tuning: blocks of the backbone that begin to learn.

    Args:
        epoch: first in which they learn.
        blocks: how many, counted from the backbone's output and after those of the steps before;
            null for all that are left.
        lr: their learning rate; null for the optimizer's.
    """

    epoch: Epoch
    blocks: Few | None = None
    lr: Rate | None = None


class Stage(NamedTuple):
    """Parts of a locator that begin to learn together: one group of the optimizer."""

    epoch: int
    lr: float | None
    parts: Sequence[nn.Module]


def unfreeze_steps(unfreeze_epoch: int | None, unfreeze: Sequence[Unfreeze]) -> tuple[Unfreeze, ...] | None:
    """Turn both ways to set when the backbone learns into steps.

    Args:
        unfreeze_epoch: first epoch in which the whole backbone learns; 0 trains all from the start, None never
            trains it.
        unfreeze: blocks that begin to learn, step by step.

    Returns:
        The steps; none where everything learns from the start, None where the backbone never learns.

    Raises:
        ModelError: both are given, the epochs do not ascend, or nothing is left for a step.
    """
    if unfreeze and unfreeze_epoch != 0:
        raise ModelError(
            f"unfreeze_epoch {unfreeze_epoch} and unfreeze both set when the backbone learns;"
            " set unfreeze_epoch to 0, or unfreeze to []"
        )
    epochs = [step.epoch for step in unfreeze]
    if any(later <= earlier for earlier, later in pairwise(epochs)):
        raise ModelError(f"the epochs of unfreeze do not ascend: {epochs}; put its steps in order, one for each epoch")
    for step in unfreeze[:-1]:
        if step.blocks is None:
            raise ModelError(
                f"unfreeze frees all blocks that are left at epoch {step.epoch}, so that none remain for"
                f" epoch {epochs[-1]}; give the earlier step a number of blocks"
            )
    if unfreeze_epoch is None:
        return None
    return tuple(unfreeze) if unfreeze or not unfreeze_epoch else (Unfreeze(unfreeze_epoch),)


class FineTuning:
    """Lets the parts of a locator learn when it is their time.

    What does not learn gets no gradient and is in evaluation mode, so that its batch statistics
    stay as well. A block that no step names never learns.

    Args:
        locator: whose parts.
        steps: of the backbone; without any, everything learns from the start, and with None it never does.

    Raises:
        ModelError: the steps ask for more blocks than the backbone has.
    """

    def __init__(self, locator: Locator, steps: Sequence[Unfreeze] | None) -> None:
        self.frozen: Sequence[nn.Module] = []
        self.stages = [Stage(0, None, [locator])]
        if steps is not None and not steps:
            return
        self.stages = [Stage(0, None, [part for part in locator.children() if part is not locator.backbone])]
        blocks = locator.backbone.blocks()
        left = len(blocks)
        for step in steps or ():
            count = left if step.blocks is None else step.blocks
            if not 0 < count <= left:
                raise ModelError(
                    f"unfreeze asks for {count} blocks at epoch {step.epoch}, and {left} of the {len(blocks)} of"
                    f" {locator.backbone.name} are left; ask for fewer, or for null, which is all of them"
                )
            self.stages.append(Stage(step.epoch, step.lr, blocks[left - count : left]))
            left -= count
        self.frozen = blocks[:left]

    def groups(self, lr: float) -> list[dict[str, Any]]:
        """List the groups of parameters for an optimizer: head and join first, then one for each step.

        They are the same in each epoch, so that a training that was killed finds its optimizer again.

        Args:
            lr: of the groups that have none of their own.
        """
        return [
            {
                "params": [parameter for part in stage.parts for parameter in part.parameters()],
                "lr": lr if stage.lr is None else stage.lr,
            }
            for stage in self.stages
        ]

    def begin(self, epoch: int, optimizer: optim.Optimizer) -> None:
        """Freeze and unfreeze for the epoch that starts."""
        for stage, group in zip(self.stages, optimizer.param_groups, strict=True):
            _set_learning(stage.parts, epoch >= stage.epoch)
            if epoch == stage.epoch:
                # AdaBound counts a group's steps also while it is frozen, and corrects its bias by them.
                group.pop("step", None)
        _set_learning(self.frozen, False)


def _set_learning(parts: Sequence[nn.Module], learning: bool) -> None:
    for part in parts:
        part.requires_grad_(learning)
        part.train(learning)

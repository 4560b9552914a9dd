import re

import pytest
import torch
from tiny_world import make_data, make_locator, make_module, make_world, optimized

from waymark.errors import ModelError
from waymark.models.training.finetuning import FineTuning, Unfreeze, unfreeze_steps
from waymark.models.training.fitting import fit
from waymark.models.training.module import LocatorModule

pytestmark = pytest.mark.slow

BLOCKS = 7  # of mobilenetv3_small_100: its stem, and six stages


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


class Watched(LocatorModule):
    """Keeps what the locator is at the end of each epoch, and which of it the optimizer has a state for."""

    def on_fit_start(self):
        self.states, self.moments = [self.copy()], []

    def on_train_epoch_end(self):
        super().on_train_epoch_end()
        self.states.append(self.copy())
        moments = self.trainer.optimizers[0].state
        self.moments.append({name for name, value in self.locator.named_parameters() if moments.get(value)})

    def copy(self):
        return {name: value.clone() for name, value in self.locator.state_dict().items()}


# Decay, and momentum, touch frozen weights if they are let.
OPTIMIZERS = {
    "sgd": {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1},
    "adam": {"lr": 2e-3, "weight_decay": 0.1},
    "adamw": {"lr": 2e-3, "weight_decay": 0.1},
    "adabound": {"lr": 2e-3, "weight_decay": 0.1},
}


def train(world, work, steps, *, epochs=4, optimizer="adamw", schedule="constant", batch_size=8, **options):
    how = optimized(optimizer, schedule, OPTIMIZERS[optimizer], options, steps)
    module = make_module(world, epochs=epochs, optimization=how, kind=Watched)
    return module, fit(module, make_data(world, batch_size=batch_size), work, epochs=epochs).curves


STEPS = {
    "all from the start": ((), lambda epoch: range(BLOCKS)),
    "head first": ((Unfreeze(2),), lambda epoch: range(BLOCKS) if epoch >= 2 else ()),
    "head only": ((Unfreeze(9),), lambda epoch: ()),
    "some for good": ((Unfreeze(0, 1), Unfreeze(2, 3)), lambda epoch: range(3 if epoch >= 2 else 6, BLOCKS)),
    "one by one": (
        (Unfreeze(1, 1, 1e-3), Unfreeze(2, 2), Unfreeze(3)),
        lambda epoch: range([BLOCKS, 6, 4, 0][epoch], BLOCKS),
    ),
}


def block_of(name):
    """Find the block of a tensor by its name: the stem is the first one."""
    stage = re.search(r"network\.blocks\.(\d+)", name)
    return 1 + int(stage[1]) if stage else 0


@pytest.mark.parametrize(
    ("optimizer", "steps"),
    [*(("adamw", steps) for steps in STEPS), *((name, "one by one") for name in ("sgd", "adam", "adabound"))],
)
def test_frozen_blocks_and_their_batch_statistics_stay_to_the_byte_and_the_others_learn(
    world, tmp_path, optimizer, steps
):
    steps, learning = STEPS[steps]
    module, _ = train(world, tmp_path, steps, optimizer=optimizer)
    before, *after = module.states
    parameters = {name for name, _ in module.locator.named_parameters()}
    statistics = {name for name in before if name.endswith(("running_mean", "num_batches_tracked"))}
    for epoch, state in enumerate(after):
        changed = {name for name, value in state.items() if not torch.equal(value, before[name])}
        learns = {name for name in state if not name.startswith("backbone.") or block_of(name) in learning(epoch)}
        assert changed <= learns
        assert (parameters | statistics) & learns <= changed
        assert module.moments[epoch] == parameters & learns
        before = state


def test_each_step_has_its_learning_rate_and_the_schedule_moves_all_in_proportion(world, tmp_path):
    steps = (Unfreeze(1, 1, 1e-4), Unfreeze(2))
    _, curves = train(world, tmp_path / "staged", steps, schedule="step", step_epochs=3, factor=0.5)
    for name, lr in (("learning_rate", 2e-3), ("learning_rate_1", 1e-4), ("learning_rate_2", 2e-3)):
        assert [row[name] for row in curves] == pytest.approx([lr, lr, lr, lr / 2])
    _, curves = train(world, tmp_path / "whole", (), epochs=1)
    assert [name for name in curves[0] if name.startswith("learning_rate")] == ["learning_rate"]


def test_a_steps_learning_rate_is_the_one_its_blocks_move_by(world, tmp_path):
    """After a single batch, which is the same for both."""
    moved = []
    for lr in (0.01, 0.02):
        how = optimized("sgd", "constant", {"lr": 0.01}, {}, (Unfreeze(0, 1, lr),))
        module = make_module(world, epochs=1, optimization=how, kind=Watched, backbone="resnet18")
        fit(module, make_data(world, batch_size=24), tmp_path / str(lr), epochs=1)
        before, after = module.states
        names = "backbone.network.layer4.0.downsample.0.weight", "place_head.linear.weight"
        moved.append([float((after[name] - before[name]).norm()) for name in names])
    assert min(moved[0]) > 1e-3
    assert moved[1] == pytest.approx([2 * moved[0][0], moved[0][1]], rel=1e-3)


def test_adabound_corrects_its_bias_by_the_steps_that_the_blocks_have_learnt(world, tmp_path):
    train(world, tmp_path, (Unfreeze(1, 1), Unfreeze(3)), optimizer="adabound")
    (optimizer,) = torch.load(tmp_path / "last.ckpt", weights_only=True)["optimizer_states"]
    assert [group["step"] for group in optimizer["param_groups"]] == [4 * 3, 3 * 3, 1 * 3]  # epochs of three batches


def test_both_ways_to_say_when_the_backbone_learns_come_to_one():
    steps = (Unfreeze(1, 2), Unfreeze(3, None, 1e-4))
    assert unfreeze_steps(0, []) == ()
    assert unfreeze_steps(2, []) == (Unfreeze(2, None, None),)
    assert unfreeze_steps(0, list(steps)) == steps


@pytest.mark.parametrize(
    ("unfreeze_epoch", "steps", "message"),
    [
        (1, [Unfreeze(2)], "unfreeze_epoch 1 and unfreeze both set .* set unfreeze_epoch to 0, or unfreeze to \\[\\]"),
        (0, [Unfreeze(2, 1), Unfreeze(1)], r"do not ascend: \[2, 1\]; put its steps in order"),
        (0, [Unfreeze(1, 1), Unfreeze(1)], r"do not ascend: \[1, 1\]"),
        (0, [Unfreeze(1), Unfreeze(3, 1)], "all blocks that are left at epoch 1, so that none remain for epoch 3"),
    ],
)
def test_steps_that_do_not_fit_together_are_refused(unfreeze_epoch, steps, message):
    with pytest.raises(ModelError, match=message):
        unfreeze_steps(unfreeze_epoch, steps)


@pytest.mark.parametrize("last", [3, None])
def test_more_blocks_than_there_are_are_refused(world, last):
    steps = (Unfreeze(0, BLOCKS - 2 if last else BLOCKS), Unfreeze(4, last))
    asked, left = (3, 2) if last else (0, 0)
    message = (
        f"asks for {asked} blocks at epoch 4, and {left} of the {BLOCKS} of mobilenetv3_small_100 are left; ask for"
    )
    with pytest.raises(ModelError, match=message):
        FineTuning(make_locator(world), steps)

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_optimizer import AdaBound
from tiny_world import HIGH, HTRS, LOW, make_data, make_module, make_world, optimized
from torch import nn, optim

from waymark.errors import ModelError
from waymark.geo import project
from waymark.models.training.finetuning import Unfreeze
from waymark.models.training.fitting import fit
from waymark.models.training.module import LocatorModule
from waymark.models.training.optimizers import OptimizerOptions, Sgd
from waymark.models.training.schedules import Cosine, OneCycle, ScheduleOptions, WarmRestarts

LR = 0.01
HEAD_ONLY = (Unfreeze(99),)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), train=4, val=3)


def rates(world, work, schedule, epochs=6, **options):
    """The learning rate and the losses of each epoch of a fit."""
    optimization = optimized("sgd", schedule, {"lr": LR}, options, HEAD_ONLY)
    module = make_module(world, epochs=epochs, optimization=optimization)
    curves = fit(module, make_data(world, batch_size=4), work, epochs=epochs).curves
    return [row["learning_rate"] for row in curves], curves


def test_constant_stays(world, tmp_path):
    assert rates(world, tmp_path, "constant", epochs=7)[0] == [LR] * 7


def test_step_multiplies_every_few_epochs(world, tmp_path):
    found, _ = rates(world, tmp_path, "step", step_epochs=2, factor=0.1)
    assert found == pytest.approx([LR, LR, LR / 10, LR / 10, LR / 100, LR / 100])


def test_cosine_falls_to_its_end(world, tmp_path):
    found, _ = rates(world, tmp_path, "cosine", lr_min=0.002)
    assert found == pytest.approx([0.002 + (LR - 0.002) * (1 + math.cos(math.pi * t / 6)) / 2 for t in range(6)])


def test_plateau_follows_the_validation_loss_and_no_other(world, tmp_path):
    """Training draws the answers to the north-east, where val has its degrees but not its metres."""
    north_east, south_west = project([HIGH, LOW], HTRS)
    train = replace(world.train, xy_m=np.tile(north_east, (len(world.train), 1)))
    metres, degrees = (np.tile(place, (len(world.val), 1)) for place in (south_west, HIGH))
    optimization = optimized("sgd", "plateau", {"lr": LR}, {"factor": 0.5, "patience": 1}, HEAD_ONLY)
    module = make_module(world, epochs=6, optimization=optimization)
    data = make_data(world._replace(train=train, val=replace(world.val, xy_m=metres, lat_lon=degrees)))
    curves = fit(module, data, tmp_path, epochs=6).curves
    found = [row["learning_rate"] for row in curves]
    assert found == pytest.approx(replay(LR, [row["val_loss"] for row in curves]))
    assert found == pytest.approx([LR, LR, LR, LR / 2, LR / 2, LR / 4])
    for other in ("train_loss", "val_mean_km"):
        assert replay(LR, [row[other] for row in curves]) == [LR] * 6


def replay(lr, figures, factor=0.5, patience=1):
    """What plateau should do: cut the rate when a figure was not the best for more epochs than it has patience."""
    found, best, bad = [], math.inf, 0
    for figure in figures:
        found.append(lr)
        best, bad = (figure, 0) if figure < best * (1 - 1e-4) else (best, bad + 1)
        if bad > patience:
            lr, bad = lr * factor, 0
    return found


@pytest.mark.parametrize(
    ("t_mult", "places"),
    [(1, [(0, 2), (1, 2)] * 4), (2, [(0, 2), (1, 2), *((t, 4) for t in range(4)), (0, 8), (1, 8)])],
)
def test_warm_restarts_begin_anew_and_each_cycle_may_be_longer(world, tmp_path, t_mult, places):
    found, _ = rates(world, tmp_path, "warm_restarts", epochs=8, t_0=2, t_mult=t_mult, lr_min=0.001)
    wanted = [0.001 + (LR - 0.001) * (1 + math.cos(math.pi * epoch / length)) / 2 for epoch, length in places]
    assert found == pytest.approx(wanted)


class Noting(LocatorModule):
    """Notes the learning rates with which each batch is trained."""

    def on_fit_start(self):
        self.noted = []

    def training_step(self, batch):
        self.noted.append([group["lr"] for group in self.trainer.optimizers[0].param_groups])
        return super().training_step(batch)


def one_cycle(peak, batches, warmup, div_factor, final_div_factor):
    """Half a cosine up, half a cosine down, batch by batch (torch's two phases)."""
    start, top, end = peak / div_factor, warmup * batches - 1, batches - 1
    found = []
    for batch in range(batches):
        low, share = (start, batch / top) if batch <= top else (start / final_div_factor, (end - batch) / (end - top))
        found.append(low + (peak - low) * (1 - math.cos(math.pi * share)) / 2)
    return found


def test_one_cycle_rises_and_falls_by_batch_over_the_whole_training_and_each_group_to_its_own_peak(tmp_path):
    world = make_world(tmp_path / "world", train=12, val=3)
    options = {"warmup": 0.3, "div_factor": 20.0, "final_div_factor": 50.0}
    how = optimized("sgd", "one_cycle", {"lr": LR}, options, (Unfreeze(1, 1, LR / 4), Unfreeze(2, 1)))
    module = make_module(world, epochs=5, optimization=how, kind=Noting)
    curves = fit(module, make_data(world, batch_size=3), tmp_path / "work", epochs=5).curves
    wanted = [one_cycle(peak, 5 * 4, **options) for peak in (LR, LR / 4, LR)]
    np.testing.assert_allclose(np.transpose(module.noted), wanted, rtol=1e-9)
    assert [row["learning_rate_1"] for row in curves] == pytest.approx(wanted[1][::4])
    assert max(wanted[0]) == LR


def make_optimizer(name="sgd", lr=LR, count=1, **options):
    return OptimizerOptions.choose(name, lr=lr, **options).build([nn.Parameter(torch.zeros(1)) for _ in range(count)])


@pytest.mark.parametrize("batches", [3, 4, 10, 20, 24])
def test_one_cycle_of_few_batches_has_no_division_by_zero(batches):
    cycle, optimizer = OneCycle(warmup=0.1, div_factor=25.0, final_div_factor=1e4), make_optimizer(momentum=0.7)
    schedule = cycle.build(optimizer, epochs=1, batches=batches)["scheduler"]
    found = []
    for _ in range(batches):
        found.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[0]["momentum"] == 0.7
        optimizer.step()
        schedule.step()
    assert max(found) == pytest.approx(LR, rel=0.01)  # the top may lie between two batches
    assert found[-1] == pytest.approx(LR / 25 / 1e4)


def test_a_training_too_short_for_one_cycle_says_so():
    with pytest.raises(ModelError, match=r"one_cycle needs 3 batches, and this training has 2; train for more epochs"):
        OneCycle().build(make_optimizer(), epochs=1, batches=2)


@pytest.mark.parametrize("schedule", [Cosine(lr_min=0.2), WarmRestarts(lr_min=0.2)])
def test_a_lowest_rate_above_the_rate_is_refused(schedule):
    optimizer = Sgd(lr=1).build([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1, 0.1)])
    with pytest.raises(ModelError, match=r"schedule.lr_min 0.2 is not below the learning rate 0.1"):
        schedule.build(optimizer, epochs=5)


OPTIONS = {
    "constant": {},
    "step": {"step_epochs": 3, "factor": 0.1},
    "plateau": {"factor": 0.1, "patience": 3},
    "cosine": {"lr_min": 0.0},
    "warm_restarts": {"t_0": 2, "t_mult": 1, "lr_min": 0.0},
}


@pytest.mark.parametrize("schedule", OPTIONS)
def test_a_schedule_is_stepped_once_an_epoch(schedule):
    built = ScheduleOptions.choose(schedule, **OPTIONS[schedule]).build(make_optimizer(), epochs=5)
    assert (built["interval"], built["monitor"]) == ("epoch", "val/loss")


ADABOUND = {"lr": 0.3, "betas": (0.7, 0.98), "final_lr": 0.5, "gamma": 0.01, "weight_decay": 0.03}


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("sgd", optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        ("adam", optim.Adam, {"lr": 0.2, "betas": (0.8, 0.99), "weight_decay": 0.02}),
        ("adamw", optim.AdamW, {"lr": 0.3, "betas": (0.7, 0.98), "weight_decay": 0.03}),
        ("adabound", AdaBound, ADABOUND),
    ],
)
def test_an_optimizer_is_of_its_class_with_its_options(world, name, kind, options):
    module = make_module(world, epochs=1, optimization=optimized(name, "constant", options))
    optimizer = module.configure_optimizers()["optimizer"]
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert {option: group[option] for option in options} == options
    assert {id(parameter) for parameter in group["params"]} == {id(parameter) for parameter in module.parameters()}


def test_sgd_has_nesterov_where_there_is_momentum():
    assert make_optimizer(momentum=0.9).param_groups[0]["nesterov"]
    assert not make_optimizer(momentum=0.0).param_groups[0]["nesterov"]


def test_a_rate_that_is_not_found_yet_builds_nothing():
    with pytest.raises(ValueError, match="find it with tune first"):
        make_optimizer(lr="auto")


def adabound(gradients, *, lr, betas, final_lr, gamma, weight_decay, start=1.0):
    """Algorithm 2 of Luo et al. 2019, with the bias corrections of the authors' code and AdamW's decay."""
    weight, mean, square = start, 0.0, 0.0
    for step, gradient in enumerate(gradients, 1):
        weight *= 1 - lr * weight_decay
        mean = betas[0] * mean + (1 - betas[0]) * gradient
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        rate = lr * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step) / (math.sqrt(square) + 1e-8)
        lowest, highest = final_lr * (1 - 1 / (gamma * step + 1)), final_lr * (1 + 1 / (gamma * step))
        weight -= min(max(rate, lowest), highest) * mean
    return weight


@pytest.mark.parametrize(
    "changed", [{}, {"final_lr": 0.01}, {"gamma": 0.5}, {"betas": (0.5, 0.6)}, {"weight_decay": 0.5}]
)
def test_adabound_is_the_papers_and_every_option_counts(changed):
    gradients = np.random.default_rng(1).normal(2, 1, 30)
    options = ADABOUND | changed
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = OptimizerOptions.choose("adabound", **options).build([weight])
    for gradient in gradients:
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    assert weight.item() == pytest.approx(adabound(gradients, **options), rel=1e-9)
    assert not changed or weight.item() != pytest.approx(adabound(gradients, **ADABOUND), rel=1e-3)


def test_adabounds_final_rate_is_in_proportion_for_groups_with_rates_of_their_own():
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.3, 0.03)]
    optimizer = OptimizerOptions.choose("adabound", **ADABOUND).build(groups)
    assert [group["final_lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.05])

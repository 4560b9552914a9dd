import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_tiny_world import HIGH, HTRS, LOW, make_data, make_module, make_world
from torch import nn, optim

from waymark.geo import project
from waymark.models.fitting import fit
from waymark.models.module import Optimization
from waymark.models.optimization import build_optimizer, build_schedule

LR = 0.01


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), train=4, val=3)


def rates(world, work, schedule, epochs=6, **options):
    """The learning rate and the losses of each epoch of a fit."""
    optimization = Optimization("sgd", schedule, {"lr": LR}, options)
    module = make_module(world, epochs=epochs, optimization=optimization)
    curves = fit(module, make_data(world, batch_size=4), work, epochs=epochs, unfreeze_epoch=epochs).curves
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
    optimization = Optimization("sgd", "plateau", {"lr": LR}, {"factor": 0.5, "patience": 1})
    module = make_module(world, epochs=6, optimization=optimization)
    data = make_data(world._replace(train=train, val=replace(world.val, xy_m=metres, lat_lon=degrees)))
    curves = fit(module, data, tmp_path, epochs=6, unfreeze_epoch=6).curves
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


@pytest.mark.parametrize("schedule", ["constant", "step", "plateau", "cosine"])
def test_a_schedule_is_stepped_once_an_epoch(schedule):
    optimizer = build_optimizer("sgd", [nn.Parameter(torch.zeros(1))], lr=LR)
    options = {"step": {"step_epochs": 3, "factor": 0.1}, "plateau": {"factor": 0.1, "patience": 3}}
    built = build_schedule(schedule, optimizer, epochs=5, **options.get(schedule, {"lr_min": 0.0}))
    assert (built["interval"], built["monitor"]) == ("epoch", "val/loss")


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("sgd", optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        ("adam", optim.Adam, {"lr": 0.2, "betas": (0.8, 0.99), "weight_decay": 0.02}),
        ("adamw", optim.AdamW, {"lr": 0.3, "betas": (0.7, 0.98), "weight_decay": 0.03}),
    ],
)
def test_an_optimizer_is_of_its_class_with_its_options(world, name, kind, options):
    module = make_module(world, epochs=1, optimization=Optimization(name, "constant", options))
    optimizer = module.configure_optimizers()["optimizer"]
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert {option: group[option] for option in options} == options
    assert {id(parameter) for parameter in group["params"]} == {id(parameter) for parameter in module.parameters()}


def test_sgd_has_nesterov_where_there_is_momentum():
    weight = [nn.Parameter(torch.zeros(1))]
    assert build_optimizer("sgd", weight, lr=0.1, momentum=0.9).param_groups[0]["nesterov"]
    assert not build_optimizer("sgd", weight, lr=0.1).param_groups[0]["nesterov"]

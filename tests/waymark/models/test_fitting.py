import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import HIGH, HTRS, LOW, make_data, make_module, make_world, optimized

from waymark.errors import ModelError
from waymark.geo import project
from waymark.models.training.finetuning import Unfreeze
from waymark.models.training.fitting import fit
from waymark.models.training.module import LocatorModule, Optimization
from waymark.models.training.optimizers import Sgd
from waymark.models.training.schedules import Constant

pytestmark = pytest.mark.slow

EPOCHS = 5
HEAD_ONLY = (Unfreeze(99),)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


class Killed(BaseException):
    """What no code of the training may catch."""


class Mortal(LocatorModule):
    """Dies in the second batch of an epoch."""

    dies_in = 3

    def training_step(self, batch):
        if self.current_epoch == self.dies_in and self.trainer.fit_loop.epoch_loop.batch_idx == 1:
            raise Killed
        return super().training_step(batch)


def weights(module):
    return {name: value.clone() for name, value in module.locator.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def val_mean_km(module, data):
    """The mean error with the weights that the locator has now, measured apart from training."""
    data.val.lat_lon.setflags(write=False)
    module.val_km.reset()
    with torch.inference_mode():
        for batch in data.val_dataloader():
            module.validation_step(batch)
    return float(module.val_km.compute())


@pytest.mark.parametrize(("head", "lr"), [("cells", 3.0), ("coordinates", 0.3)])
def test_the_best_epoch_is_left_in_the_locator_and_not_the_last(world, tmp_path, head, lr):
    """A learning rate far too large lets each epoch jump about."""
    wild = optimized("sgd", "constant", {"lr": lr, "momentum": 0.5}, {}, HEAD_ONLY)
    module, data = make_module(world, epochs=EPOCHS, head=head, optimization=wild), make_data(world)
    fitted = fit(module, data, tmp_path, epochs=EPOCHS)
    errors_km = [row["val_mean_km"] for row in fitted.curves]
    assert len(set(errors_km)) > 2
    assert fitted.best_epoch == int(np.argmin(errors_km)) < EPOCHS - 1  # else this test shows nothing
    assert fitted.best["val_mean_km"] == min(errors_km)
    assert not module.locator.training
    assert val_mean_km(module, data) == pytest.approx(min(errors_km), rel=1e-9)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert not torch.equal(last["locator.place_head.linear.weight"], module.locator.place_head.linear.weight)


SCHEDULES = {
    "constant": {},
    "step": {"step_epochs": 2, "factor": 0.3},
    "plateau": {"factor": 0.3, "patience": 0},
    "cosine": {"lr_min": 0.0},
    "warm_restarts": {"t_0": 2, "t_mult": 2, "lr_min": 0.0},
    "one_cycle": {"warmup": 0.3, "div_factor": 25.0, "final_div_factor": 100.0},
}
ADAMW = "adamw", {"lr": 0.02, "weight_decay": 0.05}
ADABOUND = "adabound", {"lr": 0.02, "weight_decay": 0.05, "final_lr": 0.05, "gamma": 0.1}
BACKBONE_LATER = (Unfreeze(1),)
BLOCKS_LATER = (Unfreeze(1, 1, 0.01), Unfreeze(3, 2), Unfreeze(4, None, 0.001))


def train(
    world,
    work,
    *,
    kind=LocatorModule,
    optimizer=ADAMW,
    schedule="cosine",
    unfreeze=BACKBONE_LATER,
    seed=1,
    backbone="mobilenetv3_small_100",
):
    how = optimized(optimizer[0], schedule, optimizer[1], SCHEDULES[schedule], unfreeze)
    module = make_module(world, epochs=EPOCHS, optimization=how, kind=kind, seed=seed, backbone=backbone)
    fitted = fit(module, make_data(world, seed=seed), work, epochs=EPOCHS)
    return fitted, weights(module), torch.load(work / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    "how",
    [
        *({"schedule": schedule} for schedule in SCHEDULES),
        {"optimizer": ADABOUND, "unfreeze": BLOCKS_LATER},  # dies in the epoch in which blocks begin to learn
        {"schedule": "one_cycle", "unfreeze": BLOCKS_LATER},
    ],
    ids=lambda how: "-".join(how.get(key, ["adamw"])[0] if key == "optimizer" else str(how[key])[:9] for key in how),
)
def test_after_a_kill_training_goes_on_and_ends_as_if_there_had_been_none(world, tmp_path, how):
    """Also the plateau, whose step Lightning takes only after it has written the epoch down."""
    whole, whole_weights, whole_last = train(world, tmp_path / "whole", **how)
    with pytest.raises(Killed):
        train(world, tmp_path / "killed", kind=Mortal, **how)
    assert torch.load(tmp_path / "killed/last.ckpt", weights_only=True)["epoch"] == 2
    torch.manual_seed(99)  # a new process knows nothing of the old one's chance
    again, again_weights, again_last = train(world, tmp_path / "killed", **how)
    assert again == whole
    assert same(again_weights, whole_weights)
    assert same(again_last["state_dict"], whole_last["state_dict"])
    rates = {row["learning_rate"] for row in whole.curves}
    assert len(rates) == 1 if how.get("schedule") == "constant" else len(rates) > 1


def test_layers_that_draw_lots_draw_the_same_after_a_kill(world, tmp_path):
    stochastic = {"backbone": "efficientnet_b0"}
    whole, whole_weights, _ = train(world, tmp_path / "whole", **stochastic)
    with pytest.raises(Killed):
        train(world, tmp_path / "killed", kind=Mortal, **stochastic)
    again, again_weights, _ = train(world, tmp_path / "killed", **stochastic)
    assert again == whole
    assert same(again_weights, whole_weights)


@pytest.mark.parametrize("dies_in", [0, 1])
def test_a_kill_before_the_first_checkpoint_or_before_the_backbone_learns_costs_no_more(world, tmp_path, dies_in):
    whole, whole_weights, _ = train(world, tmp_path / "whole")
    with pytest.raises(Killed):
        train(world, tmp_path / "killed", kind=type("Early", (Mortal,), {"dies_in": dies_in}))
    again, again_weights, _ = train(world, tmp_path / "killed")
    assert again == whole
    assert same(again_weights, whole_weights)


class Idle(LocatorModule):
    """Has nothing left to learn."""

    def training_step(self, batch):
        raise AssertionError("a step was taken")


def test_going_on_after_the_last_epoch_trains_no_more(world, tmp_path):
    """As when the kill came between the training and the writing of its outputs."""
    whole, whole_weights, _ = train(world, tmp_path)
    again, again_weights, _ = train(world, tmp_path, kind=Idle)
    assert again == whole
    assert same(again_weights, whole_weights)


def hopeless(world, work, kind=LocatorModule, **options):
    """Fit where training draws the answers to one end, and the truths of val lie at the other."""
    how = optimized("sgd", "constant", {"lr": 0.05}, {}, HEAD_ONLY)
    module = make_module(world, epochs=EPOCHS, optimization=how, kind=kind)
    there = replace(world.train, xy_m=np.tile(project([HIGH], HTRS), (len(world.train), 1)))
    elsewhere = replace(world.val, lat_lon=np.tile(LOW, (len(world.val), 1)))
    data = make_data(world._replace(train=there, val=elsewhere))
    return fit(module, data, work, epochs=EPOCHS, **options), weights(module)


@pytest.mark.parametrize("patience", [1, 2, None])
def test_training_stops_when_nothing_got_better_for_as_many_epochs_as_there_is_patience(world, tmp_path, patience):
    fitted, _ = hopeless(world, tmp_path, patience=patience)
    errors_km = [row["val_mean_km"] for row in fitted.curves]
    assert errors_km == sorted(errors_km)
    assert fitted.best_epoch == 0
    assert len(errors_km) == (EPOCHS if patience is None else 1 + patience)


def test_going_on_after_an_early_stop_trains_no_more(world, tmp_path):
    stopped, stopped_weights = hopeless(world, tmp_path, patience=1)
    again, again_weights = hopeless(world, tmp_path, patience=1, kind=Idle)
    assert again == stopped
    assert same(again_weights, stopped_weights)


def test_the_same_seed_gives_the_same_training_and_another_another(world, tmp_path):
    one, one_weights, _ = train(world, tmp_path / "one")
    torch.rand(5)  # chance that was used elsewhere has no say
    two, two_weights, _ = train(world, tmp_path / "two")
    other, other_weights, _ = train(world, tmp_path / "other", seed=2)
    assert one == two
    assert same(one_weights, two_weights)
    assert one.curves != other.curves
    assert not torch.equal(one_weights["place_head.linear.weight"], other_weights["place_head.linear.weight"])


class Wild(Sgd):
    """Has a rate that params.yaml would not take."""

    rate = 1e30


@pytest.mark.parametrize("head", ["cells", "coordinates"])
def test_a_training_that_diverges_says_so(world, tmp_path, head):
    module = make_module(world, epochs=2, head=head, optimization=Optimization(Wild(), Constant()))
    with pytest.raises(ModelError, match=r"diverged in epoch 1: .*choose a smaller learning rate \(optimizer.lr\)"):
        fit(module, make_data(world), tmp_path, epochs=2)


def test_who_follows_a_training_has_the_curves_after_each_epoch(world, tmp_path):
    module, followed = make_module(world, epochs=2), []
    curves = fit(module, make_data(world), tmp_path, epochs=2, after_epoch=lambda rows: followed.append([*rows])).curves
    assert followed == [curves[:1], curves]


def test_mixed_precision_trains_nearly_as_the_exact_one(world, tmp_path):
    found = {}
    for precision in ("32", "bf16-mixed", "auto"):
        module = make_module(world, epochs=2)
        fit(module, make_data(world), tmp_path / precision, epochs=2, precision=precision)
        found[precision] = weights(module)
    assert not same(found["32"], found["bf16-mixed"])
    assert {value.dtype for value in found["bf16-mixed"].values()} == {value.dtype for value in found["32"].values()}
    for name in ("backbone.network.conv_stem.weight", "place_head.linear.weight"):
        torch.testing.assert_close(found["bf16-mixed"][name], found["32"][name], atol=0.02, rtol=0)
    if not torch.cuda.is_available():
        assert same(found["auto"], found["32"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do it")
def test_half_precision_without_a_gpu_is_refused(world, tmp_path):
    with pytest.raises(ModelError, match="16-mixed needs a GPU; set it to 32, bf16-mixed or auto"):
        fit(make_module(world, epochs=1), make_data(world), tmp_path, epochs=1, precision="16-mixed")


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_the_checkpoint_to_go_on_from_does_not_run(world, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # what some set to load models of others
    torch.save({"epoch": 1, "state_dict": Bomb(tmp_path / "exploded")}, tmp_path / "last.ckpt")
    with pytest.raises(ModelError, match=r"without running code .*; remove its folder"):
        train(world, tmp_path)
    assert not (tmp_path / "exploded").exists()
    torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert (tmp_path / "exploded").exists()  # it was a bomb
    (tmp_path / "last.ckpt").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="the training starts again"):
        train(world, tmp_path)

import json
import logging

import numpy as np
import pytest
import torch
from tiny_world import make_data, make_module, make_world, optimized

from waymark.errors import ModelError
from waymark.images.datamodule import RecordDataModule
from waymark.images.transforms import Augmentation
from waymark.models.heads import CoordinatesHead
from waymark.models.training.finetuning import Unfreeze
from waymark.models.training.fitting import fit
from waymark.models.training.optimizers import AdaBound
from waymark.models.training.tuning import RangeTest, Tuned, largest_fitting, suggest_lr, tune

pytestmark = pytest.mark.slow

BACKBONE = "test_resnet"  # learns from a few batches
HEAD_ONLY = (Unfreeze(99),)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def untuned(world, *, optimizer="sgd", unfreeze=(), **locator):
    how = optimized(optimizer, "constant", {}, {}, unfreeze)
    return make_module(world, epochs=4, optimization=how, backbone=BACKBONE, **locator)


def find(module, data, work):
    return tune(module, data, work, lr_auto=True, batch_auto=False).lr


class Loud(CoordinatesHead):
    """Its loss, and so each gradient, is a thousand times as large."""

    def loss(self, output, batch):
        return 1000 * super().loss(output, batch)


def last_loss(world, work, lr):
    module = make_module(
        world, epochs=6, optimization=optimized("sgd", "constant", {"lr": lr}), head="cells", backbone=BACKBONE
    )
    data = make_data(world, augmentation=Augmentation())
    try:
        return fit(module, data, work, epochs=6).curves[-1]["train_loss"]
    except ModelError:  # a rate so large that the numbers run over
        return float("inf")


def test_the_rate_found_lets_training_get_better_and_others_do_so_less(world, tmp_path):
    lr = find(untuned(world, head="cells"), make_data(world), tmp_path / "tune")
    losses = [last_loss(world, tmp_path / str(times), times * lr) for times in (1, 0.01, 300)]
    assert losses[0] < 0.8 * np.log(4)  # which guessing has
    assert losses[0] < 0.8 * min(losses[1:])


def test_a_loss_a_thousand_times_as_large_wants_a_rate_a_thousand_times_smaller(world, tmp_path):
    soft, loud = untuned(world), untuned(world)
    loud.locator.place_head.__class__ = Loud
    rates = [find(module, make_data(world), tmp_path / str(n)) for n, module in enumerate((soft, loud))]
    assert 300 < rates[0] / rates[1] < 3000


def test_adabound_is_tried_with_each_rate_as_if_it_had_begun_with_it(world, tmp_path):
    bounded, free = untuned(world, optimizer="adabound", head="cells"), untuned(world, optimizer="adam", head="cells")
    rates = [find(module, make_data(world), tmp_path / str(n)) for n, module in enumerate((bounded, free))]
    assert 0.1 < rates[0] / rates[1] < 10


def test_what_is_found_is_set_and_leaves_weights_and_chance_as_they_were(world, tmp_path):
    module, data = untuned(world, optimizer="adabound"), make_data(world)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    chance = torch.get_rng_state()
    tuned = tune(module, data, tmp_path, lr_auto=True, batch_auto=True)
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.curves == []
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())
    assert module.optimization.optimizer == AdaBound(lr=tuned.lr)
    assert 1e-6 < tuned.lr < 1
    assert data.loaders.batch_size == tuned.batch_size
    assert [path.name for path in tmp_path.iterdir()] == ["tuned.json"]


class Unread(RecordDataModule):
    """Gives no training record."""

    def train_dataloader(self):
        raise AssertionError("the records were read")


def test_what_was_found_is_taken_from_the_work_folder_and_is_the_same_where_it_is_lost(tmp_path, caplog):
    world = make_world(tmp_path / "world", train=6)
    tuned = tune(untuned(world), make_data(world), tmp_path / "work", lr_auto=True, batch_auto=True)
    assert json.loads((tmp_path / "work/tuned.json").read_text()) == tuned._asdict()
    module, data = untuned(world), make_data(world)
    data.__class__ = Unread
    with caplog.at_level(logging.INFO, "waymark"):
        assert tune(module, data, tmp_path / "work", lr_auto=True, batch_auto=True) == tuned
    assert module.optimization.optimizer.lr == tuned.lr
    assert data.loaders.batch_size == tuned.batch_size == 6
    assert f"lr auto: {tuned.lr:g}" in caplog.messages
    assert "batch_size auto: 6" in caplog.messages
    torch.rand(5)
    assert tune(untuned(world), make_data(world), tmp_path / "new", lr_auto=True, batch_auto=True) == tuned


def test_without_auto_nothing_is_read_or_written(world, tmp_path):
    module, data = untuned(world), make_data(world)
    data.__class__ = Unread
    assert tune(module, data, tmp_path / "work", lr_auto=False, batch_auto=False) == Tuned(None, None)
    assert not (tmp_path / "work").exists()
    assert data.loaders.batch_size == 8


def test_a_step_with_a_rate_of_its_own_keeps_it_in_the_search_and_later_ones_do_not_learn(world):
    test = RangeTest(untuned(world, unfreeze=(Unfreeze(0, 1, 1e-4), Unfreeze(1, 1), Unfreeze(2, 1, 1e-4))))
    test.try_batches(make_data(world), 12, "32")  # four epochs
    groups = test.trainer.optimizers[0].param_groups
    assert [group["lr"] for group in groups[1::2]] == [1e-4, 1e-4]
    assert groups[0]["lr"] == groups[2]["lr"] > 5e-7
    assert test.lrs == pytest.approx([1e-7 * 1e8 ** (batch / 99) for batch in range(12)])
    assert [any(p.requires_grad for p in group["params"]) for group in groups] == [True, True, False, False]


RATES = np.geomspace(1e-7, 10, 100)


def losses_of(lowest, seed=1):
    """Flat, down to the lowest rate, then up."""
    away = np.log10(RATES / lowest)
    noise = np.random.default_rng(seed).normal(0, 0.05, len(RATES))
    return np.where(away < 0, 2 - 1.5 * np.clip(1 + away / 2, 0, 1), 0.5 + 5 * away**2) + noise


@pytest.mark.parametrize("lowest", [1e-4, 1e-2, 1.0])
def test_a_third_of_the_rate_of_the_lowest_loss_is_suggested(lowest):
    assert suggest_lr(list(RATES), list(losses_of(lowest))) == pytest.approx(lowest / 3, rel=0.5)


def test_no_rate_is_suggested_where_the_loss_does_not_fall():
    assert suggest_lr(list(RATES), [2.0] * 100) is None
    assert suggest_lr(list(RATES), list(np.linspace(2, 30, 100))) is None
    assert suggest_lr(list(RATES), list(losses_of(1e-2))[:15]) is None
    assert suggest_lr(list(RATES), [float("nan")] * 100) is None


def test_losses_that_are_no_numbers_end_the_search():
    losses = list(losses_of(1e-2))
    losses[75:] = [float("nan")] * 25
    assert suggest_lr(list(RATES), losses) == pytest.approx(1e-2 / 3, rel=0.6)


class Deaf(CoordinatesHead):
    """Learns nothing."""

    def loss(self, output, batch):
        return 0 * super().loss(output, batch) + 1


def test_a_search_without_result_names_the_remedy(world, tmp_path):
    module = untuned(world)
    module.locator.place_head.__class__ = Deaf
    with pytest.raises(
        ModelError, match=r"no learning rate between 1e-07 and 10 lets .*; set optimizer.lr to a number"
    ):
        find(module, make_data(world), tmp_path)
    assert not (tmp_path / "tuned.json").exists()


class Greedy(CoordinatesHead):
    """Takes more memory than there is, where more records than eight come at once."""

    most = 8

    def loss(self, output, batch):
        if len(output) > self.most:
            torch.empty(2**58)
        return super().loss(output, batch)


@pytest.mark.parametrize(("most", "wanted"), [(24, 8), (5, 5), (8, 8), (1, 1)])
def test_the_largest_batch_that_fits_into_memory_is_found(world, most, wanted):
    module, data = untuned(world), make_data(world, batch_size=3)
    module.locator.place_head.__class__ = Greedy
    assert largest_fitting(module, data, most, "32") == wanted
    assert data.loaders.batch_size == 3


def test_no_batch_that_fits_and_other_errors_are_told_apart(world, monkeypatch):
    module = untuned(world)
    module.locator.place_head.__class__ = Greedy
    monkeypatch.setattr(Greedy, "most", 1)
    with pytest.raises(ModelError, match="not even a batch of 2 fits into memory; choose a smaller backbone"):
        largest_fitting(module, make_data(world), 24, "32")
    monkeypatch.setattr(Greedy, "loss", lambda head, output, batch: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        largest_fitting(module, make_data(world), 24, "32")


class Unbearable(CoordinatesHead):
    """Takes more memory than there is, where the backbone learns from more than four records."""

    def forward(self, features):
        if features.requires_grad and len(features) > 4:
            torch.empty(2**58)
        return super().forward(features)


def test_a_batch_is_tried_with_all_that_ever_learns(world):
    module = untuned(world, unfreeze=(Unfreeze(2, 1), Unfreeze(5, 2)))
    module.locator.place_head.__class__ = Unbearable
    assert largest_fitting(module, make_data(world), 24, "32") == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU says itself when its memory is full")
def test_on_the_cpu_a_batch_is_bounded_by_a_number_and_by_the_records(tmp_path, caplog):
    for records, wanted in ((70, 64), (40, 40)):
        world = make_world(tmp_path / str(records), train=records, val=2)
        with caplog.at_level(logging.INFO, "waymark"):
            tuned = tune(untuned(world), make_data(world), tmp_path / f"work-{records}", lr_auto=False, batch_auto=True)
        assert tuned == Tuned(None, wanted)
        assert "the memory of the CPU sets no bound to a batch: it holds at most 64 records" in caplog.messages

from dataclasses import replace

import numpy as np
import pytest
import torch
from pyproj import Geod
from tiny_world import HIGH, LOW, make_data, make_module, make_world, optimized

from waymark.images.transforms import Augmentation
from waymark.metrics import functional, stateful
from waymark.models.training.finetuning import Unfreeze
from waymark.models.training.fitting import fit
from waymark.models.training.module import LocatorModule

pytestmark = pytest.mark.slow

HEAD_ONLY = (Unfreeze(99),)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def test_a_head_alone_learns_in_every_epoch(world, tmp_path):
    module = make_module(world, epochs=3, optimization=optimized("adamw", "constant", {"lr": 2e-3}, {}, HEAD_ONLY))
    curves = fit(module, make_data(world, augmentation=Augmentation()), tmp_path, epochs=3).curves
    losses = [row["train_loss"] for row in curves]
    assert losses == sorted(losses, reverse=True)


class Counting(LocatorModule):
    """Counts the distances measured in training steps and in validation steps."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.measured, self.calls = 0, {"train": 0, "val": 0}

    def haversine_km(self, predicted, target):
        self.measured += 1
        return functional.haversine_km(predicted, target)

    def training_step(self, batch):
        before = self.measured
        loss = super().training_step(batch)
        self.calls["train"] += self.measured - before
        return loss

    def validation_step(self, batch):
        before = self.measured
        super().validation_step(batch)
        self.calls["val"] += self.measured - before


def test_no_distance_is_measured_in_training_steps(world, tmp_path, monkeypatch):
    module = make_module(world, epochs=2, kind=Counting)
    monkeypatch.setattr(stateful, "haversine_km", module.haversine_km)
    fit(module, make_data(world, batch_size=4), tmp_path, epochs=2)
    assert module.calls == {"train": 0, "val": 2 * 2}  # 7 val records in 2 batches, in 2 epochs
    assert module.measured == 4


def answers(module, data):
    """Great-circle errors of all val records by pyproj, with the weights that the module has now."""
    errors_km = []
    for batch in data.val_dataloader():
        with torch.inference_mode():
            place = module.locator.place(module.locator(batch.views, batch.present).place)
        found = place.lat_lon.numpy()
        truth = batch.lat_lon.numpy()
        sphere = Geod(a=6371008.8, b=6371008.8)
        errors_km.append(sphere.inv(found[:, 1], found[:, 0], truth[:, 1], truth[:, 0])[2] / 1000)
    return errors_km


@pytest.mark.parametrize("head", ["cells", "coordinates"])
def test_val_mean_km_is_over_all_records_with_the_uneven_last_batch(world, tmp_path, head):
    far = world.val.lat_lon.copy()
    far[-1] = [64.0, -20.0]  # in the shorter last batch
    world = world._replace(val=replace(world.val, lat_lon=far))
    module, data = make_module(world, epochs=2, head=head), make_data(world, batch_size=4)
    curves = fit(module, data, tmp_path, epochs=2).curves
    module.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"])
    errors_km = answers(module, data)
    assert [len(batch) for batch in errors_km] == [4, 3]
    assert curves[1]["val_mean_km"] == pytest.approx(np.concatenate(errors_km).mean(), rel=1e-9)
    assert curves[1]["val_mean_km"] != pytest.approx(np.mean([batch.mean() for batch in errors_km]), rel=0.05)


class Weighing(LocatorModule):
    """Keeps the loss of each training batch, and its records."""

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        self.batches = []

    def training_step(self, batch):
        loss = super().training_step(batch)
        self.batches.append((loss.item(), int((batch.label >= 0).sum())))
        return loss


def test_losses_are_means_by_record_that_has_the_truth_and_begin_anew_each_epoch(world, tmp_path):
    label = world.val.label.copy()
    label[:3] = -1  # one known in the first batch of four, three in the second
    train_label = np.where(np.arange(len(world.train)) % 3, world.train.label, -1)
    world = world._replace(val=replace(world.val, label=label), train=replace(world.train, label=train_label))
    module, data = make_module(world, epochs=2, head="cells", kind=Weighing), make_data(world, batch_size=4)
    curves = fit(module, data, tmp_path, epochs=2).curves
    module.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"])
    losses = []
    for batch in data.val_dataloader():
        with torch.inference_mode():
            chances = module.locator(batch.views, batch.present).place.double().log_softmax(dim=1)
        losses += [-float(row[known]) for row, known in zip(chances, batch.label, strict=True) if known >= 0]
    assert len(losses) == 4
    assert curves[1]["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    batch_losses, records = zip(*module.batches, strict=True)
    assert len(set(records)) > 1
    assert curves[1]["train_loss"] == pytest.approx(np.average(batch_losses, weights=records), rel=1e-5)


def test_a_validation_without_known_cells_still_chooses_by_kilometres(world, tmp_path):
    world = world._replace(val=replace(world.val, label=np.full(len(world.val), -1)))
    fitted = fit(make_module(world, epochs=2, head="cells"), make_data(world), tmp_path, epochs=2)
    assert all(np.isnan(row["val_loss"]) for row in fitted.curves)
    assert fitted.best["val_mean_km"] == min(row["val_mean_km"] for row in fitted.curves)


def test_every_training_record_is_seen_once_an_epoch_and_val_in_order(world, tmp_path):
    """No last batch is dropped."""
    seen = {"train": [], "val": []}

    class Listening(LocatorModule):
        def training_step(self, batch):
            seen["train"].append(batch.lat_lon)
            return super().training_step(batch)

        def validation_step(self, batch):
            seen["val"].append(batch.lat_lon)
            super().validation_step(batch)

    fit(make_module(world, epochs=2, kind=Listening), make_data(world, batch_size=5), tmp_path, epochs=2)
    rows = torch.cat(seen["train"]).numpy()
    epochs = [rows[:24], rows[24:]]
    assert not np.array_equal(*epochs)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch, axis=0), np.sort(world.train.lat_lon, axis=0))
    np.testing.assert_array_equal(torch.cat(seen["val"]).numpy(), np.concatenate([world.val.lat_lon] * 2))


@pytest.mark.parametrize("head", ["cells", "coordinates"])
def test_pictures_that_tell_the_place_are_learnt(tmp_path, head):
    world = make_world(tmp_path / "world", train=96, val=24)
    how = optimized("adamw", "cosine", {"lr": 2e-3}, {"lr_min": 0.0})
    module = make_module(world, epochs=4, head=head, backbone="resnet18", optimization=how)
    data = make_data(world, batch_size=16, augmentation=Augmentation())
    fitted = fit(module, data, tmp_path / "work", epochs=4)
    sphere, middle = Geod(a=6371008.8, b=6371008.8), (LOW + HIGH) / 2
    constant = [sphere.inv(middle[1], middle[0], *place[::-1])[2] / 1000 for place in world.val.lat_lon]
    assert fitted.best["val_mean_km"] < 0.6 * np.mean(constant)

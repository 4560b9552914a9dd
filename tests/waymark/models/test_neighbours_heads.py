"""Heads that no gradient teaches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import HTRS, make_locator, make_world

from waymark.errors import ModelError
from waymark.geo import project
from waymark.images.batches import RecordLoaders
from waymark.metrics.functional import haversine_km
from waymark.models.heads import Cells, Joint, Neighbours, Prototypes, Softmax, TrainingPlaces
from waymark.models.heads.adapter import is_by_gradient
from waymark.models.heads.neighbours import Looks
from waymark.models.locator import Locator, load_locator
from waymark.models.neighbours import fit_whitening
from waymark.models.training.at_once import learn_at_once

PLACES = np.array([[45.0, 15.0], [45.1, 15.0], [44.0, 17.0], [46.0, 16.0]])
FEATURES = torch.tensor([[4.0, 0.0, 0.0], [2.0, 0.5, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
ASKED = torch.tensor([[9.0, 1.0, 0.0]])


def placed(**options):
    head = Neighbours(**options).build(3, cells=4, crs=HTRS)
    nowhere = np.full(4, -1)
    head.adapt(TrainingPlaces(PLACES, project(PLACES, HTRS), None, nowhere))
    head.learn(FEATURES, torch.full((4,), -1))
    return head


def asked(**options):
    head = placed(**options)
    return head.place(head(ASKED)).lat_lon[0]


def test_the_best_neighbour_is_that_of_the_smallest_angle():
    torch.testing.assert_close(asked(neighbours=1), torch.tensor([45.0, 15.0], dtype=torch.float64))
    torch.testing.assert_close(asked(neighbours=4, answer="best"), torch.tensor([45.0, 15.0], dtype=torch.float64))
    head = placed(neighbours=3)
    assert head.place(head(ASKED)).choice.tolist() == [0]
    assert head.cells_m(head(ASKED)).shape == (1, 3, 2)
    np.testing.assert_allclose(head.cells_deg(head(ASKED))[0, 0], PLACES[0], atol=1e-6)


def test_each_option_moves_the_answer():
    mean = {"answer": "mean", "temperature": 1.0, "neighbours": 3}
    few, many = asked(**{**mean, "neighbours": 2}), asked(**mean)
    assert haversine_km(few, many) > 20
    assert haversine_km(many, asked(**{**mean, "temperature": 0.05})) > 20
    assert haversine_km(many, asked(**{**mean, "answer": "median"})) > 20
    assert haversine_km(many, asked(**mean, whitening=0.01)) > 0.1


def test_a_mean_of_equal_weights_is_that_of_the_places():
    found = asked(neighbours=2, answer="mean", temperature=100.0)
    middle = project(PLACES[:2], HTRS).mean(axis=0)
    np.testing.assert_allclose(project(found[None].numpy(), HTRS)[0], middle, atol=5)


def test_more_neighbours_than_records_are_all_records():
    head = placed(neighbours=1000)
    assert head(ASKED).shape == (1, 8)


def test_features_are_whitened_as_a_probe_does_it():
    features = (
        torch.randn(200, 5, generator=torch.Generator().manual_seed(1)) * torch.tensor([9.0, 3.0, 1.0, 0.3, 0.1]) + 7
    )
    looks = Looks(5, 0.1)
    looks.learn(features)
    unit = torch.nn.functional.normalize(features, dim=1).numpy()
    np.testing.assert_allclose(looks(features), fit_whitening(unit).apply(unit, 0.1), atol=1e-4)
    with pytest.raises(ModelError, match="whitening needs two training records or more; set it to null"):
        Looks(5, 0.1).learn(features[:1])


@pytest.mark.parametrize("whitening", [None, 0.1])
def test_the_nearest_prototype_is_the_answer(whitening):
    features = torch.tensor([[3.0, 0.0, 0.1], [5.0, 0.2, 0.0], [0.0, 2.0, 0.0], [0.3, 4.0, 0.0], [0.0, 0.0, 9.0]])
    landmark = torch.tensor([0, 0, 1, 1, -2])
    head = Prototypes(whitening=whitening, background=1.0).build(3, landmarks=2)
    head.learn(features, landmark)
    scores = head.scores(head(features))
    assert scores.shape == (5, 2)
    assert scores[:4].argmax(dim=1).tolist() == [0, 0, 1, 1]
    assert (scores[4] < 0).all()  # more like those without a landmark
    plain = Prototypes(whitening=whitening).build(3, landmarks=2)
    plain.learn(features[:4], landmark[:4])
    assert (plain.scores(plain(features))[:4].max(dim=1).values > 0.5).all()


def test_two_heads_are_taught_in_one_way():
    assert not is_by_gradient(Joint(Neighbours(), Prototypes()))
    assert is_by_gradient(Joint(Cells(), Softmax()))
    with pytest.raises(ModelError, match="epochs teach one of the two heads of joint"):
        is_by_gradient(Joint(Neighbours(), Softmax()))


@pytest.mark.slow
def test_a_locator_learns_at_once_and_its_checkpoint_answers_the_same(tmp_path):
    world = make_world(tmp_path / "shards", train=40, val=10)
    config = replace(
        make_locator(world).config, head=Joint(Neighbours(neighbours=3, whitening=0.1), Prototypes()), classes=40,
        landmarks=("a", "b"), landmark_names=("a", "b"), backbone="test_resnet",
    )  # fmt: skip
    torch.manual_seed(1)
    locator = Locator(config)
    locator.mean.fill_(128.0)
    locator.std.fill_(60.0)
    locator.place_head.adapt(TrainingPlaces(world.train.lat_lon, world.train.xy_m, None, world.train.label))
    train, val = (replace(part, landmark=(part.lat_lon[:, 0] > 45).astype(np.int64)) for part in world[:2])
    fitted = learn_at_once(locator, RecordLoaders(world.shards, config.slots, 8), train, val)
    constant = haversine_km(torch.tensor(val.lat_lon), torch.tensor(train.lat_lon).median(dim=0).values).mean()
    assert fitted.best["val_mean_km"] < 0.6 * constant
    assert fitted.best["val_top1"] > 0.8
    locator.save(tmp_path / "model.ckpt")
    again = load_locator(tmp_path / "model.ckpt")
    batch = next(iter(RecordLoaders(world.shards, config.slots, 8).evaluation(val)))
    with torch.inference_mode():
        one, other = (each.eval()(batch.views, batch.present) for each in (locator, again))
    assert torch.equal(one.place, other.place)
    assert torch.equal(one.landmark, other.landmark)

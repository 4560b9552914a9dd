"""What every head promises, and the heads over cells; coordinates have a file of their own."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from waymark.errors import ModelError
from waymark.geo import project, unproject
from waymark.images.batches import Batch
from waymark.models import decoding
from waymark.models.decoding import geometric_median, highest_score, mean_position
from waymark.models.heads import CellsHead, HybridHead, PlaceOptions
from waymark.models.heads.adapter import to_lat_lon
from waymark.models.heads.cells import cell_positions, diagonal_km, smoothed_labels
from waymark.models.heads.hybrid import cell_boxes

HTRS = "EPSG:3765"
NAN = float("nan")
IDS = np.array([3, 8, 9, 30])
POSITIONS = np.array([[400e3, 5000e3], [500e3, 5050e3], [450e3, 4900e3], [600e3, 5100e3]])
HALF = np.array([[30e3, 30e3], [30e3, 20e3], [40e3, 40e3], [10e3, 10e3]])
MIDDLES = POSITIONS - np.array(
    [[5e3, -5e3], [0, 0], [-9e3, 3e3], [2e3, 2e3]]
)  # a cell's records rarely lie around its middle
BOXES = np.stack([MIDDLES - HALF, MIDDLES + HALF], axis=1)
TRAIN = unproject([[400e3, 4880e3], [610e3, 5120e3]], HTRS)
OUTPUTS = {"cells": 4, "hybrid": 12}


def batch_of(xy_m=None, label=None, dtype=torch.float64):
    rows = len(label if xy_m is None else xy_m)
    nowhere = torch.full((rows, 2), NAN, dtype=torch.float64)
    xy_m = nowhere if xy_m is None else torch.tensor(np.asarray(xy_m), dtype=dtype)
    label = torch.full((rows,), -1) if label is None else torch.tensor(label)
    return Batch(torch.empty(rows, 0), torch.empty(rows, 0), to_lat_lon(xy_m, HTRS), xy_m, label, label)


def cell_head(name="cells", width=5, **options):
    torch.manual_seed(1)
    head = PlaceOptions.choose(name, **options).build(width, cells=4, crs=HTRS)
    head.set_cells(IDS, POSITIONS, TRAIN)
    if name == "hybrid":
        head.set_boxes(BOXES)
    return head


def raw(name="cells", rows=200, scale=3.0):
    return torch.randn(rows, OUTPUTS[name], generator=torch.Generator().manual_seed(1)) * scale


def answers_m(head, output):
    return project(head.place(output).lat_lon.numpy(), HTRS, anywhere=True)


def chances_of(output):
    odds = output[:, :4].double().exp()
    return (odds / odds.sum(dim=1, keepdim=True)).numpy()


def test_an_unknown_head_is_named():
    assert set(PlaceOptions.alternatives()) == {"cells", "hybrid", "coordinates", "neighbours"}
    with pytest.raises(ModelError, match="unknown head 'cell'; did you mean 'cells'"):
        PlaceOptions.choose("cell")


def test_the_loss_of_cells_is_torchs_over_records_with_a_class():
    output, label = raw(rows=6), [2, -1, 0, 3, -1, 2]
    known = [0, 2, 3, 5]
    chances = output[known].double().exp() / output[known].double().exp().sum(dim=1, keepdim=True)
    by_hand = -torch.stack([chances[row, label[record]].log() for row, record in enumerate(known)]).mean()
    batch = batch_of(label=label)
    assert cell_head().known(batch).tolist() == [True, False, True, True, False, True]
    assert cell_head().loss(output, batch).item() == pytest.approx(by_hand.item(), rel=1e-6)
    torch.testing.assert_close(cell_head().loss(output, batch), F.cross_entropy(output, batch.label, ignore_index=-1))


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("smoothing_km", [None, 50.0])
def test_a_batch_without_any_truth_costs_nothing_and_teaches_nothing(name, smoothing_km):
    head = cell_head(name, smoothing_km=smoothing_km)
    features = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
    loss = head.loss(head(features), batch_of(label=[-1, -1, -1]))
    loss.backward()
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in head.parameters())


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("smoothing_km", [None, 1e-3, 50.0])
def test_gradients_are_finite_also_beside_records_without_a_class(name, smoothing_km):
    head = cell_head(name, smoothing_km=smoothing_km)
    features = torch.randn(4, 5, generator=torch.Generator().manual_seed(2)) * 50
    truth = [*POSITIONS[:3], [NAN, NAN]]  # a record right upon its cell's position among them
    head.loss(head(features), batch_of(truth, [0, 1, 2, -1])).backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert any((parameter.grad != 0).any() for parameter in head.parameters())


def test_cells_answer_with_the_mean_by_probability():
    output = raw()
    place = cell_head().place(output)
    expected = np.stack([sum(chance[cell] * POSITIONS[cell] for cell in range(4)) for chance in chances_of(output)])
    np.testing.assert_allclose(place.lat_lon.numpy(), unproject(expected, HTRS), atol=2e-9)
    assert place.choice.tolist() == output.numpy().argmax(axis=1).tolist()
    assert place.lat_lon.dtype == torch.float64


@pytest.mark.parametrize("name", OUTPUTS)
def test_each_answer_is_that_of_its_decoder(name):
    output = raw(name, 40, 0.6)
    head = cell_head(name)
    chances, cells_m = torch.tensor(chances_of(output)), head.cells_m(output)
    cells_deg = head.cells_deg(output)
    score = {"answer": "score", "score_km": 200.0}
    answers = {
        "mean": to_lat_lon(mean_position(chances, cells_m), HTRS),
        "best": cells_deg[chances.argmax(dim=1)]
        if name == "cells"
        else torch.stack([own[best] for own, best in zip(cells_deg, chances.argmax(dim=1), strict=True)]),
        "median": to_lat_lon(geometric_median(chances, cells_m), HTRS),
        "score": highest_score(chances, cells_deg, 200.0),
    }
    for answer, expected in answers.items():
        options = score if answer == "score" else {"answer": answer}
        place = cell_head(name, **options).place(output)
        torch.testing.assert_close(place.lat_lon, expected, rtol=0, atol=1e-5)
        assert place.choice.tolist() == output[:, :4].argmax(dim=1).tolist()
    places = list(answers.values())
    assert all((one - other).abs().amax() > 0.02 for row, one in enumerate(places) for other in places[:row])


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("answer", ["mean", "median", "score"])
def test_answers_do_not_depend_on_the_records_beside_nor_on_chunks(name, answer, monkeypatch):
    output = raw(name, 30)
    together = cell_head(name, answer=answer).place(output).lat_lon
    monkeypatch.setattr(decoding, "CHUNK", 4 * OUTPUTS[name])
    torch.testing.assert_close(cell_head(name, answer=answer).place(output).lat_lon, together, rtol=0, atol=1e-5)
    assert cell_head(name, answer=answer).place(output[:0]).lat_lon.shape == (0, 2)


@pytest.mark.parametrize("answer", ["mean", "best", "median", "score"])
def test_cells_reach_every_cell_and_stay_in_the_hull(answer):
    head = cell_head(answer=answer)
    for label in range(4):
        head.linear.weight.data.zero_()
        head.linear.bias.data.copy_(F.one_hot(torch.tensor(label), 4) * 60.0)
        np.testing.assert_allclose(answers_m(head, head(torch.zeros(1, 5)))[0], POSITIONS[label], atol=0.5)
    found = answers_m(head, raw(scale=8.0))
    hull = POSITIONS[[0, 2, 3, 1]]  # its corners counter-clockwise
    slack_m = 300 if answer == "score" else 1  # great circles are no straight lines in the CRS
    for corner, following in zip(hull, np.roll(hull, -1, axis=0), strict=True):
        edge, arm = following - corner, found - corner
        assert (edge[0] * arm[:, 1] - edge[1] * arm[:, 0] >= -slack_m * np.hypot(*edge)).all()


def test_the_scale_of_the_score_is_a_tenth_of_the_training_records_diagonal_or_the_given_one():
    head = cell_head(answer="score")
    assert float(head.scale_km) == pytest.approx(diagonal_km(TRAIN) / 10)
    assert float(cell_head(answer="score", score_km=33.0).scale_km) == 33.0
    assert diagonal_km(TRAIN) == pytest.approx(319, abs=3)  # 210 by 240 km
    assert diagonal_km([[-17.0, 179.5], [-17.0, -179.5]]) == pytest.approx(106.3, abs=0.2)
    assert diagonal_km([[0.0, -170.0], [0.0, -60.0], [0.0, 60.0], [0.0, 170.0]]) == pytest.approx(math.pi * 6371.0088)
    output = raw(scale=1.0)
    narrow, wide = (cell_head(answer="score", score_km=scale).place(output).lat_lon for scale in (5.0, 500.0))
    assert (narrow - wide).abs().amax() > 0.2


@pytest.mark.parametrize("answer", ["mean", "best", "median"])
def test_a_scale_that_would_do_nothing_is_refused(answer):
    with pytest.raises(ModelError, match="score_km does nothing"):
        cell_head(answer=answer, score_km=40.0)


def haversine_by_hand(one, other):
    """The textbook's formula, in NumPy."""
    (latitude, longitude), (latitude_2, longitude_2) = np.radians(one), np.radians(other)
    half = np.sin((latitude_2 - latitude) / 2) ** 2
    half += np.cos(latitude) * np.cos(latitude_2) * np.sin((longitude_2 - longitude) / 2) ** 2
    return 2 * 6371.0088 * np.arcsin(np.sqrt(half))


@pytest.mark.parametrize("tau_km", [20.0, 65.0, 500.0])
def test_smoothed_labels_are_those_of_the_paper(tau_km):
    generator = np.random.default_rng(1)
    places = generator.uniform((43, 14), (46, 18), (9, 2))
    label = generator.integers(0, 4, 9)
    cells = unproject(POSITIONS, HTRS)
    soft = []
    for place, own in zip(places, label, strict=True):
        distance = np.array([haversine_by_hand(place, cell) for cell in cells])
        weight = np.exp(-(distance - distance[own]) / tau_km)
        soft.append(weight / weight.sum())
    found = smoothed_labels(torch.tensor(places), torch.tensor(label), torch.tensor(cells), tau_km)
    np.testing.assert_allclose(found.numpy(), soft, rtol=1e-9)
    truth = project(places, HTRS, anywhere=True)
    output = raw(rows=9, scale=1.0)
    by_hand = -(np.array(soft) * np.log(chances_of(output))).sum(axis=1).mean()
    loss = cell_head(smoothing_km=tau_km).loss(output, batch_of(truth, label))
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("name", OUTPUTS)
def test_without_smoothing_the_limit_is_the_hard_label(name):
    generator = np.random.default_rng(2)
    label = generator.integers(0, 4, 12)
    truth = POSITIONS[label] + generator.uniform(-20e3, 20e3, (12, 2))  # nearest to their own cell's position
    output = raw(name, 12)
    hard = cell_head(name).loss(output, batch_of(truth, label))
    losses = [cell_head(name, smoothing_km=tau).loss(output, batch_of(truth, label)) for tau in (1e-3, 0.1, 100.0)]
    torch.testing.assert_close(losses[0], hard)
    torch.testing.assert_close(losses[1], hard)
    assert abs(losses[2] - hard) > 0.1


def test_smoothing_has_no_say_in_which_records_count():
    output, truth = raw(rows=3), [POSITIONS[0], POSITIONS[1], [NAN, NAN]]
    head = cell_head(smoothing_km=50.0)
    expected = head.loss(output[:2], batch_of(truth[:2], [0, 1]))
    torch.testing.assert_close(head.loss(output, batch_of(truth, [0, 1, -1])), expected)


def test_positions_are_the_means_of_training_records_or_the_clipped_centres():
    cell = np.array([9, 3, 9, 3, 5])
    xy_m = np.array([[1.0, 2.0], [10.0, 20.0], [3.0, 6.0], [20.0, 40.0], [7.0, 7.0]])
    centres_m = np.arange(20.0).reshape(10, 2) * 100
    kept = np.array([3, 5, 9])
    means = cell_positions(kept, cell, xy_m, centres_m, "training")
    np.testing.assert_array_equal(means, [[15.0, 30.0], [7.0, 7.0], [2.0, 4.0]])
    centres = cell_positions(kept, cell, xy_m, centres_m, "centre")
    np.testing.assert_array_equal(centres, [[600.0, 700.0], [1000.0, 1100.0], [1800.0, 1900.0]])


def test_boxes_are_the_cells_bounds_and_hold_their_training_records():
    bounds_m = np.array([[0, 0, 1, 1], [10, 10, 20, 20], [20, 10, 30, 20]], dtype=np.float64)
    boxes = cell_boxes(
        np.array([1, 2]), np.array([2, 1, 1]), np.array([[25.0, 15.0], [9.0, 12.0], [12.0, 21.0]]), bounds_m
    )
    np.testing.assert_array_equal(boxes, [[[9, 10], [20, 21]], [[20, 10], [30, 20]]])


def test_an_untrained_hybrid_answers_as_cells_do():
    hybrid = cell_head("hybrid")
    features = torch.randn(20, 5, generator=torch.Generator().manual_seed(3))
    output = hybrid(features)
    assert output.shape == (20, 12)
    torch.testing.assert_close(hybrid.place(output).lat_lon, cell_head().place(output[:, :4]).lat_lon)
    np.testing.assert_array_equal(hybrid.cells_m(output)[7].detach().numpy(), POSITIONS)


def hybrid_output(label, xy_m):
    """The output that is sure of a cell and says a place in it, from the definition of the offset."""
    output = torch.zeros(1, 12, dtype=torch.float64)
    output[0, label] = 80.0
    output[0, 4 + 2 * label : 6 + 2 * label] = torch.tensor((np.asarray(xy_m) - POSITIONS[label]) / HALF[label])
    return output


@pytest.mark.parametrize("answer", ["mean", "best", "median", "score"])
def test_the_hybrid_reaches_every_place_of_every_cell_and_never_leaves_it(answer):
    head, generator = cell_head("hybrid", answer=answer), np.random.default_rng(3)
    for label in range(4):
        low, high = BOXES[label]
        corners = [[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])]
        for truth in [*corners, *generator.uniform(low, high, (3, 2))]:
            output = hybrid_output(label, truth)
            np.testing.assert_allclose(answers_m(head, output)[0], truth, atol=0.1)
            ce_alone = F.cross_entropy(output[:, :4], torch.tensor([label]))
            assert head.loss(output, batch_of([truth], [label])) == pytest.approx(ce_alone.item(), abs=1e-9)
        beyond = hybrid_output(label, high + 1e7)
        np.testing.assert_allclose(answers_m(head, beyond)[0], high, atol=0.1)


def test_the_hybrids_loss_is_cross_entropy_and_a_smooth_l1_of_the_true_cells_offset():
    output, label = raw("hybrid", 3), [1, -1, 2]
    truth = np.array([POSITIONS[1] + [6e3, -30e3], [NAN, NAN], POSITIONS[2] + [-10e3, 20e3]])
    by_hand = []
    for row, target in ((0, [0.2, -1.5]), (2, [-0.25, 0.5])):
        said = output[row, 4 + 2 * label[row] : 6 + 2 * label[row]].numpy()
        off = np.abs(said - target)
        by_hand += [0.5 * one**2 if one < 1 else one - 0.5 for one in off]
    ce = F.cross_entropy(output[[0, 2], :4], torch.tensor([1, 2])).item()
    for weight in (0.0, 1.0, 4.0):
        loss = cell_head("hybrid", offset_weight=weight).loss(output, batch_of(truth, label))
        assert loss.item() == pytest.approx(ce + weight * np.mean(by_hand), rel=1e-5)


def test_only_the_true_cells_offset_learns():
    head = cell_head("hybrid")
    output = head(torch.ones(1, 5)).detach().requires_grad_()
    head.loss(output, batch_of([POSITIONS[2] + 9e3], [2])).backward()
    moved = output.grad[0, 4:].view(4, 2) != 0
    assert moved.tolist() == [[False, False], [False, False], [True, True], [False, False]]


@pytest.mark.parametrize("answer", ["mean", "best"])
def test_training_takes_the_hybrid_to_the_corners_of_its_cells(answer):
    head = cell_head("hybrid", width=4, answer=answer)
    truth, features = np.array([BOXES[cell, [cell % 2, cell // 2], [0, 1]] for cell in range(4)]), torch.eye(4)
    batch = batch_of(truth, [0, 1, 2, 3])
    optimizer = torch.optim.SGD(head.parameters(), lr=2.0, momentum=0.9)
    for _ in range(600):
        optimizer.zero_grad()
        head.loss(head(features), batch).backward()
        optimizer.step()
    off_m = np.hypot(*(answers_m(head, head(features)) - truth).T)
    assert off_m.max() < (1e3 if answer == "mean" else 50)


def test_an_answer_off_the_map_is_brought_to_its_edge_and_no_number_stays_none():
    laea = "+proj=laea +lat_0=45 +lon_0=16 +datum=WGS84 +units=m +no_defs +type=crs"
    found = to_lat_lon(torch.tensor([[9e6, 9.1e6], [5e7, 0.0], [NAN, 1.0], [1e5, 1e5]]).double(), laea)
    assert found[[0, 1, 3]].isfinite().all()
    assert found[2].isnan().all()
    np.testing.assert_allclose(found[3].numpy(), unproject([[1e5, 1e5]], laea)[0])
    assert isinstance(cell_head(), CellsHead)
    assert isinstance(cell_head("hybrid"), HybridHead)

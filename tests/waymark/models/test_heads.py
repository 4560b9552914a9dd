import numpy as np
import pytest
import torch
from torch.nn import functional as F

from waymark.images.datamodule import Batch
from waymark.models.heads import CellsHead, CoordinatesHead
from waymark.models.heads.cells import cell_positions

NAN = float("nan")
POSITIONS = np.array([[400e3, 5000e3], [500e3, 5050e3], [450e3, 4900e3], [700e3, 5100e3]])
TRAIN = np.array(
    [[300e3, 4800e3], [700e3, 5100e3], [500e3, 5000e3]]
)  # 400 km from west to east, 300 from south to north
BOUNDS = np.array([[290e3, 4750e3], [720e3, 5150e3]])


def batch_of(xy_m=None, label=None):
    rows = len(label if xy_m is None else xy_m)
    xy_m = torch.full((rows, 2), NAN, dtype=torch.float64) if xy_m is None else torch.tensor(xy_m, dtype=torch.float64)
    label = torch.full((rows,), -1) if label is None else torch.tensor(label)
    return Batch(torch.empty(rows, 0), torch.empty(rows, 0), torch.empty(rows, 2), xy_m, label)


def cells_head(answer="mean"):
    head = CellsHead(5, 4, answer=answer)
    head.remember(np.array([3, 8, 9, 30]), POSITIONS)
    return head


def coordinates_head(scaling="isotropic"):
    head = CoordinatesHead(5)
    head.remember(TRAIN, BOUNDS, scaling)
    return head


def logits(rows=200, scale=3.0):
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(1)) * scale


def scaled(head, xy_m):
    """What the network would have to say for a place, found by moving the raw output until the answer fits."""
    zero, one = head.place(torch.zeros(1, 2)).xy_m, head.place(torch.full((1, 2), 0.1)).xy_m
    return ((torch.tensor(xy_m, dtype=torch.float64) - zero) / (one - zero) * 0.1).float()


def test_the_loss_of_cells_is_torchs_over_records_with_a_class():
    output, label = logits(6), [2, -1, 0, 3, -1, 2]
    known = [0, 2, 3, 5]
    chances = output[known].double().exp() / output[known].double().exp().sum(dim=1, keepdim=True)
    by_hand = -torch.stack([chances[row, label[record]].log() for row, record in enumerate(known)]).mean()
    batch = batch_of(label=label)
    assert cells_head().known(batch).tolist() == [True, False, True, True, False, True]
    assert cells_head().loss(output, batch).item() == pytest.approx(by_hand.item(), rel=1e-6)
    torch.testing.assert_close(cells_head().loss(output, batch), F.cross_entropy(output, batch.label, ignore_index=-1))


@pytest.mark.parametrize("head", [cells_head(), coordinates_head()])
def test_a_batch_without_any_truth_costs_nothing_and_teaches_nothing(head):
    features = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
    loss = head.loss(head(features), batch_of(label=[-1, -1, -1]))
    loss.backward()
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in head.parameters())


def test_cells_answer_with_the_mean_by_probability():
    output = logits()
    chances = torch.softmax(output.double(), dim=1).numpy()
    place = cells_head().place(output)
    expected = np.stack([sum(chance[cell] * POSITIONS[cell] for cell in range(4)) for chance in chances])
    np.testing.assert_allclose(place.xy_m.numpy(), expected, rtol=1e-12)
    assert place.choice.tolist() == output.numpy().argmax(axis=1).tolist()
    assert place.xy_m.dtype == torch.float64


def test_cells_answer_with_the_best_alone():
    output = logits()
    place = cells_head("best").place(output)
    np.testing.assert_array_equal(place.xy_m.numpy(), POSITIONS[output.numpy().argmax(axis=1)])
    assert place.choice.tolist() == output.numpy().argmax(axis=1).tolist()


@pytest.mark.parametrize("answer", ["mean", "best"])
def test_cells_reach_every_cell_and_stay_in_the_hull(answer):
    head = cells_head(answer)
    for label in range(4):
        head.linear.weight.data.zero_()
        head.linear.bias.data.copy_(F.one_hot(torch.tensor(label), 4) * 60.0)
        np.testing.assert_allclose(
            head.place(head(torch.zeros(1, 5)).detach()).xy_m.numpy()[0], POSITIONS[label], atol=1e-3
        )
    found = head.place(logits(500, 8.0)).xy_m.numpy()
    hull = POSITIONS[[0, 2, 3, 1]]  # its corners counter-clockwise
    for corner, following in zip(hull, np.roll(hull, -1, axis=0), strict=True):
        edge, arm = following - corner, found - corner
        assert (edge[0] * arm[:, 1] - edge[1] * arm[:, 0] >= -1e-3 * np.hypot(*edge)).all()


def test_positions_are_the_means_of_training_records_or_the_clipped_centres():
    cell = np.array([9, 3, 9, 3, 5])
    xy_m = np.array([[1.0, 2.0], [10.0, 20.0], [3.0, 6.0], [20.0, 40.0], [7.0, 7.0]])
    centres_m = np.arange(20.0).reshape(10, 2) * 100
    kept = np.array([3, 5, 9])
    means = cell_positions(kept, cell, xy_m, centres_m, "training")
    np.testing.assert_array_equal(means, [[15.0, 30.0], [7.0, 7.0], [2.0, 4.0]])
    centres = cell_positions(kept, cell, xy_m, centres_m, "centre")
    np.testing.assert_array_equal(centres, [[600.0, 700.0], [1000.0, 1100.0], [1800.0, 1900.0]])


@pytest.mark.parametrize("scaling", ["isotropic", "per_axis"])
def test_coordinates_there_and_back(scaling):
    """The loss of an output is zero exactly where its answer is the truth."""
    head = coordinates_head(scaling)
    truth = np.random.default_rng(1).uniform(*BOUNDS, (50, 2))
    output = scaled(head, truth)
    np.testing.assert_allclose(head.place(output).xy_m.numpy(), truth, atol=0.5)  # float32 of 400 km
    assert head.loss(output, batch_of(truth)).item() < 1e-11


def test_isotropic_scaling_takes_the_longer_side_to_minus_one_and_one_and_a_metre_costs_the_same_in_both():
    head = coordinates_head()
    output = scaled(head, [[500e3, 4950e3]])
    torch.testing.assert_close(output, torch.zeros(1, 2), rtol=0, atol=1e-6)
    torch.testing.assert_close(scaled(head, TRAIN[1:2])[0, 0], torch.tensor(1.0))
    east, north = (head.loss(output, batch_of([[500e3 + x, 4950e3 + y]])).item() for x, y in ((40e3, 0), (0, 40e3)))
    assert east == pytest.approx(north, rel=1e-5)
    assert east == pytest.approx((40 / 200) ** 2 / 2, rel=1e-5)


def test_per_axis_scaling_takes_each_axis_to_zero_and_one():
    head = coordinates_head("per_axis")
    torch.testing.assert_close(scaled(head, TRAIN[:2]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    middle = scaled(head, [[500e3, 4950e3]])
    east, north = (head.loss(middle, batch_of([[500e3 + x, 4950e3 + y]])).item() for x, y in ((40e3, 0), (0, 40e3)))
    assert north / east == pytest.approx((4 / 3) ** 2, rel=1e-5)


@pytest.mark.parametrize("scaling", ["isotropic", "per_axis"])
def test_coordinates_reach_every_corner_of_the_region_and_never_leave_it(scaling):
    head = coordinates_head(scaling)
    for corner in ([BOUNDS[x, 0], BOUNDS[y, 1]] for x in (0, 1) for y in (0, 1)):
        head.linear.weight.data.zero_()
        head.linear.bias.data.copy_(scaled(head, [corner])[0])
        np.testing.assert_allclose(head.place(head(torch.ones(1, 5)).detach()).xy_m.numpy(), [corner], atol=0.5)
    wild = torch.tensor([[-9.0, 0.0], [9.0, 9.0], [0.0, -1e9]])
    found = head.place(wild).xy_m.numpy()
    assert (found >= BOUNDS[0]).all()
    assert (found <= BOUNDS[1]).all()
    assert (head.place(wild).choice == -1).all()


def test_outside_the_bounds_the_gradient_of_coordinates_still_leads_back():
    head = coordinates_head()
    output = torch.full((1, 2), 5.0, requires_grad=True)
    head.loss(output, batch_of(TRAIN[:1])).backward()
    assert (output.grad > 0).all()


def test_records_without_coordinates_do_not_count():
    head, output = coordinates_head(), torch.randn(3, 2, generator=torch.Generator().manual_seed(3))
    truth = np.array([[400e3, 5000e3], [NAN, NAN], [600e3, 4900e3]])
    assert head.known(batch_of(truth)).tolist() == [True, False, True]
    expected = head.loss(output[[0, 2]], batch_of(truth[[0, 2]]))
    torch.testing.assert_close(head.loss(output, batch_of(truth)), expected)
    squares = (output[[0, 2]] - scaled(head, truth[[0, 2]])) ** 2
    torch.testing.assert_close(expected, squares.mean(), rtol=1e-5, atol=1e-7)


def test_one_single_training_place_does_not_divide_by_zero():
    for scaling in ("isotropic", "per_axis"):
        head = CoordinatesHead(5)
        head.remember(TRAIN[:1], BOUNDS, scaling)
        assert head.loss(torch.zeros(1, 2), batch_of(TRAIN[:1])).isfinite()

"""Margins and losses against the papers' formulas, written again in NumPy and from the angle."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from waymark.errors import ModelError
from waymark.models.losses import (
    adacos_scale,
    arcface_logits,
    cosface_logits,
    dynamic_margins,
    sphereface_logits,
    subcentre_cosines,
)

SCALE = 30.0
CIRCLE = np.linspace(0, 2 * np.pi, 721)  # both ends and every half degree
HALVES = (torch.float16, torch.bfloat16)


def arcface(angle, margin):
    theta = np.arccos(np.cos(angle))
    return np.where(theta <= np.pi - margin, np.cos(theta + margin), np.cos(theta) - margin * np.sin(margin))


def cosface(angle, margin):
    return np.cos(angle) - margin


def sphereface(angle, margin):
    theta = np.arccos(np.cos(angle))
    found = np.full(theta.shape, np.nan)
    for k in range(math.ceil(margin)):
        inside = (theta >= k * np.pi / margin) & (theta <= (k + 1) * np.pi / margin)
        found[inside] = (-1) ** k * np.cos(margin * theta[inside]) - 2 * k
    return found


def logits_of(name, cosine, target, margin, scale=SCALE):
    if name == "arcface":
        return arcface_logits(cosine, target, scale=scale, margin_rad=margin)
    losses = {"cosface": cosface_logits, "sphereface": sphereface_logits}
    return losses[name](cosine, target, scale=scale, margin=margin)


FORMULAS = {"arcface": arcface, "cosface": cosface, "sphereface": sphereface}
CASES = [
    *[("arcface", margin) for margin in (0.0, 0.1, 0.3, 0.5, 1.0, 1.5)],
    *[("cosface", margin) for margin in (0.0, 0.35)],
    *[("sphereface", margin) for margin in (1.0, 1.35, 2.0, 2.5, 3.0, 4.0)],
]
USUAL = [("arcface", 0.5), ("cosface", 0.35), ("sphereface", 1.5), ("sphereface", 4.0)]


@pytest.mark.parametrize(("name", "margin"), CASES)
def test_the_target_gets_the_formula_over_the_whole_circle_and_the_others_the_scale_alone(name, margin):
    cosine = torch.tensor(np.cos(np.stack([CIRCLE, CIRCLE + 1, CIRCLE + 2], axis=1)))
    target = torch.arange(len(CIRCLE)) % 3
    angles = CIRCLE[:, None] + np.arange(3)
    expected = SCALE * np.cos(angles)
    own = np.eye(3, dtype=bool)[target.numpy()]
    expected[own] = SCALE * FORMULAS[name](angles[own], margin)
    near_edge = np.abs(np.arccos(np.cos(angles[own])) - (np.pi - margin)) < 1e-6  # where arcface jumps
    found = logits_of(name, cosine, target, margin)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy()[~near_edge], expected[~near_edge], atol=1e-5)
    single = logits_of(name, cosine.float(), target, margin)
    assert single.dtype == torch.float32
    away = np.abs(np.arccos(np.cos(angles[own])) - (np.pi - margin)) > 1e-3
    np.testing.assert_allclose(single.numpy()[away], expected[away], atol=2e-3)  # float32 cosines are that coarse


@pytest.mark.parametrize("margin", [0.05, 0.5, 1.2])
def test_arcface_takes_the_other_way_beyond_pi_less_the_margin_and_never_rises(margin):
    edge = math.pi - margin
    angles = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    logits = arcface_logits(angles.cos()[:, None], torch.zeros(2001, dtype=torch.int64), scale=1.0, margin_rad=margin)
    assert (logits.diff(dim=0) < 0).all()  # cos(theta + m) alone rises beyond the edge
    just = torch.tensor([[math.cos(edge - 1e-4)], [math.cos(edge + 1e-4)]], dtype=torch.float64)
    before, after = arcface_logits(just, torch.tensor([0, 0]), scale=1.0, margin_rad=margin)[:, 0].tolist()
    assert before == pytest.approx(-1, abs=1e-7)
    assert after == pytest.approx(-math.cos(margin) - margin * math.sin(margin), abs=1e-3)


@pytest.mark.parametrize("margin", [1.2, 2.0, 4.0])
def test_spherefaces_falls_without_a_jump(margin):
    angles = torch.linspace(0, math.pi, 4001, dtype=torch.float64)
    logits = sphereface_logits(angles.cos()[:, None], torch.zeros(4001, dtype=torch.int64), scale=1.0, margin=margin)
    steps = logits.diff(dim=0)
    assert (steps < 1e-12).all()
    assert steps.abs().max() < 2 * margin * math.pi / 4000


def test_sphereface_with_a_whole_margin_is_its_chebyshev_polynomial():
    cosine = np.cos(np.linspace(0, np.pi, 101))
    turns = np.minimum(np.floor(np.linspace(0, 4, 101)), 3)
    expected = (-1) ** turns * np.polynomial.chebyshev.chebval(cosine, [0, 0, 0, 0, 1]) - 2 * turns
    found = sphereface_logits(torch.tensor(cosine)[:, None], torch.zeros(101, dtype=torch.int64), scale=1.0, margin=4.0)
    np.testing.assert_allclose(found[:, 0].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(("name", "margin"), USUAL)
def test_a_margin_of_each_class_is_that_of_the_target(name, margin):
    cosine = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    target = torch.tensor([0, 1, 2, 2, 1, 0])
    margins = torch.tensor([margin, 1.0, margin * 0.8 + 0.2])
    found = logits_of(name, cosine, target, margins)
    each = [logits_of(name, cosine[[row]], target[[row]], float(margins[target[row]])) for row in range(6)]
    torch.testing.assert_close(found, torch.cat(each))
    assert not torch.allclose(found, logits_of(name, cosine, target, margin))


@pytest.mark.parametrize(("name", "margin"), USUAL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALVES])
@pytest.mark.parametrize("end", [1.0, -1.0, 1.0 + 1e-3, -1.0 - 1e-3])
def test_values_and_gradients_are_finite_at_both_ends_and_beyond_by_rounding(name, margin, dtype, end):
    cosine = torch.tensor([[end, 0.25], [0.25, end]], dtype=dtype, requires_grad=True)
    logits = logits_of(name, cosine, torch.tensor([0, 0]), margin)
    assert logits.dtype == torch.promote_types(dtype, torch.float32)
    F.cross_entropy(logits, torch.tensor([0, 0])).backward()
    assert logits.isfinite().all()
    assert cosine.grad.isfinite().all()
    assert logits[0, 0].item() == pytest.approx(
        SCALE * FORMULAS[name](np.arccos(np.clip(end, -1, 1)), margin), abs=1e-4
    )


@pytest.mark.parametrize(("name", "margin"), USUAL)
def test_gradients_are_those_of_the_formula(name, margin):
    angles = torch.linspace(0.05, math.pi - 0.05, 60, dtype=torch.float64)
    cosine = angles.cos()[:, None].requires_grad_()
    logits_of(name, cosine, torch.zeros(60, dtype=torch.int64), margin, scale=1.0).sum().backward()
    angles = angles.numpy()
    slope = (FORMULAS[name](angles + 1e-6, margin) - FORMULAS[name](angles - 1e-6, margin)) / 2e-6
    np.testing.assert_allclose(cosine.grad[:, 0].numpy(), slope / -np.sin(angles), atol=1e-4)


@pytest.mark.parametrize(("name", "margin"), USUAL)
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_cosines_are_moved_in_float32(name, margin, dtype):
    cosine = torch.tensor(np.cos(np.linspace(0.01, 3.0, 50)))[:, None].to(dtype)
    target = torch.zeros(50, dtype=torch.int64)
    found = logits_of(name, cosine, target, margin)
    exact = SCALE * FORMULAS[name](np.arccos(cosine.double().numpy()), margin)
    np.testing.assert_allclose(found.numpy(), exact, atol=1e-3)
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(logits_of(name, cosine, target, margin), found, rtol=0, atol=0)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("target", [[0, 3], [-1, 0], [7, 9]])
def test_a_target_that_is_no_class_is_refused(name, target):
    wrong = next(one for one in target if not 0 <= one < 3)
    with pytest.raises(ModelError, match=f"target {wrong} is none of 3 classes"):
        logits_of(name, torch.zeros(2, 3), torch.tensor(target), 1.0)
    with pytest.raises(ModelError, match="one for each"):
        logits_of(name, torch.zeros(2, 3), torch.tensor([1]), 1.0)


@pytest.mark.parametrize("name", FORMULAS)
def test_no_records_give_no_logits(name):
    assert logits_of(name, torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 1.0).shape == (0, 3)


def test_dynamic_margins_are_those_of_the_third_places_code():
    counts = np.array([1, 3, 17, 250, 6272, 2])
    shares = np.sqrt(1 / np.sqrt(counts))
    expected = (shares - shares.min()) / (shares.max() - shares.min()) * 0.45 + 0.05
    found = dynamic_margins(torch.from_numpy(counts))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-7)
    wide = dynamic_margins(torch.from_numpy(counts), low=0.2, high=1.0)
    np.testing.assert_allclose(wide.numpy(), (expected - 0.05) / 0.45 * 0.8 + 0.2, atol=1e-6)
    assert (dynamic_margins(torch.from_numpy(counts), power=-1.0)[[1, 2, 5]] < found[[1, 2, 5]]).all()


def test_classes_that_are_all_alike_and_one_without_images_have_margins_too():
    np.testing.assert_allclose(dynamic_margins(torch.tensor([7, 7, 7])).numpy(), 0.275, atol=1e-7)
    np.testing.assert_allclose(dynamic_margins(torch.tensor([7])).numpy(), 0.275, atol=1e-7)
    np.testing.assert_allclose(dynamic_margins(torch.tensor([0, 1, 9])).numpy(), [0.5, 0.5, 0.05], atol=1e-7)


def test_the_scale_of_adacos():
    assert adacos_scale(1001) == pytest.approx(2**0.5 * math.log(1000))
    assert adacos_scale(1) == adacos_scale(2) == adacos_scale(3) == pytest.approx(0.980258)


def test_subcentres_give_the_best_cosine_of_each_class():
    generator = np.random.default_rng(1)
    features, centres = generator.normal(size=(5, 4)) * 7, generator.normal(size=(3, 2, 4)) * 0.1
    unit, units = (array / np.linalg.norm(array, axis=-1, keepdims=True) for array in (features, centres))
    expected = np.einsum("bd,ckd->bck", unit, units).max(axis=2)
    found = subcentre_cosines(torch.tensor(features), torch.tensor(centres))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    single = subcentre_cosines(torch.tensor(features), torch.tensor(centres[:, :1]))
    assert (found > single + 1e-6).any()
    assert (found >= single).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_cosines_of_half_features_are_computed_in_float32_also_under_autocast(dtype):
    generator = torch.Generator().manual_seed(1)
    features, centres = torch.randn(6, 64, generator=generator), torch.randn(9, 3, 64, generator=generator)
    halves = features.to(dtype), centres.to(dtype)
    exact = subcentre_cosines(halves[0].double(), halves[1].double())
    with torch.autocast("cpu", dtype=dtype):
        found = subcentre_cosines(*halves)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), exact.numpy(), atol=1e-6)


def test_features_of_nothing_have_cosine_0_and_finite_gradients():
    features = torch.zeros(1, 4, requires_grad=True)
    cosines = subcentre_cosines(features, torch.ones(2, 1, 4))
    cosines.sum().backward()
    assert cosines.tolist() == [[0, 0]]
    assert features.grad.isfinite().all()


@pytest.mark.parametrize(("name", "margin"), USUAL)
@pytest.mark.parametrize("dtype", HALVES)
def test_200_steps_under_autocast_give_numbers_and_learn(name, margin, dtype):
    """Features right on their centre among them, where the angle is 0 and half precision knows no cosine near 1."""
    generator = torch.Generator().manual_seed(1)
    pictures, target = torch.randn(64, 16, generator=generator), torch.arange(64) % 4
    pictures += 2 * F.one_hot(target, 16)
    torch.manual_seed(1)
    network = torch.nn.Linear(16, 8)
    centres = torch.nn.Parameter(torch.randn(4, 2, 8))
    optimizer = torch.optim.SGD([*network.parameters(), centres], lr=0.05, momentum=0.9)
    with torch.no_grad():
        centres[0, 0] = network(pictures)[0]
    losses = []
    for _ in range(200):
        with torch.autocast("cpu", dtype=dtype):
            loss = F.cross_entropy(
                logits_of(name, subcentre_cosines(network(pictures), centres), target, margin), target
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert all(parameter.isfinite().all() for parameter in (*network.parameters(), centres))
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] / 2

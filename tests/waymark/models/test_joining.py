import numpy as np
import pytest
import torch

from waymark.errors import ModelError
from waymark.models.joining import Join

WIDTH, SLOTS = 12, 4
KINDS = ["concat", "mean", "attention"]
PRESENT = torch.tensor(
    [[True, True, True, True], [True, False, True, False], [False, False, False, True], [False, True, True, True]]
)


def build(views, seed=0):
    """A join whose parameters have been learnt: none is at the value it begins with."""
    torch.manual_seed(seed)
    join = Join(views, WIDTH, SLOTS)
    with torch.no_grad():
        for parameter in join.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return join


def features(seed=1, present=PRESENT):
    found = torch.randn(len(present), SLOTS, WIDTH, generator=torch.Generator().manual_seed(seed))
    return found * present[..., None]


def gated_attention(join, found, present):
    """Ilse et al. (2018), equation 9, in float64, view by view, with the slots' embedding and gain."""
    its = {name: value.detach().double().numpy() for name, value in join.attention.named_parameters()}
    weights, joined = np.zeros(present.shape), np.zeros((len(present), WIDTH))
    for record, row in enumerate(found.double().numpy()):
        there = np.flatnonzero(present[record])
        score = []
        for view in there:
            seen = row[view] + its["embedding"][view]
            content = np.tanh(its["content.weight"] @ seen + its["content.bias"])
            gate = 1 / (1 + np.exp(-(its["gate.weight"] @ seen + its["gate.bias"])))
            score.append(float(its["score.weight"][0] @ (content * gate)))
        weights[record, there] = np.exp(score) / np.exp(score).sum()
        joined[record] = sum(weights[record, view] * its["gain"][view] * row[view] for view in there)
    return weights, joined


def test_attention_is_the_published_one():
    join = build("attention")
    weights, joined = gated_attention(join, features(), PRESENT)
    np.testing.assert_allclose(join.weights(features(), PRESENT).detach(), weights, atol=1e-6)
    np.testing.assert_allclose(join(features(), PRESENT).detach(), joined, atol=1e-5)
    assert weights.max() - weights[0].min() > 0.3  # it does choose


def test_an_untaught_attention_is_nearly_the_mean():
    torch.manual_seed(3)
    join = Join("attention", WIDTH, SLOTS)
    found = join(features(), PRESENT)
    mean = Join("mean", WIDTH, SLOTS)(features(), PRESENT)
    assert (found - mean).norm() < 0.25 * mean.norm()


@pytest.mark.parametrize("views", KINDS)
def test_the_width_is_that_of_the_output(views):
    join = build(views)
    assert join(features(), PRESENT).shape == (len(PRESENT), join.width)
    assert join.width == (WIDTH * SLOTS if views == "concat" else WIDTH)


@pytest.mark.parametrize("garbage", [1e30, float("nan"), float("inf"), -3.0])
def test_whatever_stands_for_a_missing_view_changes_no_bit(garbage):
    join = build("attention")
    dirty = torch.where(PRESENT[..., None], features(), torch.tensor(garbage))
    outcomes = []
    for given in (features(), dirty):
        given = given.clone().requires_grad_()
        join.zero_grad()
        joined, weights = join(given, PRESENT), join.weights(given, PRESENT)
        joined.square().sum().backward()
        outcomes.append([joined, weights, given.grad, *(parameter.grad.clone() for parameter in join.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*outcomes, strict=True))
    assert (outcomes[1][2][~PRESENT] == 0).all()


@pytest.mark.parametrize("views", ["mean", "attention"])
def test_weights_are_zero_without_a_view_and_add_up_to_one(views):
    weights = build(views).weights(features(), PRESENT)
    assert weights.shape == PRESENT.shape
    assert (weights[~PRESENT] == 0).all()
    assert (weights[PRESENT] > 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(PRESENT)))
    assert weights[2].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("views", KINDS)
def test_a_record_without_any_view_is_zeros_also_in_its_gradients(views):
    join, nothing = build(views), torch.zeros(2, SLOTS, dtype=torch.bool)
    given = features(present=nothing).requires_grad_()
    joined = join(given, nothing)
    assert joined.tolist() == torch.zeros(2, join.width).tolist()
    (joined + 1).log().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in [given, *join.parameters()])
    if views != "concat":
        assert join.weights(given, nothing).tolist() == torch.zeros(2, SLOTS).tolist()


def test_all_of_attention_learns():
    torch.manual_seed(5)
    join = Join("attention", WIDTH, SLOTS)
    before = {name: value.detach().clone() for name, value in join.named_parameters()}
    optimizer = torch.optim.SGD(join.parameters(), lr=0.1)
    join(features(), PRESENT).square().sum().backward()
    for name, parameter in join.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    optimizer.step()
    assert not any(torch.equal(value, before[name]) for name, value in join.named_parameters())


def test_the_slot_counts_and_it_alone_tells_views_apart():
    """The same features in other slots weigh otherwise; with alike slots the order does not matter."""
    join, order = build("attention"), torch.tensor([2, 0, 3, 1])
    one, other = (join(given, PRESENT[:1]) for given in (features()[:1], features()[:1, order]))
    assert (one - other).abs().max() > 0.1
    same = features()[:1, :1].expand(-1, SLOTS, -1)
    assert join.weights(same, PRESENT[:1]).std() > 0.01
    with torch.no_grad():
        join.attention.embedding[:] = join.attention.embedding[0]
        assert torch.allclose(join.weights(same, PRESENT[:1]), torch.full((1, SLOTS), 1 / SLOTS))
        join.attention.gain[:] = join.attention.gain[0]
    one, other = (join(given, PRESENT[:1]) for given in (features()[:1], features()[:1, order]))
    torch.testing.assert_close(one, other)


def test_attention_learns_which_view_tells():
    """Only one view carries the answer, marked by its first feature; the mean drowns it among the others."""
    torch.manual_seed(7)
    marked = torch.randint(0, SLOTS, (256,))
    views = torch.randn(256, SLOTS, WIDTH)
    views[..., 0] = torch.nn.functional.one_hot(marked, SLOTS) * 4.0
    answer = views[torch.arange(256), marked, 1]
    missed = {}
    for kind in ("mean", "attention"):
        join, head = Join(kind, WIDTH, SLOTS), torch.nn.Linear(WIDTH, 1)
        optimizer = torch.optim.Adam([*join.parameters(), *head.parameters()], lr=0.01)
        for _ in range(150):
            loss = (head(join(views, torch.ones(256, SLOTS, dtype=torch.bool)))[:, 0] - answer).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        missed[kind] = loss.item()
    assert missed["mean"] > 0.5
    assert missed["attention"] < 0.1
    weights = join.weights(views, torch.ones(256, SLOTS, dtype=torch.bool))
    assert (weights.argmax(dim=1) == marked).float().mean() > 0.95


def test_views_that_stand_side_by_side_have_no_weights():
    with pytest.raises(ModelError, match="set views to attention or mean"):
        build("concat").weights(features(), PRESENT)

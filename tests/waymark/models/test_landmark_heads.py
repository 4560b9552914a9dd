"""Heads for landmarks: which records count, and that each option does what it says."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from waymark.errors import ModelError
from waymark.images.batches import Batch
from waymark.models.heads import AttentionHead, LandmarkOptions
from waymark.models.heads.landmarks import NO_LANDMARK
from waymark.models.losses import arcface_logits, cosface_logits, dynamic_margins, sphereface_logits

KINDS = ("arcface", "cosface", "sphereface")
NAMES = ("softmax", *KINDS, "attention")
CLASSES, WIDTH = 5, 8
LABELS = [2, -1, 0, 4, -2, 2, -2]


def batch_of(landmarks):
    landmark = torch.tensor(landmarks)
    return Batch(**dict.fromkeys(Batch._fields, torch.empty(len(landmarks), 0)) | {"landmark": landmark})


def head_of(name, seed=1, width=WIDTH, classes=CLASSES, **options):
    torch.manual_seed(seed)
    plain = {} if name in KINDS else {"dropout": 0.0}
    return LandmarkOptions.choose(name, **plain | options).build(width, landmarks=classes)


def features_of(rows, scale=1.0):
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(3)) * scale


def output_of(head, features):
    output = head(features)
    if not isinstance(head, AttentionHead):
        return output
    other = torch.randn(output.shape, generator=torch.Generator().manual_seed(4))
    return head.join(output, other)


def loss_of(name, labels=LABELS, **options):
    head = head_of(name, **options)
    return head.loss(output_of(head, features_of(len(labels))), batch_of(labels)).item()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("background", [0.0, 0.5])
def test_only_records_with_a_class_count_and_a_batch_without_any_costs_and_teaches_nothing(name, background):
    head = head_of(name, background=background)
    assert head.known(batch_of(LABELS)).tolist() == [True, False, True, True, False, True, False]
    output = output_of(head, features_of(7))
    known = [0, 2, 3, 5]
    labels = [label if label != NO_LANDMARK else -1 for label in LABELS]
    alone = head.loss(output[known], batch_of([LABELS[row] for row in known]))
    torch.testing.assert_close(head.loss(output, batch_of(labels)), alone)
    nothing = head.loss(output, batch_of([-1] * 7))
    nothing.backward()
    assert nothing == 0
    assert all((parameter.grad == 0).all() for parameter in head.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_a_mean_over_records(name):
    head = head_of(name)
    output = output_of(head, features_of(7))
    each = [head.loss(output[[row]], batch_of([LABELS[row]])) for row in (0, 2, 3, 5)]
    torch.testing.assert_close(head.loss(output, batch_of(LABELS)), torch.stack(each).mean())


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_float32_for_each_class_and_order_as_the_probabilities_do(name):
    head = head_of(name).eval()
    output = output_of(head, features_of(6, 4.0))
    scores = head.scores(output.half())
    assert scores.shape == (6, CLASSES)
    assert scores.dtype == torch.float32
    probabilities = head.logits(output).softmax(dim=1)
    assert torch.equal(probabilities.argsort(dim=1), head.scores(output).argsort(dim=1))


@pytest.mark.parametrize("name", NAMES)
def test_what_shows_no_landmark_has_a_class_of_its_own_where_the_option_says_so(name):
    head = head_of(name, background=2.0)
    output = output_of(head, features_of(7))
    wide = CLASSES + 1
    assert output.shape[1] == wide * (2 if name == "attention" else 1)
    scale = head.scale if name in KINDS else 1.0
    parts = [output] if name != "attention" else [output[:, :wide], output[:, wide:]]
    none = torch.full((2,), CLASSES)
    term = sum(F.cross_entropy(scale * part[[4, 6]], none) for part in parts)  # and no margin
    torch.testing.assert_close(head.loss(output[[4, 6]], batch_of([-2, -2])), term)
    unseen = head.loss(output, batch_of([label if label != NO_LANDMARK else -1 for label in LABELS]))
    both = (4 * unseen + 2 * 2.0 * term) / (4 + 2 * 2.0)  # a mean by record, however batches are cut
    torch.testing.assert_close(head.loss(output, batch_of(LABELS)), both)
    assert head.weight(batch_of(LABELS)).tolist() == [1.0, 0.0, 1.0, 1.0, 2.0, 1.0, 2.0]
    torch.testing.assert_close(head.scores(output), parts[0][:, :CLASSES] - parts[0][:, CLASSES:])


@pytest.mark.parametrize("name", NAMES)
def test_label_smoothing_is_torchs(name):
    smooth, plain = loss_of(name, label_smoothing=0.2), loss_of(name)
    head = head_of(name)
    output, target = output_of(head, features_of(3)), torch.tensor([1, 0, 4])
    if name in KINDS:
        margin = {"arcface": 0.3, "cosface": 0.35, "sphereface": 1.5}[name]
        logits = margin_logits(name, output, target, margin)
    else:
        logits = output[:, :CLASSES]
    soft = 0.8 * F.one_hot(target, CLASSES) + 0.2 / CLASSES
    by_hand = -(soft * logits.log_softmax(dim=1)).sum(dim=1).mean()
    if name == "attention":
        by_hand = by_hand - (soft * output[:, CLASSES:].log_softmax(dim=1)).sum(dim=1).mean()
    found = head_of(name, label_smoothing=0.2).loss(output, batch_of([1, 0, 4]))
    torch.testing.assert_close(found, by_hand)
    assert abs(smooth - plain) > 0.01


def margin_logits(name, cosine, target, margin, scale=30.0):
    if name == "arcface":
        return arcface_logits(cosine, target, scale=scale, margin_rad=margin)
    return {"cosface": cosface_logits, "sphereface": sphereface_logits}[name](
        cosine, target, scale=scale, margin=margin
    )


@pytest.mark.parametrize("name", KINDS)
def test_margin_heads_give_cosines_whatever_the_length_of_features_and_centres(name):
    head = head_of(name)
    features = features_of(4)
    unit = features / features.norm(dim=1, keepdim=True)
    centres = head.centres[:, 0] / head.centres[:, 0].norm(dim=1, keepdim=True)
    torch.testing.assert_close(head(features), unit @ centres.T)
    torch.testing.assert_close(head(features * 1000), head(features))
    assert torch.equal(head.scores(head(features)), head(features))


@pytest.mark.parametrize("name", KINDS)
def test_margin_and_scale_are_those_of_the_formula(name):
    cosine, target = torch.rand(4, CLASSES) * 2 - 1, torch.tensor([1, 0, 4, 4])
    usual = {"arcface": 0.3, "cosface": 0.35, "sphereface": 1.5}[name]
    losses = []
    for options in ({}, {"margin": 1.0}, {"scale": 12.0}, {"scale": None}):
        head = head_of(name, **options)
        scale = {12.0: 12.0, None: 2**0.5 * math.log(CLASSES - 1)}.get(options.get("scale", 30.0), 30.0)
        expected = F.cross_entropy(margin_logits(name, cosine, target, options.get("margin", usual), scale), target)
        losses.append(head.loss(cosine, batch_of(target.tolist())))
        torch.testing.assert_close(losses[-1], expected)
    assert len({round(loss.item(), 3) for loss in losses}) == 4


@pytest.mark.parametrize("name", KINDS)
def test_the_kinds_differ(name):
    others = {loss_of(kind, margin=1.2) for kind in KINDS if kind != name}
    assert all(abs(loss_of(name, margin=1.2) - other) > 0.01 for other in others)


def test_dynamic_margins_come_from_the_counts_and_stay_in_the_checkpoint():
    counts = np.array([500, 3, 40, 1, 9])
    head = head_of("arcface", margin="dynamic", margin_low=0.1, margin_high=0.9)
    output = output_of(head, features_of(7))
    with pytest.raises(ModelError, match="dynamic margins are not known yet"):
        head.loss(output, batch_of(LABELS))
    head.adapt(counts)
    margins = dynamic_margins(torch.from_numpy(counts), low=0.1, high=0.9)
    target, known = torch.tensor([2, 0, 4, 2]), [0, 2, 3, 5]
    expected = F.cross_entropy(arcface_logits(output[known], target, scale=30.0, margin_rad=margins), target)
    torch.testing.assert_close(head.loss(output, batch_of(LABELS)), expected)
    again = head_of("arcface", seed=2, margin="dynamic")
    again.load_state_dict(head.state_dict())
    torch.testing.assert_close(again.loss(output, batch_of(LABELS)), expected)
    fixed = head_of("arcface")
    fixed.adapt(counts)
    assert (fixed.margins == 0.3).all()
    usual = head_of("arcface", margin="dynamic")
    usual.adapt(counts)
    assert (usual.margins.min().item(), usual.margins.max().item()) == pytest.approx((0.05, 0.5))


@pytest.mark.parametrize("name", NAMES)
def test_counts_of_other_classes_are_refused(name):
    with pytest.raises(ModelError, match="5 classes, and counts come for 4"):
        head_of(name).adapt(np.ones(4, dtype=np.int64))


def test_each_landmark_may_have_several_centres_of_which_the_nearest_counts():
    head = head_of("arcface", centres=3)
    assert head.centres.shape == (CLASSES, 3, WIDTH)
    features = head.centres[:, 2].detach() * 5  # right on the third centre of each
    torch.testing.assert_close(head(features).diagonal(), torch.ones(CLASSES))
    single = head_of("arcface")
    single.centres.data.copy_(head.centres[:, :1])
    assert (head(features_of(50)) >= single(features_of(50)) - 1e-6).all()
    assert (head(features_of(50)) > single(features_of(50)) + 1e-3).any()


def layers_of(head):
    return [type(layer) for layer in head.classifier]


@pytest.mark.parametrize("name", ["softmax", "attention"])
def test_hidden_layers_are_those_of_vgg(name):
    head = head_of(name, hidden=(16, 12), dropout=0.5)
    layer = [nn.Linear, nn.ReLU, nn.Dropout]
    assert layers_of(head) == [*layer, *layer, nn.Linear]
    assert [(one.in_features, one.out_features) for one in head.classifier if isinstance(one, nn.Linear)] == [
        (WIDTH, 16),
        (16, 12),
        (12, CLASSES),
    ]
    assert [one.p for one in head.classifier if isinstance(one, nn.Dropout)] == [0.5, 0.5]
    assert layers_of(head_of(name)) == [nn.Dropout, nn.Linear]


@pytest.mark.parametrize("name", ["softmax", "attention"])
@pytest.mark.parametrize("hidden", [(), (64,)])
def test_dropout_hides_its_share_in_training_only(name, hidden):
    head, none = head_of(name, hidden=hidden, dropout=0.6), head_of(name, hidden=hidden)
    hides = next(layer for layer in head.classifier if isinstance(layer, nn.Dropout))
    kept = []
    hides.register_forward_hook(lambda layer, inputs, output: kept.append((output[inputs[0] != 0] != 0).float().mean()))
    features = features_of(500)
    assert not torch.allclose(head(features), none(features))
    assert kept[0] == pytest.approx(0.4, abs=0.02)
    torch.testing.assert_close(head.eval()(features), none(features))


def test_dropout_is_a_half_by_default_as_in_vgg_and_none_for_attention():
    torch.manual_seed(1)
    defaults = {name: LandmarkOptions.choose(name).build(WIDTH, landmarks=CLASSES) for name in ("softmax", "attention")}
    found = {name: head.classifier[0].p for name, head in defaults.items()}
    assert found == {"softmax": 0.5, "attention": 0.0}


def test_the_loss_of_attention_weighs_both_branches_and_scores_are_the_perceptions():
    head = head_of("attention")
    perception, attention = head(features_of(3)), torch.randn(3, CLASSES)
    output, target = head.join(perception, attention), torch.tensor([1, 0, 4])
    assert output.shape == (3, 2 * CLASSES)
    assert torch.equal(head.scores(output), perception)
    parts = F.cross_entropy(attention, target), F.cross_entropy(perception, target)
    for alpha, beta in ((1.0, 1.0), (0.0, 1.0), (2.0, 0.5)):
        loss = head_of("attention", alpha=alpha, beta=beta).loss(output, batch_of([1, 0, 4]))
        torch.testing.assert_close(loss, alpha * parts[0] + beta * parts[1])
    assert (head.options.stage, head.options.apply) == (-1, "residual")
    other = head_of("attention", stage=-2, apply="product")
    assert (other.options.stage, other.options.apply) == (-2, "product")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("softmax", {"dropout": 1.0}, "dropout is 1.0"),
        ("attention", {"dropout": -0.1}, "dropout is -0.1"),
        ("attention", {"apply": "sum"}, "apply is 'sum': Input should be 'residual' or 'product'"),
        ("softmax", {"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ("softmax", {"background": -1.0}, "background is -1.0"),
        ("arcface", {"margin": 2.0}, "margin.* is 2.0: Input should be less than or equal to 1.57"),
        ("sphereface", {"margin": 0.3}, "margin is 0.3: Input should be greater than or equal to 1"),
        ("sphereface", {"margin": "dynamic"}, "margin is 'dynamic': Input should be a valid number"),
        (
            "arcface",
            {"margin": "dynamic", "margin_low": 0.6},
            "margin_low 0.6 is above margin_high 0.5; make it that or less",
        ),
        ("arcface", {"scale": 0.0}, "scale is 0.0"),
        ("arcface", {"centres": 0}, "centres is 0"),
    ],
)
def test_options_out_of_their_range_are_refused(name, options, message):
    with pytest.raises(ModelError, match=message):
        head_of(name, **options)


def test_an_unknown_head_is_refused():
    with pytest.raises(ModelError, match="unknown head 'arcfaces'; did you mean 'arcface'"):
        LandmarkOptions.choose("arcfaces")


@pytest.mark.parametrize(("name", "usual"), [("arcface", 0.3), ("cosface", 0.35), ("sphereface", 1.5)])
def test_without_a_margin_a_head_has_its_usual_one(name, usual):
    assert head_of(name).margins.tolist() == pytest.approx([usual] * CLASSES)
    assert head_of(name, margin=1.25).margins.tolist() == [1.25] * CLASSES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_give_numbers_and_gradients(name, dtype):
    head = head_of(name, background=0.1)
    with torch.autocast("cpu", dtype=dtype):
        output = output_of(head, features_of(7).to(dtype))
        loss = head.loss(output, batch_of(LABELS))
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert loss.item() == pytest.approx(loss_of(name, background=0.1), rel=0.02)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_200_steps_under_autocast_learn_to_tell_landmarks_apart(name, dtype):
    generator = torch.Generator().manual_seed(1)
    target = torch.arange(60) % CLASSES
    pictures = torch.randn(60, WIDTH, generator=generator) + 2.5 * F.one_hot(target, WIDTH)
    head = head_of(name, label_smoothing=0.05)
    network = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    branch = nn.Linear(WIDTH, CLASSES)
    learning = [*network.parameters(), *branch.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=0.01)
    batch = batch_of(target.tolist())
    for _ in range(200):
        with torch.autocast("cpu", dtype=dtype):
            features = network(pictures)
            output = head(features)
            if name == "attention":
                output = head.join(output, branch(features))
            loss = head.loss(output, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert all(parameter.isfinite().all() for parameter in head.parameters())
    assert loss.isfinite()
    assert (head.scores(output).argmax(dim=1) == target).float().mean() > 0.95

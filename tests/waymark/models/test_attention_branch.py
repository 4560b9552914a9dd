"""The attention branch against the authors' way of computing it, and how its map is applied."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from waymark.models.attention import AttentionBranch, BranchOutput, attend
from waymark.models.backbones import Backbone

CHANNELS, CLASSES = 16, 5


def branch_of(channels=CHANNELS, classes=CLASSES):
    torch.manual_seed(1)
    return AttentionBranch(channels, classes)


def maps_of(rows=3, channels=CHANNELS, side=6):
    return torch.randn(rows, channels, side, side + 1, generator=torch.Generator().manual_seed(2))


def test_logits_and_map_are_the_authors():
    """Theirs makes a map of the logits of each class, and then the mean."""
    branch = branch_of().eval()
    for layer in branch.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    found = branch(maps_of())
    assert isinstance(found, BranchOutput)
    assert found.logits.shape == (3, CLASSES)
    assert found.map.shape == (3, 1, 6, 7)
    norm, convolution, norm_2, _ = branch.responses
    responses = F.relu(norm_2(F.conv2d(norm(branch.block(maps_of())), convolution.weight)))
    class_maps = F.conv2d(responses, branch.classify.weight[:, :, None, None], branch.classify.bias)
    torch.testing.assert_close(found.logits, F.avg_pool2d(class_maps, (6, 7)).flatten(1))
    scores = branch.map[1](F.conv2d(responses, branch.map[0].weight, padding=1))
    torch.testing.assert_close(found.map, 1 / (1 + (-scores).exp()))


def test_there_are_as_many_responses_as_classes_up_to_512():
    assert branch_of(classes=27).responses[1].out_channels == 27
    with torch.device("meta"):
        large = AttentionBranch(2048, 81_313)
    assert large.responses[1].out_channels == 512
    assert large(torch.empty(2, 2048, 7, 7, device="meta")).logits.shape == (2, 81_313)
    assert sum(parameter.numel() for parameter in large.parameters()) < 81_313 * 513 + 10_000_000


def test_the_map_lies_between_0_and_1_and_differs_by_place_and_picture():
    found = branch_of()(maps_of()).map
    assert (found > 0).all()
    assert (found < 1).all()
    assert found.std(dim=(2, 3)).min() > 0.05
    assert not torch.allclose(found[0], found[1], atol=0.05)


def test_the_map_is_applied_as_the_paper_says():
    maps, attention = maps_of(2, 4, 3), torch.rand(2, 1, 3, 4)
    for row in range(2):
        for channel in range(4):
            product = attention[row, 0] * maps[row, channel]
            torch.testing.assert_close(attend(maps, attention, "product")[row, channel], product)
            residual = (1 + attention[row, 0]) * maps[row, channel]
            torch.testing.assert_close(attend(maps, attention, "residual")[row, channel], residual)


@pytest.mark.parametrize("apply", ["residual", "product"])
def test_the_perceptions_loss_teaches_the_map_and_the_branchs_own_teaches_its_classifier(apply):
    branch, maps = branch_of(), maps_of().requires_grad_()
    found = branch(maps)
    attend(maps, found.map, apply).square().sum().backward(retain_graph=True)
    assert branch.map[0].weight.grad.abs().sum() > 0
    assert branch.classify.weight.grad is None
    assert maps.grad.abs().sum() > 0
    F.cross_entropy(found.logits, torch.tensor([0, 1, 2])).backward()
    assert branch.classify.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_nearly_the_same(dtype):
    branch = branch_of().eval()
    exact = branch(maps_of())
    with torch.autocast("cpu", dtype=dtype):
        found = branch(maps_of())
        weighed = attend(maps_of().to(dtype), found.map, "residual")
    torch.testing.assert_close(found.logits.float(), exact.logits, rtol=0.05, atol=0.05)
    torch.testing.assert_close(found.map.float(), exact.map, rtol=0.05, atol=0.05)
    assert weighed.isfinite().all()


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "vgg16", "convnext_tiny", "mobilenetv3_small_100"])
@pytest.mark.parametrize("stage", [-1, -2, -3])
def test_the_branch_looks_at_any_stage_of_any_family(name, stage):
    with torch.device("meta"):
        backbone = Backbone(name)
        branch = AttentionBranch(backbone.channels(stage), CLASSES)
        looked = []

        def attended(maps):
            looked.append((maps.shape, branch(maps).map))
            return attend(maps, looked[0][1], "residual")

        features = backbone.changed(torch.empty(2, 3, 64, 64), stage, attended)
    ((shape, found),) = looked
    assert found.shape == (2, 1, *shape[2:])
    assert features.shape == (2, backbone.width)


def test_training_finds_what_tells_the_classes_apart():
    """The class stands in one place of a noisy map; the branch learns it, and looks there."""
    generator = torch.Generator().manual_seed(3)
    target = torch.arange(40) % 4
    spots = torch.randint(0, 6, (40, 2), generator=generator)
    maps = torch.randn(40, CHANNELS, 6, 6, generator=generator) * 0.5
    for row in range(40):
        maps[row, target[row], spots[row, 0], spots[row, 1]] += 6
    torch.manual_seed(3)
    branch, perception = AttentionBranch(CHANNELS, 4), nn.Linear(CHANNELS, 4)
    optimizer = torch.optim.Adam([*branch.parameters(), *perception.parameters()], lr=0.01)
    for _ in range(120):
        found = branch(maps)
        seen = perception(attend(maps, found.map, "product").mean(dim=(2, 3)))
        loss = F.cross_entropy(found.logits, target) + F.cross_entropy(seen, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = branch.eval()(maps)
    there = found.map[torch.arange(40), 0, spots[:, 0], spots[:, 1]]
    assert (found.logits.argmax(dim=1) == target).float().mean() > 0.9
    assert (found.map.flatten(1) < there[:, None]).float().mean() > 0.85  # of all places, that one stands out

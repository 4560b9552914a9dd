"""Poolings, and the backbone cut at a stage."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models as zoo

from waymark.errors import ModelError
from waymark.models.backbones import Backbone
from waymark.models.pooling import GeMPooling, Grid, Levels, LevelsPooling, PoolingOptions

pytestmark = pytest.mark.slow

STAGES = {
    "resnet18": 5,
    "resnext50_32x4d": 5,
    "efficientnet_b0": 9,
    "vgg16": 5,
    "convnext_tiny": 5,
    "mobilenet_v2": 19,
    "mobilenet_v3_small": 13,
}
HALVES = (torch.float16, torch.bfloat16)


def pictures(side=64, rows=2):
    return torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(1))


def last_map(network, x):
    """The map before pooling, by torchvision's own way."""
    if isinstance(network, zoo.ResNet):
        x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
        return network.layer4(network.layer3(network.layer2(network.layer1(x))))
    return network.features(x)


def pooled_by_hand(network, pooled):
    """The features of a pooled map, by torchvision's own way: ConvNeXt has a norm behind the pooling."""
    return (
        network.classifier[1](network.classifier[0](pooled)) if isinstance(network, zoo.ConvNeXt) else pooled.flatten(1)
    )


@pytest.fixture(scope="module", params=STAGES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def teacher(name):
    """A network of torchvision, whose batch norms are as after training: else deep maps are all alike."""
    torch.manual_seed(2)
    network = zoo.get_model(
        name, **({"init_weights": False} if name == "vgg16" else {})
    ).eval()  # its own way takes 5 s
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    return network


def loaded(name, teacher, pooling="mean"):
    """A backbone with the teacher's weights."""
    with torch.device("meta"):
        backbone = Backbone(name, pooling=PoolingOptions.choose(pooling)).eval()
    wanted = backbone.features.state_dict()
    backbone.features.load_state_dict({key: teacher.state_dict()[key] for key in wanted}, assign=True)
    backbone.features.to(memory_format=torch.channels_last)
    backbone.pooling = PoolingOptions.choose(pooling).build([1])
    return backbone.requires_grad_()


def test_mean_is_torchvisions_own_and_has_no_parameter(name, teacher):
    backbone = loaded(name, teacher)
    with torch.inference_mode():
        maps = last_map(teacher, pictures())
        expected = pooled_by_hand(teacher, maps.mean(dim=(2, 3), keepdim=True))
        torch.testing.assert_close(backbone(pictures()), expected, rtol=1e-3, atol=1e-4)
    assert {key.removeprefix("features.") for key in backbone.state_dict()} <= set(teacher.state_dict())


def test_gem_replaces_the_mean_and_learns(name, teacher):
    backbone = loaded(name, teacher, "gem")
    with torch.inference_mode():
        maps = last_map(teacher, pictures())
        pooled = maps.clamp(min=1e-6).pow(3).mean(dim=(2, 3), keepdim=True).pow(1 / 3)
        expected = pooled_by_hand(teacher, pooled)
        torch.testing.assert_close(backbone(pictures()), expected, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(backbone(pictures()), loaded(name, teacher)(pictures()), atol=1e-3)
    assert backbone.width == loaded(name, teacher).width == expected.shape[1]
    power = backbone.pooling.power
    assert [key for key in backbone.state_dict() if not key.startswith("features.")] == ["pooling.power"]
    assert any(
        parameter is power for parameter in backbone.blocks()[-1].parameters()
    )  # it learns when the last block does
    (backbone(pictures()) ** 2).sum().backward()
    assert power.grad.abs() > 0


def test_grid_keeps_7_by_7_places(name, teacher):
    backbone = loaded(name, teacher, "grid")
    with torch.inference_mode():
        features, maps = backbone(pictures(96)), last_map(teacher, pictures(96))
        pooled = nn.functional.adaptive_avg_pool2d(maps, 7)
        expected = pooled_by_hand(teacher, pooled)
    assert features.shape == (2, backbone.width) == (2, 49 * backbone.channels(-1))
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)


def test_vggs_own_classifier_takes_the_grid():
    torch.manual_seed(1)
    with torch.device("meta"):
        assert Backbone("vgg16", pooling=Grid()).width == zoo.vgg16().classifier[0].in_features


@pytest.mark.parametrize("pooling", ["mean", "gem", "grid"])
def test_before_and_after_every_stage_make_the_whole(name, teacher, pooling):
    backbone = loaded(name, teacher, pooling)
    sides = []
    with torch.inference_mode():
        whole = backbone(pictures())
        for stage in range(-1, -STAGES[name] - 1, -1):
            maps = backbone.before(pictures(), stage)
            kept = maps.clone()
            assert torch.equal(backbone.after(maps, stage), whole)
            assert torch.equal(maps, kept)  # nothing in place: the map is looked at twice
            assert maps.shape[:2] == (2, backbone.channels(stage))
            sides.append(maps.shape[2])
    assert len(backbone.blocks()) == STAGES[name]
    assert sides == sorted(sides)
    assert sides[0] == 2
    assert sides[-1] >= 16


def test_the_cut_is_between_the_blocks(name, teacher):
    """Before a stage nothing of the later blocks runs, after it nothing of the earlier ones."""
    backbone = loaded(name, teacher)
    ran = []
    for place, block in enumerate(backbone.blocks()):
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda *called, place=place: ran.append(place))
    with torch.inference_mode():
        for stage in (-1, -2, -STAGES[name]):
            ran.clear()
            maps = backbone.before(pictures(), stage)
            assert set(ran) == set(range(STAGES[name] + stage + 1))
            ran.clear()
            backbone.after(maps, stage)
            assert set(ran) == set(range(STAGES[name] + stage + 1, STAGES[name]))


def test_gradients_flow_through_the_cut_and_maps_are_channels_last(name, teacher):
    backbone = loaded(name, teacher)
    maps = backbone.before(pictures(), -2)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    maps.retain_grad()
    (backbone.after(maps, -2) ** 2).sum().backward()
    assert maps.grad.abs().sum() > 0
    assert next(backbone.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize("stage", [0, 1, -6, -20])
def test_a_stage_that_is_none_is_refused(stage):
    with torch.device("meta"):
        backbone = Backbone("resnet18")
    for call in (lambda: backbone.before(pictures(), stage), lambda: backbone.channels(stage)):
        with pytest.raises(
            ModelError, match=f"resnet18 has no stage {stage}; set it from -1, the last, to -5, the stem"
        ):
            call()


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ModelError, match="unknown pooling 'max'; known: gem, grid, levels, mean"):
        PoolingOptions.choose("max")


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, 6.5])
def test_gem_is_the_papers_formula(power):
    maps = torch.rand(3, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 9 - 2
    expected = (np.maximum(maps.numpy(), 1e-6) ** power).mean(axis=(2, 3)) ** (1 / power)
    np.testing.assert_allclose(GeMPooling(power).double()(maps)[:, :, 0, 0].detach().numpy(), expected, rtol=1e-9)


def test_gem_lies_between_mean_and_maximum():
    maps = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    mean, peak = maps.mean(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(GeMPooling(1.0)(maps), mean)
    torch.testing.assert_close(GeMPooling(0.2)(maps), mean)  # less than 1 counts as 1
    torch.testing.assert_close(GeMPooling(500.0)(maps), peak, rtol=1e-2, atol=0)
    assert (GeMPooling()(maps) > mean).all()
    assert (GeMPooling()(maps) < peak).all()


def test_gems_gradients_are_right():
    torch.manual_seed(1)
    maps = (torch.rand(2, 2, 3, 3, dtype=torch.float64) + 0.1).requires_grad_()
    pooling = GeMPooling(2.5).double()
    assert torch.autograd.gradcheck(pooling, (maps,))
    pooling(maps).sum().backward()
    low, high = (GeMPooling(power).double()(maps).sum() for power in (2.5 - 2**-10, 2.5 + 2**-10))
    assert pooling.power.grad.item() == pytest.approx((high - low).item() / 2**-9, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("power", [1.0, 3.0, 30.0])
@pytest.mark.parametrize("size", [0.0, -1.0, 1e-4, 300.0, 6e4])
def test_gem_stays_a_number_at_any_size_also_in_half_precision(dtype, power, size):
    maps = torch.full((1, 2, 3, 3), size, dtype=dtype)
    maps[0, 1, 0, 0] = 1.0
    maps.requires_grad_()
    pooling = GeMPooling(power).to(dtype)
    pooled = pooling(maps)
    pooled.float().sum().backward()
    assert pooled.dtype == dtype
    assert pooled[0, 0].item() == pytest.approx(max(size, 1e-6), rel=2e-2)
    assert maps.grad.isfinite().all()
    assert pooling.power.grad.isfinite()


@pytest.mark.parametrize("dtype", HALVES)
def test_gem_under_autocast_is_computed_in_float32(dtype):
    maps = (torch.rand(2, 3, 7, 7, generator=torch.Generator().manual_seed(1)) * 60).to(dtype)  # cubes beyond float16
    with torch.autocast("cpu", dtype=dtype):
        found = GeMPooling()(maps)
    assert torch.equal(found, GeMPooling()(maps.float()).to(dtype))


def test_levels_are_means_and_deviations_of_each_map():
    maps = [torch.randn(4, 3, 8, 8), torch.randn(4, 5, 2, 2), torch.randn(4, 2, 1, 1)]
    pool = LevelsPooling(10).eval()
    parts = []
    for its in maps:
        values = its.double().flatten(2).numpy()
        parts += [values.mean(axis=2), np.sqrt(values.var(axis=2) + 1e-5)]
    expected = np.concatenate(parts, axis=1) / np.sqrt(1 + 1e-5)  # what batch norm does before it has seen anything
    np.testing.assert_allclose(pool(maps).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vgg16"])
def test_levels_pool_the_last_map_of_each_resolution(name):
    backbone = Backbone(name, pooling=Levels()).eval()
    seen = []
    backbone.pooling.register_forward_pre_hook(lambda layer, inputs: seen.extend(inputs[0]))
    with torch.no_grad():
        features = backbone(pictures())
        plain = Backbone(name).eval()
        plain.features.load_state_dict(backbone.features.state_dict())
        last = plain.before(pictures(), -1)
    assert features.shape == (2, backbone.width)
    sides = [maps.shape[2] for maps in seen]
    assert sides == sorted(set(sides), reverse=True)
    assert len(sides) > 3
    assert torch.equal(seen[-1], last)
    learnt = Backbone(name, pooling=Levels()).train()
    learnt(pictures(rows=3)).sum().backward()
    assert all(its.grad is not None for its in learnt.pooling.parameters())

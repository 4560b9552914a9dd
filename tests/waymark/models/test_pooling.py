"""Poolings, and the backbone whose maps they take."""

import numpy as np
import pytest
import torch
from torch import nn

from waymark.errors import ModelError
from waymark.models.backbones import Backbone
from waymark.models.pooling import GeMPooling, Grid, Levels, LevelsPooling, PoolingOptions

pytestmark = pytest.mark.slow

NAMES = ["resnet18", "vgg11", "convnext_atto", "tf_efficientnet_lite0", "mobilenetv3_small_100"]
HALVES = (torch.float16, torch.bfloat16)


def pictures(side=64, rows=2):
    return torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


def made(name, pooling="mean"):
    """A backbone whose batch norms are as after training: else deep maps are all alike."""
    torch.manual_seed(2)
    backbone = Backbone(name, pooling=PoolingOptions.choose(pooling)).eval()
    for layer in backbone.network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    return backbone


def normed(backbone, pooled):
    """The features of a pooled map: ConvNeXt has a norm behind the pooling."""
    return (backbone.network.head.norm(pooled) if backbone.name == "convnext_atto" else pooled).flatten(1)


def test_gem_replaces_the_mean_and_learns(name):
    backbone = made(name, "gem")
    with torch.inference_mode():
        maps = backbone.network.forward_features(pictures())
        pooled = maps.clamp(min=1e-6).pow(3).mean(dim=(2, 3), keepdim=True).pow(1 / 3)
        torch.testing.assert_close(backbone(pictures()), normed(backbone, pooled), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(backbone(pictures()), made(name)(pictures()), atol=1e-3)
    power = backbone.pooling.power
    assert [key for key in backbone.state_dict() if not key.startswith("network.")] == ["pooling.power"]
    assert any(
        parameter is power for parameter in backbone.blocks()[-1].parameters()
    )  # it learns when the last block does
    (backbone(pictures()) ** 2).sum().backward()
    assert power.grad.abs() > 0


def test_grid_keeps_7_by_7_places(name):
    backbone = made(name, "grid")
    with torch.inference_mode():
        features, maps = backbone(pictures(96)), backbone.network.forward_features(pictures(96))
        expected = normed(backbone, nn.functional.adaptive_avg_pool2d(maps, 7))
    assert features.shape == (2, backbone.width) == (2, 49 * maps.shape[1])
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)


def test_vggs_own_classifier_takes_the_grid():
    with torch.device("meta"):
        assert Backbone("vgg16", pooling=Grid()).width == 25088  # Simonyan and Zisserman 2015: 512 maps of 7 x 7


@pytest.mark.parametrize("pooling", ["mean", "gem", "grid"])
def test_maps_of_every_stage_can_be_changed_on_the_way(name, pooling):
    backbone = made(name, pooling)
    count, sides = len(backbone.stages()), []

    def keep(maps):
        sides.append(maps.shape[2])
        assert maps.shape[:2] == (2, backbone.channels(stage))
        return maps * 1.0

    with torch.inference_mode():
        whole = backbone(pictures())
        for stage in range(-1, -count - 1, -1):
            assert torch.equal(backbone.changed(pictures(), stage, keep), whole)
            assert not torch.allclose(backbone.changed(pictures(), stage, lambda maps: maps * 0 + 2), whole)
            assert torch.equal(backbone(pictures()), whole)  # nothing stays behind
    assert sides == sorted(sides)
    assert len(set(sides)) == len(sides) == count
    assert sides[0] == 2


def test_gradients_flow_through_a_changed_map():
    backbone, kept = made("resnet18"), []

    def change(maps):
        assert maps.is_contiguous(memory_format=torch.channels_last)
        kept.append(maps)
        maps.retain_grad()
        return 2 * maps

    (backbone.changed(pictures(), -2, change) ** 2).sum().backward()
    assert kept[0].grad.abs().sum() > 0
    assert next(backbone.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize("stage", [0, 1, -6, -20])
def test_a_stage_that_is_none_is_refused(stage):
    with torch.device("meta"):
        backbone = Backbone("resnet18")
    for call in (lambda: backbone.changed(pictures(), stage, abs), lambda: backbone.channels(stage)):
        with pytest.raises(ModelError, match=f"resnet18 has no stage {stage}; set it from -1, the last, to -5"):
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


def test_levels_pool_the_last_map_of_each_resolution(name):
    backbone = made(name, "levels")
    seen = []
    backbone.pooling.register_forward_pre_hook(lambda layer, inputs: seen.extend(inputs[0]))
    with torch.no_grad():
        features = backbone(pictures())
        maps = backbone.network.forward_intermediates(pictures(), intermediates_only=True)
    assert features.shape == (2, backbone.width)
    sides = [maps.shape[2] for maps in seen]
    assert sides == sorted(set(sides), reverse=True)
    assert len(sides) > 3
    assert all(torch.equal(one, other) for one, other in zip(seen, maps, strict=True))
    learnt = Backbone(name, pooling=Levels()).train()
    learnt(pictures(rows=3)).sum().backward()
    assert all(its.grad is not None for its in learnt.pooling.parameters())

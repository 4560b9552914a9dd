import pytest
import timm
import torch
from torch import nn

from waymark.errors import ModelError
from waymark.models.backbones import Backbone
from waymark.models.pooling import GeM, Grid, Levels, Mean

pytestmark = pytest.mark.slow

WIDTHS = {
    "resnet18": 512,
    "vgg11": 512,
    "convnext_atto": 320,
    "tf_efficientnet_lite0": 1280,
    "mobilenetv3_small_100": 576,
    "test_vit": 64,
    "test_resnet": 96,
}
CONVOLUTIONAL = [name for name in WIDTHS if name != "test_vit"]


def pictures(side=64, rows=3):
    return torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=WIDTHS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def teacher(name):
    """timm's own network with its classifier, whose norms are as after training: else deep maps are all alike."""
    torch.manual_seed(2)
    network = timm.create_model(name, **({"img_size": 64} if name == "test_vit" else {})).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    return network


def loaded(name, teacher, pooling=None):
    """A backbone with the teacher's numbers."""
    backbone = Backbone(name, pooling=pooling or Mean(), size_px=64).eval()
    own = backbone.network.state_dict()
    backbone.network.load_state_dict({key: teacher.state_dict()[key] for key in own})
    return backbone


def test_features_are_the_pooled_last_map_of_timms_network(name, teacher):
    backbone = loaded(name, teacher)
    with torch.inference_mode():
        found = backbone(pictures())
        maps = teacher.forward_features(pictures())
        if name == "test_vit":
            wanted = teacher.forward_head(maps, pre_logits=True)
        else:
            wanted = maps.mean(dim=(2, 3), keepdim=True)
            wanted = (teacher.head.norm(wanted) if name == "convnext_atto" else wanted).flatten(1)
    assert found.shape == (3, backbone.width) == (3, WIDTHS[name])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_no_parameter_is_there_for_nothing(name, teacher):
    backbone = loaded(name, teacher).train()
    backbone(pictures()).square().sum().backward()
    without = [key for key, parameter in backbone.named_parameters() if parameter.grad is None]
    assert without == []


def test_blocks_hold_every_parameter_once_in_the_order_of_the_pictures_way(name, teacher):
    backbone = loaded(name, teacher)
    blocks = backbone.blocks()
    held = [id(parameter) for block in blocks for parameter in block.parameters()]
    assert sorted(held) == sorted(id(parameter) for parameter in backbone.parameters())
    norms = [layer for layer in backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {id(layer) for layer in norms} <= {id(layer) for block in blocks for layer in block.modules()}
    order = []
    for place, block in enumerate(blocks):
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(lambda *called, place=place: order.append(place))
    with torch.inference_mode():
        backbone(pictures())
    assert order == sorted(order)
    assert len(blocks) >= 5


@pytest.mark.parametrize("pooling", [GeM(), Grid(), Levels()], ids=lambda pooling: pooling.name)
def test_a_transformer_has_no_maps_to_pool_or_to_attend_to(pooling):
    with torch.device("meta"):
        with pytest.raises(ModelError, match=f"test_vit has tokens, and pooling {pooling.name} takes maps"):
            Backbone("test_vit", pooling=pooling, size_px=64)
        with pytest.raises(ModelError, match="test_vit has tokens in place of maps; choose a convolutional network"):
            Backbone("test_vit", size_px=64).channels(-1)


def test_a_transformer_takes_the_size_that_it_is_built_for():
    backbone = Backbone("test_vit", size_px=96).eval()
    assert backbone(pictures(96)).shape == (3, 64)
    with pytest.raises(ModelError, match="patches of 16 px, and 70 px are no multiple; set size_px 64 or 80"):
        Backbone("test_vit", size_px=70)
    with pytest.raises(ModelError, match=r"mixer_s32_224 cannot take pictures of 64 px .*set size_px to 224"):
        Backbone("mixer_s32_224", size_px=64)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("resnet81", "unknown backbone 'resnet81'; did you mean 'resnet"),
        ("mobilenet_v3_small", "mobilenet_v3_small is torchvision's name; timm calls it mobilenetv3_small_100"),
        ("resnet18.tv_in21k", "backbone resnet18 has no weights 'tv_in21k'; did you mean 'tv_in1k'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(wrong, words):
    with pytest.raises(ModelError) as caught:
        Backbone(wrong)
    assert words in str(caught.value)


def test_batch_norms_from_scratch_learn_fast_whatever_the_networks_own():
    network = timm.create_model("test_resnet")
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.01
    momenta = {layer.momentum for layer in Backbone("test_resnet").modules() if isinstance(layer, nn.BatchNorm2d)}
    assert momenta == {0.1}


def test_filters_lie_channels_last():
    assert Backbone("test_resnet").network.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)

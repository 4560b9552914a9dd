from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from waymark.errors import ModelError
from waymark.models.config import ModelConfig
from waymark.models.heads import Cells, Coordinates, Joint, Softmax
from waymark.models.locator import Locator
from waymark.report.heat import draw_attention
from waymark.report.network import GAP_PX, class_activation, feature_maps, first_layer_filters, token_attention

FAMILIES = [
    "resnet18",
    "efficientnet_b0",
    "vgg16",
    "vgg16_bn",
    "convnext_tiny",
    "mobilenetv2_100",
    "mobilenetv3_small_100",
]
LOW, HIGH = (68, 1, 84), (253, 231, 37)  # ends of the colours
PRESENT = torch.tensor([True, False, True])
CONFIG = ModelConfig(
    backbone="resnet18", views="concat", slots=(0.0, 90.0, 180.0), head=Cells(), classes=5, crs="EPSG:3765",
    shard_px=64, size_px=64, target="data/grid",
)  # fmt: skip


def build(**changes):
    torch.manual_seed(1)
    locator = Locator(replace(CONFIG, **changes))
    locator.mean.fill_(120)
    locator.std.fill_(60)
    if locator.config.head.parts().place.has_cells:
        locator.place_head.cell_ids.copy_(torch.arange(5) * 3)
    for layer in locator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # else an untaught net sees nothing
    with torch.no_grad():
        locator.train()(pictures(locator.config.size_px, 2)[None], torch.ones(1, 3, dtype=torch.bool))
    return locator.eval()


def pictures(size_px=64, seed=1):
    """Coarse pictures, scaled up."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((size_px, size_px), Image.Resampling.BICUBIC)) for one in coarse]
    return torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2)


def tile(picture, row, column, side):
    top, left = GAP_PX + row * (side + GAP_PX), GAP_PX + column * (side + GAP_PX)
    return picture[top : top + side, left : left + side]


def normalised(locator):
    return (pictures(locator.config.size_px)[PRESENT].float() - 120) / 60


def layer1_of(locator):
    """The end of ResNet's first stage, layer by layer."""
    net = locator.backbone.network
    with torch.no_grad():
        return net.layer1(net.maxpool(net.act1(net.bn1(net.conv1(normalised(locator))))))


@pytest.mark.parametrize("backbone", FAMILIES)
def test_every_family_shows_its_filters_and_stages(backbone):
    locator = build(backbone=backbone)
    convolution = next(layer for layer in locator.modules() if isinstance(layer, nn.Conv2d))
    filters = first_layer_filters(locator)
    columns = int(np.ceil(np.sqrt(convolution.out_channels)))
    side = (filters.shape[1] - GAP_PX) // columns - GAP_PX
    assert filters.dtype == np.uint8
    assert side >= 48
    assert side % convolution.kernel_size[0] == 0
    for number, kernel in enumerate(convolution.weight.detach().double().numpy()):
        scaled = (kernel - kernel.min()) / (kernel.max() - kernel.min()) * 255
        step = side // len(kernel[0])
        shown = tile(filters, *divmod(number, columns), side)
        for dy, dx in ((0, 0), (step - 1, step - 1)):
            assert np.abs(shown[dy::step, dx::step].transpose(2, 0, 1) - scaled).max() <= 0.51
    found = feature_maps(locator, pictures(), PRESENT)
    assert len({name for name, _ in found}) == len(found) == 4
    assert [picture.shape for _, picture in found] == [(2 * 132 + 4, 9 * 132 + 4, 3)] * 4
    sides = [int(name.split(" x ")[-1]) for name, _ in found]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] in (64, 32, 16)
    assert sides[-1] == 2
    assert all(picture.std() > 20 for _, picture in found)
    name, picture = class_activation(locator, pictures(), PRESENT)
    assert name.endswith(", 4 x 4")
    assert picture.shape == (2 * 132 + 4, 2 * 132 + 4, 3)


def test_a_filter_without_contrast_is_grey():
    locator = build()
    with torch.no_grad():
        locator.backbone.network.conv1.weight[0] = 0.3
    assert (tile(first_layer_filters(locator), 0, 0, 49) == 128).all()


def test_maps_are_those_of_the_liveliest_channels_in_one_scale_for_all_views():
    locator = build()
    expected = layer1_of(locator).double().numpy()
    lively = np.argsort(-expected.std(axis=(0, 2, 3)))[:5]
    found = dict(feature_maps(locator, pictures(), PRESENT, maps=5))
    picture = found["layer1: 5 of 64 channels, 16 x 16"]
    for column, channel in enumerate(lively, start=1):
        low, high = expected[:, channel].min(), expected[:, channel].max()
        for row in range(2):
            shown = tile(picture, row, column, 128)[4::8, 4::8].astype(float)  # the middle of each pixel of the map
            values = expected[row, channel]
            assert (shown[values == low] == LOW).all()
            assert (shown[values == high] == HIGH).all()
            brightness = shown @ [0.299, 0.587, 0.114]  # grows all along the colours
            order = np.argsort(values.ravel())
            assert (np.diff(brightness.ravel()[order]) >= -1.5).all()
            middle = np.abs((values - low) / (high - low) - 0.5) < 0.01
            assert np.abs(shown[middle] - (33, 144, 141)).max(initial=0) < 6


@pytest.mark.parametrize(("size_px", "side"), [(32, 128), (160, 160)])
def test_photos_stand_before_their_maps_as_the_network_sees_them(size_px, side):
    locator = build(size_px=size_px, shard_px=160)
    _, picture = feature_maps(locator, pictures(size_px), PRESENT, layers=1)[0]
    assert picture.shape == (2 * (side + 4) + 4, 9 * (side + 4) + 4, 3)
    step = side // size_px
    for row, view in enumerate((0, 2)):
        np.testing.assert_array_equal(
            tile(picture, row, 0, side)[::step, ::step], pictures(size_px)[view].permute(1, 2, 0)
        )
    assert (picture[:GAP_PX] == 255).all()
    for row, column in ((0, 1), (1, 8)):
        assert (tile(picture, row, column, side) != 255).any(axis=2).all()  # maps are as large as the photo


def test_layers_and_maps_are_as_many_as_wanted_and_there():
    locator = build()
    assert [name.split(":")[0] for name, _ in feature_maps(locator, pictures(), PRESENT)] == [
        "act1", "layer1", "layer3", "layer4",
    ]  # fmt: skip
    stages = feature_maps(locator, pictures(), PRESENT, layers=99, maps=70)
    assert [name for name, _ in stages] == [
        "act1: 64 of 64 channels, 32 x 32",
        "layer1: 64 of 64 channels, 16 x 16",
        "layer2: 70 of 128 channels, 8 x 8",
        "layer3: 70 of 256 channels, 4 x 4",
        "layer4: 70 of 512 channels, 2 x 2",
    ]
    small = feature_maps(build(size_px=32), pictures(32), PRESENT, layers=99)
    assert small[-1][0] == "layer3: 8 of 256 channels, 2 x 2"  # a single pixel would say nothing


@pytest.mark.parametrize("views", ["concat", "mean", "attention"])
def test_a_missing_view_is_neither_seen_nor_shown(views):
    locator = build(views=views)
    dirty = torch.where(PRESENT[:, None, None, None], pictures(), pictures(seed=9))
    one, other = (feature_maps(locator, given, PRESENT) for given in (pictures(), dirty))
    assert all(np.array_equal(first[1], second[1]) for first, second in zip(one, other, strict=True))
    one, other = (class_activation(locator, given, PRESENT) for given in (pictures(), dirty))
    assert one[0] == other[0]
    assert np.array_equal(one[1], other[1])


def cam_of(locator, cell):
    """Grad-CAM where only a mean over the map and a linear head follow: the weights are the head's own."""
    net, width = locator.backbone.network, locator.backbone.width
    with torch.no_grad():
        x = layer1_of(locator)
        maps = net.layer4(net.layer3(net.layer2(x))).double()  # (2, C, 4, 4)
        bare = locator.place_head.logits(locator.place_head(torch.zeros(1, 3 * width)))
        weight = (locator.place_head.logits(locator.place_head(torch.eye(3 * width))) - bare)[:, cell].double()
        weight = weight.reshape(3, width)[PRESENT] / 16
    heat = (weight[..., None, None] * maps).sum(dim=1).clamp(min=0)
    return (heat / heat.max()).numpy()


def test_grad_cam_is_that_of_the_paper():
    locator = build(size_px=128, shard_px=128)
    locator.requires_grad_(False)  # as after a training whose backbone stayed frozen
    with torch.no_grad():
        choice = int(locator.place_head.logits(locator(pictures(128)[None], PRESENT[None]).place).argmax())
    name, picture = class_activation(locator, pictures(128), PRESENT)
    assert name == f"layer4: Grad-CAM of cell {3 * choice}, 4 x 4"
    expected = cam_of(locator, choice)
    assert expected.std() > 0.05
    for column, view in enumerate((0, 2)):
        photo = tile(picture, 0, column, 128)
        np.testing.assert_array_equal(photo, pictures(128)[view].permute(1, 2, 0))
        shown = draw_attention(photo, expected[column]).astype(int)
        assert np.abs(tile(picture, 1, column, 128) - shown).max() <= 1


def test_grad_cam_of_a_landmark_is_that_of_its_own_head():
    names = ("Arch", "Bridge", "Castle")
    locator = build(
        size_px=128, shard_px=128, head=Joint(Cells(), Softmax()), landmarks=("a", "b", "c"), landmark_names=names
    )
    with torch.no_grad():
        choice = int(locator(pictures(128)[None], PRESENT[None]).landmark.argmax())
        net = locator.backbone.network
        maps = net.layer4(net.layer3(net.layer2(layer1_of(locator)))).double()  # (2, C, 4, 4)
        weight = locator.landmark_head.classifier[-1].weight[choice].double().reshape(3, -1)[PRESENT]
    heat = (weight[..., None, None] * maps).sum(dim=1).clamp(min=0).numpy()
    name, picture = class_activation(locator, pictures(128), PRESENT, landmark=True)
    assert name == f"layer4: Grad-CAM of landmark {names[choice]}, 4 x 4"
    for column in (0, 1):
        shown = draw_attention(tile(picture, 0, column, 128), heat[column] / heat.max()).astype(int)
        assert np.abs(tile(picture, 1, column, 128) - shown).max() <= 1


def attention_of(locator, tokens):
    """What the tokens of a network with two heads pay to one another in its last block, after Vaswani et al. 2017."""
    layer = locator.backbone.network.blocks[-1].attn
    q, k, _ = layer.qkv(tokens).chunk(3, dim=-1)  # (V, N, 2 x 32) each
    per_head = [
        (q[..., part] @ k[..., part].mT / np.sqrt(32)).softmax(dim=-1) for part in (slice(0, 32), slice(32, 64))
    ]
    return torch.stack(per_head).mean(dim=0).detach().numpy()


@pytest.mark.parametrize(
    ("backbone", "whose"), [("test_vit", "the class token"), ("test_vit2", "all tokens")]
)  # the second has a register in its place
def test_the_attention_of_a_transformer_is_that_of_its_last_block(backbone, whose):
    locator = build(backbone=backbone)
    layer, tokens = locator.backbone.network.blocks[-1].attn, []
    with torch.no_grad():
        layer.qkv.weight *= 12  # untaught, it looks everywhere alike
    layer.register_forward_pre_hook(lambda layer, inputs: tokens.append(inputs[0]))
    name, picture = token_attention(locator, pictures(), PRESENT)
    assert name == f"blocks.{len(locator.backbone.network.blocks) - 1}: attention of {whose}, 4 x 4"
    paid = attention_of(locator, tokens[0])
    heat = (paid[:, 0] if whose == "the class token" else paid.mean(axis=1))[:, 1:].reshape(2, 4, 4)
    assert (heat / heat.max()).std() > 0.05
    for column, view in enumerate((0, 2)):
        photo = tile(picture, 0, column, 128)
        np.testing.assert_array_equal(photo[::2, ::2], pictures()[view].permute(1, 2, 0))
        shown = draw_attention(photo, heat[column] / heat.max()).astype(int)
        assert np.abs(tile(picture, 1, column, 128) - shown).max() <= 1


def test_a_transformer_has_attention_in_place_of_maps_unless_it_looks_through_windows():
    transformer = build(backbone="test_vit")
    for look in (feature_maps, class_activation):
        with pytest.raises(ModelError, match="test_vit has tokens in place of maps; look at its attention"):
            look(transformer, pictures(), PRESENT)
    for backbone in ("swin_tiny_patch4_window7_224", "resnet18"):
        assert token_attention(build(backbone=backbone), pictures(), PRESENT) is None


@pytest.mark.parametrize(
    ("look", "backbone"),
    [
        (feature_maps, "mobilenetv3_small_100"),
        (class_activation, "mobilenetv3_small_100"),
        (token_attention, "test_vit"),
    ],
)
def test_looking_leaves_the_network_as_it_was(look, backbone):
    locator = build(backbone=backbone).train()
    next(locator.backbone.parameters()).requires_grad_(False)
    before = {name: value.clone() for name, value in locator.state_dict().items()}
    look(locator, pictures(), PRESENT)
    assert locator.training
    assert all(torch.equal(value, before[name]) for name, value in locator.state_dict().items())
    assert not any(layer._forward_hooks for layer in locator.modules())
    assert all(layer.fused_attn for layer in locator.modules() if hasattr(layer, "fused_attn"))
    assert [parameter.requires_grad for parameter in locator.parameters()].count(False) == 1
    assert all(parameter.grad is None for parameter in locator.parameters())


def test_what_cannot_be_looked_at_is_refused():
    locator = build()
    for look in (feature_maps, class_activation, token_attention):
        with pytest.raises(ModelError, match="no view to look at"):
            look(locator, pictures(), torch.zeros(3, dtype=torch.bool))
    with pytest.raises(ModelError, match="head coordinates has no cells"):
        class_activation(build(head=Coordinates(), classes=0), pictures(), PRESENT)
    with pytest.raises(ModelError, match="no landmarks to explain"):
        class_activation(locator, pictures(), PRESENT, landmark=True)

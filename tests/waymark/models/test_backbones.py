import hashlib
import os
import socket
import urllib.request
from pathlib import Path

import pytest
import torch
from torchvision import models as zoo

from waymark.errors import ModelError
from waymark.models.backbones import Backbone, backbone_names

pytestmark = pytest.mark.slow

WIDTHS = {
    "resnet18": 512,
    "resnext50_32x4d": 2048,
    "efficientnet_b0": 1280,
    "vgg16": 512,
    "convnext_tiny": 768,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 576,
}
NAME = "mobilenet_v3_small"


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(7)
    return zoo.get_model(NAME)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))

    def nowhere(*address, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    return tmp_path / "home/hub/checkpoints"


def default_file():
    return Path(zoo.get_model_weights(NAME).DEFAULT.url).name


def assert_taught(backbone, teacher):
    state, wanted = backbone.features.state_dict(), teacher.state_dict()
    assert state
    assert all(torch.equal(value, wanted[key]) for key, value in state.items())


def refusal(weights, name=NAME):
    with pytest.raises(ModelError) as caught:
        Backbone(name, str(weights))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_family_of_the_issue_is_there():
    names = backbone_names()
    assert {f"efficientnet_b{size}" for size in range(8)} <= set(names)
    assert {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16"} <= set(names)
    for family in ("resnext", "convnext", "mobilenet"):
        assert [name for name in names if name.startswith(family)]
    assert not [name for name in names if name.startswith(("vit", "swin", "quantized", "wide"))]


@pytest.mark.parametrize("name", WIDTHS)
def test_pictures_become_features_of_the_width_that_is_told(name):
    backbone = Backbone(name).eval()
    assert backbone.width == WIDTHS[name]
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = backbone(pictures)
    assert features.shape == (3, backbone.width)
    assert features.isfinite().all()
    assert not any(layer.out_features == 1000 for layer in backbone.modules() if isinstance(layer, torch.nn.Linear))


def test_features_are_those_of_torchvisions_network_whatever_the_memory_format(teacher, tmp_path):
    torch.save(teacher.state_dict(), tmp_path / "weights.pt")
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    backbone = Backbone(NAME, str(tmp_path / "weights.pt")).eval()
    with torch.inference_mode():
        wanted = teacher.eval().avgpool(teacher.features(pictures)).flatten(1)
        torch.testing.assert_close(backbone(pictures), wanted, rtol=1e-4, atol=1e-5)
    filters = backbone.features.get_parameter("features.0.0.weight")  # 3 x 3
    assert filters.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", backbone_names())
def test_blocks_hold_every_parameter_and_batch_norm_once(name):
    with torch.device("meta"):
        backbone = Backbone(name)
    blocks = backbone.blocks()
    for kind in ("parameters", "buffers"):
        held = [id(tensor) for block in blocks for tensor in getattr(block, kind)()]
        assert sorted(held) == sorted(id(tensor) for tensor in getattr(backbone, kind)())
    assert all(any(True for _ in block.parameters()) for block in blocks)
    families = {"resn": [5], "vgg16": [5], "convnext": [5], "efficientnet": [9], "mobilenet": [13, 17, 19]}
    assert len(blocks) in next(counts for family, counts in families.items() if name.startswith(family))


@pytest.mark.parametrize("name", WIDTHS)
def test_blocks_stand_in_the_order_of_the_pictures_way(name):
    backbone = Backbone(name).eval()
    order = []
    for place, block in enumerate(backbone.blocks()):
        for layer in block.modules():
            if next(layer.parameters(recurse=False), None) is not None:
                layer.register_forward_hook(lambda *called, place=place: order.append(place))
    with torch.inference_mode():
        backbone(torch.rand(1, 3, 64, 64))
    assert order == sorted(order)
    assert set(order) == set(range(len(backbone.blocks())))


@pytest.mark.parametrize("name", [name for name in backbone_names() if name not in WIDTHS])
def test_every_other_backbone_can_be_built(name):
    with torch.device("meta"):
        assert Backbone(name).width > 500


def test_an_unknown_backbone_is_named_with_the_nearest():
    assert refusal("none", "resnet81") == "unknown backbone 'resnet81'; did you mean 'resnet18'?"


@pytest.mark.parametrize("classifier", [True, False])
def test_weights_of_a_file_are_loaded(teacher, tmp_path, classifier):
    state = {
        key: value for key, value in teacher.state_dict().items() if classifier or not key.startswith("classifier")
    }
    torch.save(state, tmp_path / "weights.pt")
    assert_taught(Backbone(NAME, str(tmp_path / "weights.pt")), teacher)
    assert not torch.equal(Backbone(NAME).features.state_dict()["features.0.0.weight"], state["features.0.0.weight"])


def test_a_classifier_of_other_classes_is_no_hindrance(tmp_path):
    torch.manual_seed(3)
    other = zoo.resnet18(num_classes=7)
    torch.save(other.state_dict(), tmp_path / "weights.pt")
    assert_taught(Backbone("resnet18", str(tmp_path / "weights.pt")), other)


def test_files_older_than_the_count_of_batches_are_loaded(teacher, tmp_path):
    state = {key: value for key, value in teacher.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "weights.pt")
    assert_taught(Backbone(NAME, str(tmp_path / "weights.pt")), teacher)


def test_pretrained_batch_norms_keep_torchvisions_momentum(teacher, tmp_path):
    torch.save(teacher.state_dict(), tmp_path / "weights.pt")
    momenta = [
        {layer.momentum for layer in backbone.modules() if isinstance(layer, torch.nn.BatchNorm2d)}
        for backbone in (Backbone(NAME), Backbone(NAME, str(tmp_path / "weights.pt")))
    ]
    assert momenta == [{0.1}, {0.01}]


@pytest.mark.parametrize(
    ("own", "other"), [("resnet18", "mobilenet_v2"), ("resnet18", "resnet34"), ("efficientnet_b0", "efficientnet_b1")]
)
def test_weights_of_another_network_are_refused(tmp_path, own, other):
    """Also those of a deeper one, in which every tensor of the own is found."""
    torch.save(zoo.get_model(other).state_dict(), tmp_path / "weights.pt")
    assert "do not fit" in refusal(tmp_path / "weights.pt", own)


def test_missing_and_misshapen_tensors_are_named(teacher, tmp_path):
    state = teacher.state_dict()
    state["features.1.block.0.0.weight"] = torch.zeros(1)
    del state["features.0.1.bias"]
    torch.save(state, tmp_path / "weights.pt")
    message = refusal(tmp_path / "weights.pt")
    assert "2 tensors are missing" in message
    assert "features.0.1.bias" in message


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"features.0.0.weight": 3}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    assert str(tmp_path / "weights.pt") in refusal(tmp_path / "weights.pt")


def test_a_missing_file_and_a_broken_file_are_refused(tmp_path):
    assert "do not exist; set weights to default, none, or the path" in refusal(tmp_path / "nothing.pt")
    assert "do not exist" in refusal(tmp_path)
    (tmp_path / "broken.pt").write_bytes(b"no pickle")
    assert "no state dict that loads without running code" in refusal(tmp_path / "broken.pt")


def test_code_in_a_file_of_weights_does_not_run(tmp_path):
    torch.save({"features.0.0.weight": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pt")
    assert "without running code" in refusal(tmp_path / "bomb.pt")
    assert not (tmp_path / "exploded").exists()
    torch.load(tmp_path / "bomb.pt", weights_only=False)
    assert (tmp_path / "exploded").exists()  # it was a bomb


def test_default_without_network_names_file_folder_and_remedy(cache):
    message = refusal("default")
    assert f"weights of {NAME} are not cached and cannot be downloaded" in message
    assert f"put {default_file()} into {cache}, set weights to a path, or to none" in message
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_default_takes_what_is_cached(cache, teacher):
    """The file is found by its name; torch checks the digest in the name of what it downloads only."""
    cache.mkdir(parents=True)
    torch.save(teacher.state_dict(), cache / default_file())
    assert_taught(Backbone(NAME, "default"), teacher)


def test_default_runs_no_code_of_the_cache_and_tells_a_broken_file(cache, tmp_path):
    cache.mkdir(parents=True)
    torch.save({"features.0.0.weight": Bomb(tmp_path / "exploded")}, cache / default_file())
    assert str(cache / default_file()) in refusal("default")
    assert not (tmp_path / "exploded").exists()
    (cache / default_file()).write_bytes(b"<html>log in to the hotel's network</html>")
    assert str(cache / default_file()) in refusal("default")


def test_a_download_is_kept_if_its_digest_is_right_and_refused_otherwise(cache, teacher, tmp_path, monkeypatch):
    torch.save(teacher.state_dict(), tmp_path / "served.pt")
    digest = hashlib.sha256((tmp_path / "served.pt").read_bytes()).hexdigest()
    served = urllib.request.urlopen
    monkeypatch.setattr("torch.hub.urlopen", lambda request: served((tmp_path / "served.pt").as_uri()))
    assert "invalid hash value" in refusal("default")
    assert not [path for path in cache.rglob("*") if path.is_file()]
    weights = zoo.MobileNet_V3_Small_Weights.IMAGENET1K_V1
    right = type(weights.value)(f"https://example.org/right-{digest[:8]}.pth", weights.transforms, weights.meta)
    monkeypatch.setattr(zoo, "get_model_weights", lambda name: type("Weights", (), {"DEFAULT": right}))
    assert_taught(Backbone(NAME, "default"), teacher)
    assert (cache / f"right-{digest[:8]}.pth").is_file()

"""Pretrained weights, on real files; the hub is out of reach."""

import os

import pytest
import timm
import torch
from safetensors.torch import save_file

from waymark.errors import ModelError
from waymark.models import weights as weights_module
from waymark.models.backbones import Backbone
from waymark.models.weights import check_weights, load_weights, weights_licence, weights_normalisation

NAME = "test_resnet"
LITE = "tf_efficientnet_lite0"


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(7)
    return timm.create_model(NAME)


def refusal(path, name=NAME):
    messages = []
    for refused in (check_weights, load_weights):
        with pytest.raises(ModelError) as caught:
            refused(name, str(path))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    return messages[0]


def same(network, state):
    return all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("classifier", [True, False])
def test_weights_of_a_file_are_loaded(teacher, tmp_path, classifier, ending):
    state = {key: value for key, value in teacher.state_dict().items() if classifier or not key.startswith("fc.")}
    path = tmp_path / f"weights.{ending}"
    (torch.save if ending == "pt" else save_file)(state, path)
    check_weights(NAME, str(path))
    assert same(load_weights(NAME, str(path)), state)
    assert not same(load_weights(NAME, "none"), state)


def test_a_classifier_of_other_classes_is_no_hindrance(tmp_path):
    other = timm.create_model(NAME, num_classes=7)
    torch.save(other.state_dict(), tmp_path / "weights.pt")
    assert same(load_weights(NAME, str(tmp_path / "weights.pt")), other.state_dict())


def test_files_older_than_the_count_of_batches_are_loaded(teacher, tmp_path):
    state = {key: value for key, value in teacher.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "weights.pt")
    assert same(load_weights(NAME, str(tmp_path / "weights.pt")), teacher.state_dict())


def test_weights_of_another_network_are_refused(tmp_path):
    """Also those of a deeper one, in which every tensor of the own is found."""
    torch.save(timm.create_model("resnet34").state_dict(), tmp_path / "weights.pt")
    assert "do not fit" in refusal(tmp_path / "weights.pt", "resnet18")


def test_missing_and_misshapen_tensors_are_named(teacher, tmp_path):
    state = teacher.state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(1)
    del state["conv1.0.weight"]
    torch.save(state, tmp_path / "weights.pt")
    message = refusal(tmp_path / "weights.pt")
    assert "2 tensors are missing" in message
    assert "conv1.0.weight" in message


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"conv1.0.weight": 3}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    assert str(tmp_path / "weights.pt") in refusal(tmp_path / "weights.pt")


def test_a_missing_file_and_a_broken_file_are_refused(tmp_path):
    assert "do not exist; set weights to bundled (tf_efficientnet_lite0), default, none" in refusal(tmp_path / "no.pt")
    assert "do not exist" in refusal(tmp_path)
    (tmp_path / "broken.pt").write_bytes(b"no pickle")
    assert "no state dict that loads without running code" in refusal(tmp_path / "broken.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    assert "no state dict that loads without running code" in refusal(tmp_path / "broken.safetensors")


def test_code_in_a_file_of_weights_does_not_run(tmp_path):
    torch.save({"conv1.0.weight": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pt")
    assert "without running code" in refusal(tmp_path / "bomb.pt")
    assert not (tmp_path / "exploded").exists()
    torch.load(tmp_path / "bomb.pt", weights_only=False)
    assert (tmp_path / "exploded").exists()  # it was a bomb


def test_default_without_network_names_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.file_download.constants.ENDPOINT", "http://127.0.0.1:9")
    message = refusal("default")
    assert f"weights of {NAME} are not in the cache of Hugging Face and cannot be downloaded" in message
    assert "set weights to bundled" in message


def test_default_where_timm_has_none_is_refused():
    assert "timm has no weights of botnet50ts_256" in refusal("default", "botnet50ts_256")


def test_bundled_weights_are_a_network_that_has_learnt():
    """The filters of its first layer are smooth, as no random ones are, and its norms have seen pictures."""
    learnt, random = load_weights(LITE, "bundled"), load_weights(LITE, "none")
    means = [
        next(value for key, value in network.state_dict().items() if key.endswith("running_mean"))
        for network in (learnt, random)
    ]
    assert means[0].abs().max() > 0.1
    assert not means[1].any()
    check_weights(LITE, "bundled")
    assert Backbone(LITE, "bundled").width == 1280


def test_bundled_weights_of_another_network_are_refused():
    assert "test_resnet has no bundled weights, tf_efficientnet_lite0 has" in refusal("bundled")


def test_bundled_weights_that_are_damaged_are_refused(monkeypatch):
    wrong = weights_module.PACKAGES[LITE]._replace(sha256="0" * 64)
    monkeypatch.setitem(weights_module.PACKAGES, LITE, wrong)
    assert "are damaged; install the package again" in refusal("bundled", LITE)


def test_normalisation_and_licence_are_those_of_the_weights():
    assert weights_normalisation(LITE).mean == (127.5, 127.5, 127.5)
    assert weights_normalisation("resnet50").mean == pytest.approx((123.675, 116.28, 103.53))
    assert weights_normalisation("vgg16.tv_in1k").interpolation == "bilinear"
    assert weights_licence("hiera_tiny_224.mae_in1k_ft_in1k", "default") == "cc-by-nc-4.0"
    assert weights_licence(LITE, "bundled") == "apache-2.0"
    assert weights_licence(LITE, "none") is None

"""Backbones of torchvision by name, without their classifier."""

import logging
import os
import sys
from contextlib import redirect_stderr
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision import models as zoo

from waymark.errors import ModelError, nearest_name

logger = logging.getLogger(__name__)

FAMILIES = ("resnet", "resnext", "efficientnet_b", "vgg16", "convnext", "mobilenet")
SCRATCH_BN_MOMENTUM = 0.1  # torchvision's mobile nets carry 0.01, which suits hundreds of epochs only


def backbone_names() -> list[str]:
    """List the backbones that can be asked for."""
    return [name for name in zoo.list_models(module=zoo) if name.startswith(FAMILIES)]


class Backbone(nn.Module):
    """Features of single pictures.

    Args:
        name: of a torchvision model.
        weights: `default` (torchvision's best, downloaded once), `none`, or a path of a state dict
            of that model, with or without its classifier.

    Raises:
        ModelError: the name is unknown, or the weights cannot be had.
    """

    def __init__(self, name: str, weights: str = "none") -> None:
        super().__init__()
        if name not in backbone_names():
            raise ModelError(f"unknown backbone {name!r}; {nearest_name(name, backbone_names())}")
        network = _build(name, weights)
        self.name = name
        self.features, self.width = _without_classifier(network)
        if weights == "none":
            for layer in self.features.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.momentum = SCRATCH_BN_MOMENTUM

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn `(N, 3, H, W)` normalised pictures into `(N, width)` features."""
        features: Tensor = self.features(pictures)
        return features.flatten(1)  # (N, C)


def _build(name: str, weights: str) -> nn.Module:
    if weights == "none":
        network: nn.Module = zoo.get_model(name)
        return network
    if weights == "default":
        return _download(name)
    network = zoo.get_model(name)
    _load(network, Path(weights))
    return network


def _download(name: str) -> nn.Module:
    try:
        with redirect_stderr(sys.stdout):  # torch.hub reports there; stderr is for errors
            network: nn.Module = zoo.get_model(name, weights="DEFAULT")
    except (URLError, OSError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        file = Path(zoo.get_model_weights(name).DEFAULT.url).name
        raise ModelError(
            f"weights of {name} are not cached and cannot be downloaded ({error}); put {file} into {cache},"
            " set weights to a path, or to none"
        ) from error
    return network


def _load(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"weights {path} do not exist; set weights to default, none, or the path of a state dict")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises anything on a file that is none
        raise ModelError(f"weights {path} are no state dict that loads without running code: {error}") from error
    if not isinstance(state, dict):
        raise ModelError(f"weights {path} hold a {type(state).__name__}, not a state dict")
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    lacking = [key for key in own if key not in fitting and not key.startswith(("fc.", "classifier."))]
    if lacking:
        raise ModelError(
            f"weights {path} do not fit: {len(lacking)} tensors are missing or of another shape, {lacking[0]}"
        )
    network.load_state_dict(fitting, strict=False)
    logger.info("loaded %d of %d tensors from %s", len(fitting), len(own), os.fspath(path))


def _without_classifier(network: nn.Module) -> tuple[nn.Module, int]:
    """Give the network with pooled features for an output, and how many they are.

    Of VGG, whose classifier takes a map of 7 x 7, the mean over the map remains: at the sizes
    of pictures used here the map is smaller than that and would only be repeated.
    """
    if isinstance(network, zoo.ResNet):
        width = network.fc.in_features
        network.fc = nn.Identity()
    elif isinstance(network, zoo.VGG):
        width = 512
        network.avgpool = nn.AdaptiveAvgPool2d(1)
        network.classifier = nn.Identity()
    elif isinstance(network, zoo.ConvNeXt):  # its classifier begins with a norm and a flatten, which stay
        width = network.classifier[-1].in_features
        network.classifier = network.classifier[:-1]
    else:
        width = next(layer for layer in network.modules() if isinstance(layer, nn.Linear)).in_features
        network.classifier = nn.Identity()
    return network, width

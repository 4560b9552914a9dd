"""Backbones of torchvision by name, without their classifier."""

import logging
import os
import sys
from contextlib import redirect_stderr
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models as zoo

from waymark.errors import ModelError, nearest_name

logger = logging.getLogger(__name__)

FAMILIES = ("resnet", "resnext", "efficientnet_b", "vgg16", "convnext", "mobilenet")
CLASSIFIERS = ("fc.", "classifier.")  # prefixes of the tensors that a state dict may lack
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
        features, self.width = _without_classifier(network)
        self.features = features.to(memory_format=torch.channels_last)  # up to twice as fast, on CPUs as well
        if weights == "none":
            for layer in self.features.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.momentum = SCRATCH_BN_MOMENTUM

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn `(N, 3, H, W)` normalised pictures into `(N, width)` features."""
        features: Tensor = self.features(pictures.contiguous(memory_format=torch.channels_last))
        return features.flatten(1)  # (N, C)

    def blocks(self) -> list[nn.ModuleList]:
        """List the parts that fine-tuning frees one after the other, from input to output.

        A stem, then what torchvision's networks are sequences of: stages of ResNet and ConvNeXt (with
        the scaling before them), of EfficientNet, of VGG between two poolings; layers of MobileNet.
        Together they hold each parameter once.
        """
        return [nn.ModuleList(block) for block in _blocks(self.features)]


def _build(name: str, weights: str) -> nn.Module:
    network: nn.Module = zoo.get_model(name)
    if weights == "default":
        _load(network, _cached_weights(name))
    elif weights != "none":
        _load(network, Path(weights))
    return network


def _cached_weights(name: str) -> Path:
    """Find torchvision's best weights in torch's cache, and download them where they are not there."""
    url = zoo.get_model_weights(name).DEFAULT.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if path.exists():
        return path
    digest = path.stem.rsplit("-", 1)[-1]  # torchvision's names end in the start of their sha256
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with redirect_stderr(sys.stdout):  # torch.hub reports there; stderr is for errors
            torch.hub.download_url_to_file(url, str(path), digest)
    except (OSError, HTTPException, RuntimeError) as error:  # torch.hub raises the last where the digest is wrong
        raise ModelError(
            f"weights of {name} are not cached and cannot be downloaded ({error}); put {path.name} into {path.parent},"
            " set weights to a path, or to none"
        ) from error
    return path


def _load(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"weights {path} do not exist; set weights to default, none, or the path of a state dict")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises anything on a file that is none
        reason = type(error).__name__
        raise ModelError(f"weights {path} are no state dict that loads without running code ({reason})") from error
    if not isinstance(state, dict):
        raise ModelError(f"weights {path} hold a {type(state).__name__}, not a state dict")
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and _shape(value) == own[key].shape}
    wrong = [key for key in sorted({*own, *state} - {*fitting}) if not key.startswith(CLASSIFIERS)]
    wrong = [key for key in wrong if not key.endswith("num_batches_tracked")]  # older files lack it, nothing reads it
    if wrong:
        raise ModelError(
            f"weights {path} do not fit: {len(wrong)} tensors are missing, of another shape or of another network,"
            f" such as {wrong[0]}"
        )
    network.load_state_dict(fitting, strict=False)
    logger.info("loaded %d of %d tensors from %s", len(fitting), len(own), os.fspath(path))


def _shape(value: object) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None


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


def _blocks(network: nn.Module) -> list[list[nn.Module]]:
    if isinstance(network, zoo.ResNet):
        stages = [network.layer1, network.layer2, network.layer3, network.layer4]
        return [[network.conv1, network.bn1], *([stage] for stage in stages)]
    layers: list[nn.Module] = list(network.get_submodule("features").children())
    if isinstance(network, zoo.ConvNeXt):
        stem, first, *others = layers
        stages = [[first], *([scaling, stage] for scaling, stage in zip(others[::2], others[1::2], strict=True))]
        return [[stem], *stages[:-1], [*stages[-1], network.classifier]]  # which is its last norm
    if isinstance(network, zoo.VGG):
        ends = [place + 1 for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        return [layers[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [[layer] for layer in layers]

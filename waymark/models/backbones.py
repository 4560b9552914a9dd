"""Backbones of torchvision by name, without their classifier, whole or cut at a stage."""

import copy
import logging
import os
import sys
import urllib.request
from contextlib import redirect_stderr
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models as zoo

from waymark.errors import ModelError, nearest_name
from waymark.models.pooling import Mean, PoolingOptions

logger = logging.getLogger(__name__)

FAMILIES = ("resnet", "resnext", "efficientnet_b", "vgg16", "convnext", "mobilenet")
CLASSIFIERS = ("fc.", "classifier.")  # prefixes of the tensors that a state dict may lack
LEVELS_PX = 256  # so large that no level of any network has lost its size to rounding
ANOTHER = "set weights to default, none, or the path of a state dict of the same backbone"
ASK_S = 10.0  # that the server of torchvision's weights has for an answer
DEFAULT_POOLING = Mean()
SCRATCH_BN_MOMENTUM = 0.1  # torchvision's mobile nets carry 0.01, which suits hundreds of epochs only


def backbone_names() -> list[str]:
    """List the backbones that can be asked for."""
    return [name for name in zoo.list_models(module=zoo) if name.startswith(FAMILIES)]


class Backbone(nn.Module):
    """Features of single pictures.

    A stem and the stages after it turn a picture into a map; pooling, and for ConvNeXt a norm, turn that
    into features. Stages are counted from the last one back: -1, -2, and so on to the stem.

    Args:
        name: of a torchvision model.
        weights: `default` (torchvision's best, downloaded once), `none`, or a path of a state dict
            of that model, with or without its classifier.
        pooling: how its maps become features.

    Raises:
        ModelError: the name is unknown, or the weights cannot be had.
    """

    def __init__(self, name: str, weights: str = "none", pooling: PoolingOptions = DEFAULT_POOLING) -> None:
        super().__init__()
        if name not in backbone_names():
            raise ModelError(f"unknown backbone {name!r}; {nearest_name(name, backbone_names())}")
        network = _build(name, weights)
        self.name = name
        features, channels = _without_classifier(network)
        self.features = features.to(memory_format=torch.channels_last)  # up to twice as fast, on CPUs as well
        self.levels = _ends_of_levels(self.features) if pooling.all_levels else []
        pooled = [channels for _, channels in self.levels] or [channels]
        self.pooling, self.width = pooling.build(pooled), pooling.width(pooled)
        if weights == "none":
            for layer in self.features.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.momentum = SCRATCH_BN_MOMENTUM

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn `(N, 3, H, W)` normalised pictures into `(N, width)` features."""
        if not self.levels:
            return self.after(self.before(pictures, -1), -1)
        found, maps = [], pictures.contiguous(memory_format=torch.channels_last)
        ends = {stage for stage, _ in self.levels}
        for number, stage in enumerate(_stages(self.features)):
            for layer in stage:
                maps = layer(maps)
            if number in ends:
                found.append(maps)
        features: Tensor = self.pooling(found)
        return features

    def before(self, pictures: Tensor, stage: int) -> Tensor:
        """Turn `(N, 3, H, W)` normalised pictures into the `(N, C, h, w)` maps that a stage gives.

        Raises:
            ModelError: there is no such stage.
        """
        maps = pictures.contiguous(memory_format=torch.channels_last)
        for layer in _flat(self._stages_to(stage)):
            maps = layer(maps)
        return maps

    def after(self, maps: Tensor, stage: int) -> Tensor:
        """Turn the maps that a stage gives into `(N, width)` features.

        Raises:
            ModelError: there is no such stage.
        """
        done = len(self._stages_to(stage))
        for layer in _flat(_stages(self.features)[done:]):
            maps = layer(maps)
        features: Tensor = _last_norm(self.features)(self.pooling(maps))
        return features.flatten(1)  # (N, width)

    def channels(self, stage: int) -> int:
        """Count how many channels the maps have that a stage gives: as many as its last convolution.

        Raises:
            ModelError: there is no such stage.
        """
        layers = [layer for part in self._stages_to(stage)[-1] for layer in part.modules()]
        return [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)][-1]

    def blocks(self) -> list[nn.ModuleList]:
        """List the parts that fine-tuning frees one after the other, from input to output.

        A stem, then what torchvision's networks are sequences of: stages of ResNet and ConvNeXt (with
        the scaling before them), of EfficientNet, of VGG between two poolings; layers of MobileNet.
        Together they hold each parameter once: the last one also those of pooling and norm.
        """
        *others, last = _stages(self.features)
        return [nn.ModuleList(block) for block in [*others, [*last, self.pooling, _last_norm(self.features)]]]

    def _stages_to(self, stage: int) -> list[list[nn.Module]]:
        stages = _stages(self.features)
        if not -len(stages) <= stage <= -1:
            raise ModelError(f"{self.name} has no stage {stage}; set it from -1, the last, to {-len(stages)}, the stem")
        return stages[: len(stages) + stage + 1]


def _ends_of_levels(features: nn.Module) -> list[tuple[int, int]]:
    """Find the last stage at each resolution, and how many channels its maps have; shapes alone are computed."""
    shapes = []
    with torch.no_grad():
        network = copy.deepcopy(features).to("meta").eval()
        maps = torch.empty(1, 3, LEVELS_PX, LEVELS_PX, device="meta")
        for stage in _stages(network):
            for layer in stage:
                maps = layer(maps)
            shapes.append(maps.shape)
    following = [*(shape[2] for shape in shapes[1:]), 0]
    return [(n, shape[1]) for n, (shape, after) in enumerate(zip(shapes, following, strict=True)) if shape[2] != after]


def check_weights(name: str, weights: str) -> None:
    """Refuse weights that cannot be had or are another network's, hours before they are needed.

    Nothing is downloaded: where torchvision's are not in torch's cache, their server is asked whether it has them.

    Args:
        name: of a torchvision model.
        weights: as of `Backbone`.

    Raises:
        ModelError: there are none, or they do not fit.
    """
    if weights == "none":
        return
    path = _cache(name) if weights == "default" else Path(weights)
    if weights == "default" and not path.exists():
        try:
            asked = urllib.request.Request(_url(name), method="HEAD")
            urllib.request.urlopen(asked, timeout=ASK_S).close()
        except (OSError, HTTPException) as error:
            raise _unreachable(name, path, error) from error
        return
    with torch.device("meta"):
        network = zoo.get_model(name)
    _fitting(network, path, "meta")


def _build(name: str, weights: str) -> nn.Module:
    network: nn.Module = zoo.get_model(name)
    if weights == "default":
        _load(network, _cached_weights(name))
    elif weights != "none":
        _load(network, Path(weights))
    return network


def _url(name: str) -> str:
    """Look up where torchvision has its best weights."""
    return str(zoo.get_model_weights(name).DEFAULT.url)


def _cache(name: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(_url(name)).name


def _unreachable(name: str, path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"weights of {name} are not cached and cannot be downloaded ({error}); put {path.name} into {path.parent},"
        " set weights to a path, or to none"
    )


def _cached_weights(name: str) -> Path:
    """Find torchvision's best weights in torch's cache, and download them where they are not there."""
    path = _cache(name)
    if path.exists():
        return path
    digest = path.stem.rsplit("-", 1)[-1]  # torchvision's names end in the start of their sha256
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with redirect_stderr(sys.stdout):  # torch.hub reports there; stderr is for errors
            torch.hub.download_url_to_file(_url(name), str(path), digest)
    except (OSError, HTTPException, RuntimeError) as error:  # torch.hub raises the last where the digest is wrong
        raise _unreachable(name, path, error) from error
    return path


def _load(network: nn.Module, path: Path) -> None:
    fitting = _fitting(network, path, "cpu")
    network.load_state_dict(fitting, strict=False)
    logger.info("loaded %d of %d tensors from %s", len(fitting), len(network.state_dict()), os.fspath(path))


def _fitting(network: nn.Module, path: Path, device: str) -> dict[str, Tensor]:
    """Read the tensors of a network from a file.

    Raises:
        ModelError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise ModelError(f"weights {path} do not exist; {ANOTHER}")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # pickle raises anything on a file that is none
        reason = type(error).__name__
        raise ModelError(
            f"weights {path} are no state dict that loads without running code ({reason}); {ANOTHER}"
        ) from error
    if not isinstance(state, dict):
        raise ModelError(f"weights {path} hold a {type(state).__name__}, not a state dict; {ANOTHER}")
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and _shape(value) == own[key].shape}
    wrong = [key for key in sorted(map(str, {*own, *state} - {*fitting})) if not key.startswith(CLASSIFIERS)]
    wrong = [key for key in wrong if not key.endswith("num_batches_tracked")]  # older files lack it, nothing reads it
    if wrong:
        raise ModelError(
            f"weights {path} do not fit: {len(wrong)} tensors are missing, of another shape or of another network,"
            f" such as {wrong[0]}; {ANOTHER}"
        )
    return fitting


def _shape(value: object) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None


def _without_classifier(network: nn.Module) -> tuple[nn.Module, int]:
    """Take the classifier from the network, and count how many channels its last map has."""
    if isinstance(network, zoo.ResNet):
        channels = network.fc.in_features
        network.fc = nn.Identity()
    elif isinstance(network, zoo.VGG):
        channels = 512
        network.classifier = nn.Identity()
    elif isinstance(network, zoo.ConvNeXt):  # its classifier begins with a norm, which stays
        channels = network.classifier[-1].in_features
        network.classifier = network.classifier[:-1]
    else:
        channels = next(layer for layer in network.modules() if isinstance(layer, nn.Linear)).in_features
        network.classifier = nn.Identity()
    return network, channels


def _last_norm(network: nn.Module) -> nn.Module:
    """Return what stands between pooling and features."""
    return network.classifier if isinstance(network, zoo.ConvNeXt) else nn.Identity()


def _flat(stages: list[list[nn.Module]]) -> list[nn.Module]:
    return [layer for stage in stages for layer in stage]


def _stages(network: nn.Module) -> list[list[nn.Module]]:
    """List the layers from picture to map, stem and stages apart."""
    if isinstance(network, zoo.ResNet):
        stages = [network.layer1, network.layer2, network.layer3, network.layer4]
        return [[network.conv1, network.bn1, network.relu, network.maxpool], *([stage] for stage in stages)]
    layers: list[nn.Module] = list(network.get_submodule("features").children())
    if isinstance(network, zoo.ConvNeXt):
        stem, first, *others = layers
        return [[stem], [first], *([scaling, stage] for scaling, stage in zip(others[::2], others[1::2], strict=True))]
    if isinstance(network, zoo.VGG):
        ends = [place + 1 for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        return [layers[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [[layer] for layer in layers]

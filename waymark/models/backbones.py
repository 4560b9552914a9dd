"""Backbones: networks of timm without their classifier, whose last map becomes features."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import timm
import torch
from timm.models import group_modules, group_parameters
from torch import Tensor, nn

from waymark.errors import ModelError, nearest_name
from waymark.models.pooling import Mean, PoolingOptions
from waymark.models.weights import NONE, Network, load_weights

DEFAULT_POOLING = Mean()
SCRATCH_BN_MOMENTUM = 0.1  # some networks carry 0.01, which suits hundreds of epochs only
HEAD_NORM = "head.norm"  # that ConvNeXt and its kin have between pooling and features
OUTLINE_PX = 256  # so large that no level of any network has lost its size to rounding
TORCHVISIONS = {
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
}

Change = Callable[[Tensor], Tensor]


def check_backbone(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        ModelError: it is unknown, with the nearest that is known.
    """
    if name in TORCHVISIONS:
        raise ModelError(f"backbone {name} is torchvision's name; timm calls it {TORCHVISIONS[name]}")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ModelError(f"unknown backbone {name!r}; {nearest_name(architecture, timm.list_models())}")
    if tag and name not in timm.list_pretrained(f"{architecture}.*"):
        known = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
        raise ModelError(f"backbone {architecture} has no weights {tag!r}; {nearest_name(tag, known)}")


def _begin_from_scratch(network: nn.Module) -> None:
    """Prepare a network for trainings of few epochs.

    Mobile nets of timm begin with depthwise filters that are larger by the root of the number of channels. Behind them
    stand norms, to which the size of a filter is nothing, and an optimizer moves large ones by a smaller part.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        elif isinstance(layer, nn.BatchNorm2d):
            layer.momentum = SCRATCH_BN_MOMENTUM


def exact_convolutions() -> None:
    """Let a GPU compute in whole float32, as a CPU does: by default its convolutions round to TF32."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


class Backbone(nn.Module):
    """Features of single pictures.

    A convolutional network turns a picture into maps, at one resolution after the other, its stages; pooling makes
    the last of them, or all, to features, with a norm behind it where the network has one. A transformer turns patches
    into tokens, and its own head joins them: it has no maps to pool.

    Args:
        name: of a model of timm, such as `resnet50` or, with a tag of its weights, `vgg16.tv_in1k`.
        weights: `none`, `default` (timm's, downloaded once), `bundled`, or a path: see `waymark.models.weights`.
        pooling: how its maps become features.
        size_px: side of the pictures; a transformer is built for one side, None for that of its weights.

    Raises:
        ModelError: the name is unknown, the weights cannot be had, or size or pooling do not fit the network.
    """

    def __init__(
        self, name: str, weights: str = NONE, pooling: PoolingOptions = DEFAULT_POOLING, size_px: int | None = None
    ) -> None:
        super().__init__()
        check_backbone(name)
        network = load_weights(name, weights)
        if size_px is not None:
            _resize(network, name, size_px)
        self.name = name
        outline = _outline(network, name, size_px, pooling.all_levels)
        self.has_maps = outline.has_maps
        if self.has_maps:
            for unused in outline.unused:
                network.set_submodule(unused, nn.Identity())
            self.pooling, self.width = pooling.build(outline.channels), pooling.width(outline.channels)
        elif pooling != DEFAULT_POOLING:
            raise ModelError(f"{name} has tokens, and pooling {pooling.name} takes maps of features; set it to mean")
        else:
            self.pooling, self.width = nn.Identity(), network.head_hidden_size
        self.all_levels = pooling.all_levels
        self.network: Network = network.to(memory_format=torch.channels_last)  # up to twice as fast, on CPUs as well
        if weights == NONE:
            _begin_from_scratch(self.network)

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn `(N, 3, H, W)` normalised pictures into `(N, width)` features."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        if self.all_levels:
            levels: Tensor = self.pooling(self.network.forward_intermediates(pictures, intermediates_only=True))
            return levels
        found = self.network.forward_features(pictures)
        if not self.has_maps:
            features: Tensor = self.network.forward_head(found, pre_logits=True)
            return features
        return self.pooled(found)

    def pooled(self, maps: Tensor) -> Tensor:
        """Turn `(N, C, h, w)` last maps into `(N, width)` features."""
        normed: Tensor = self._norm(self.pooling(maps))
        return normed.flatten(1)

    def changed(self, pictures: Tensor, stage: int, change: Change) -> Tensor:
        """Compute features as `forward` does, with the maps of a stage replaced on the way.

        Args:
            pictures: `(N, 3, H, W)` normalised.
            stage: -1 is the last resolution, -2 the one before.
            change: is called once with the `(N, C, h, w)` maps, and returns others of this shape.
        """
        hook = self._stage(stage).register_forward_hook(lambda layer, inputs, maps: change(maps))
        try:
            features: Tensor = self(pictures)
        finally:
            hook.remove()
        return features

    def channels(self, stage: int) -> int:
        """Count the channels of the maps of a stage.

        Raises:
            ModelError: there is no such stage.
        """
        self._stage(stage)
        return int(self.network.feature_info[stage]["num_chs"])

    def stages(self) -> list[tuple[str, nn.Module]]:
        """List where each resolution ends: the name of the layer and the layer, from the first to the last."""
        names = [stage["module"] for stage in self.network.feature_info]
        return [(name, self.network.get_submodule(name)) for name in names]

    def blocks(self) -> list[nn.ModuleList]:
        """List the parts that fine-tuning frees one after the other, from input to output.

        They are timm's own groups for rates that decay by layer: a stem, then stages, or the blocks of a
        transformer. Together they hold each parameter once: the last one also those of the pooling.
        """
        matcher = self.network.group_matcher(coarse=True)
        layers = group_modules(self.network, matcher)
        numbers = group_parameters(self.network, matcher)
        blocks = []
        for number in sorted(numbers):
            loose = [self.network.get_parameter(name) for name in numbers[number] if "." not in name]  # as of positions
            parts = [self.network.get_submodule(name) for name in layers.get(number, [])]
            blocks.append(nn.ModuleList([*parts, nn.ParameterList(loose)]))
        blocks[-1].append(self.pooling)
        return blocks

    @property
    def _norm(self) -> nn.Module:
        """What stands between pooling and features."""
        layers: dict[str, nn.Module] = dict(self.network.named_modules())
        return layers.get(HEAD_NORM, nn.Identity())

    def _stage(self, stage: int) -> nn.Module:
        stages = self.stages()
        if not self.has_maps:
            raise ModelError(f"{self.name} has tokens in place of maps; choose a convolutional network for this")
        if not -len(stages) <= stage <= -1:
            raise ModelError(f"{self.name} has no stage {stage}; set it from -1, the last, to {-len(stages)}")
        return stages[stage][1]


def _resize(network: Network, name: str, size_px: int) -> None:
    """Rebuild a network whose positions are learnt for another side of the picture; others take any."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if patch is not None and size_px % patch[0]:
        below = size_px // patch[0] * patch[0]
        fitting = " or ".join(str(side) for side in (below, below + patch[0]) if side)
        raise ModelError(
            f"{name} takes patches of {patch[0]} px, and {size_px} px are no multiple; set size_px {fitting}"
        )
    if hasattr(network, "set_input_size"):
        try:
            network.set_input_size(img_size=(size_px, size_px))
        except (ValueError, AssertionError, RuntimeError) as error:
            raise _unfitting(network, name, size_px, error) from error


class Outline(NamedTuple):
    """What is known of a network before it has any numbers in it."""

    has_maps: bool
    channels: list[int]  # of the last map, or of the last one of each level
    unused: list[str]  # layers with parameters that maps do not need: parts of the classifier


def _outline(network: Network, name: str, size_px: int | None, all_levels: bool) -> Outline:
    """Send a picture without numbers through a copy of the network."""
    fixed = network.pretrained_cfg.get("fixed_input_size", False)
    side = size_px or (network.pretrained_cfg["input_size"][-1] if fixed else OUTLINE_PX)
    copied = copy.deepcopy(network).to("meta").eval()
    layers = {name: layer for name, layer in copied.named_modules() if layer._parameters and not layer._modules}
    ran = set()
    for layer_name, layer in layers.items():
        layer.register_forward_hook(lambda *called, layer_name=layer_name: ran.add(layer_name))
    empty = torch.empty(1, 3, side, side, device="meta")
    try:
        with torch.no_grad():
            if all_levels:
                found = copied.forward_intermediates(empty, intermediates_only=True)
            else:
                found = [copied.forward_features(empty)]
    except (ValueError, AssertionError, RuntimeError) as error:
        raise _unfitting(network, name, side, error) from error
    shapes = [maps.shape for maps in found]
    tokens = hasattr(network, "patch_embed") or any(len(shape) != 4 for shape in shapes)
    unused = [name for name in layers if name not in ran and name != HEAD_NORM]
    return Outline(not tokens, [shape[1] for shape in shapes], unused)


def _unfitting(network: Network, name: str, size_px: int, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:200]
    own = network.pretrained_cfg["input_size"][-1]
    return ModelError(f"{name} cannot take pictures of {size_px} px ({reason}); set size_px to {own}, its own side")

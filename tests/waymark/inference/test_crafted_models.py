"""Model files that somebody spoilt or made up: refused in one line, or they answer, within bounds of memory."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
from closure import ROOT
from tiny_model import cell_outlines, make_tiny_model

from waymark.errors import ModelError
from waymark.inference.bundle import ModelFiles, export_model
from waymark.inference.lookup import load_model

pytestmark = pytest.mark.slow

SECONDS = 15
MODELS = {
    "cells": {"head": "cells"},
    "arcface": {"head": None, "landmark": "arcface", "slots": (None,)},
    "joint": {"head": "coordinates", "landmark": "attention", "slots": (None,)},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crafted")
    for name, kind in MODELS.items():
        tiny = make_tiny_model(folder / "trained", name, **kind)
        if name == "cells":
            cell_outlines().to_parquet(tiny.calibration / "cells.parquet")
        export_model(ModelFiles(name, tiny.checkpoint, tiny.calibration), folder / f"{name}.waymark")
    return folder


def test_a_spoilt_model_is_refused_in_one_line_or_answers(models):
    """In a process of its own with 6 GiB of address space; see `crafted_models.py` for how files are spoilt."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tests/support/crafted_models.py", models, "1", str(SECONDS)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    outcome = json.loads(result.stdout)
    assert outcome["found"] == []
    assert outcome["counts"]["refused"] > 0


@pytest.fixture
def model(models, tmp_path):
    """A copy to spoil, the names of whose parts are those of an exported file."""
    shutil.copytree(models / "trained/cells", tmp_path / "cells")
    shutil.copytree(models / "trained/cells-calibration", tmp_path / "cells-calibration")
    return tmp_path / "cells"


def refusal(path):
    with pytest.raises(ModelError) as caught:
        load_model(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("size_px", "x", "size_px: Input should be a valid integer"),
        ("size_px", 200_000, "size_px: Input should be less than or equal to 4096"),
        ("size_px", 4096, "4 views of 4096 px"),
        ("slots", (0.0,) * 100_000, "slots: Tuple should have at most 64 items"),
        ("slots", (), "slots: Tuple should have at least 1 item"),
        ("classes", 10**30, "classes: Input should be less than or equal to 10000000"),
        ("classes", 9_999_999, "place_head.cell_ids is not the tensor of its configuration"),
        ("embedding", 60_000, "its tensors are not those of its configuration"),
        ("crs", "banana", "make no model that answers"),
        ("backbone", "resnet81", "unknown backbone 'resnet81'"),
        ("head", {"name": "cells", "banana": 1}, "head.cells.banana: Unexpected keyword argument"),
        ("head", "x" * 5000, "head: Input tag 'xxx"),
        ("extra", 1, "extra: Unexpected keyword argument"),
    ],
)
def test_a_config_that_no_training_wrote_is_refused(model, field, value, says):
    content = torch.load(model / "model.ckpt", weights_only=True)
    content["config"][field] = value
    torch.save(content, model / "model.ckpt")
    assert says in refusal(model)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.zeros(()).expand(3, 384), "is larger than its bytes"),
        (torch.full((3, 384), torch.nan), "holds NaN or infinite numbers"),
        (torch.zeros(3, 384, dtype=torch.float64), "is not the tensor of its configuration"),
        (torch.zeros(3, 384).to_sparse(), "is not the tensor of its configuration"),
        (torch.zeros(384, 3), "is not the tensor of its configuration"),
        ("text", "is not the tensor of its configuration"),
    ],
)
def test_a_tensor_that_its_config_does_not_ask_for_is_refused(model, tensor, says):
    content = torch.load(model / "model.ckpt", weights_only=True)
    assert content["state"]["place_head.linear.weight"].shape == (3, 384)
    content["state"]["place_head.linear.weight"] = tensor
    torch.save(content, model / "model.ckpt")
    assert f"place_head.linear.weight {says}" in refusal(model)


def test_a_packed_checkpoint_is_refused_for_it_may_be_a_bomb(model):
    with zipfile.ZipFile(model / "model.ckpt") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(model / "model.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert "its parts are larger than it" in refusal(model)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[" * 200_000, "recursion limit exceeded"),
        (b'{"a": ' * 200_000, "recursion limit exceeded"),
        (b"\xff\xfe", "calibrate the model again"),
        (b"{" + b" " * 10_000_001, "more than 10,000,000 bytes"),
        (b'{"temperature": NaN, "neighbours": 1, "radii": null, "landmark": null}', "temperature: "),
        (b'{"temperature": 1e999, "neighbours": 1, "radii": null, "landmark": null}', "temperature: "),
        (b'{"temperature": 0, "neighbours": 1, "radii": null, "landmark": null}', "greater than 0"),
        (b'{"temperature": 1, "neighbours": 1, "radii": {"factor_50": "x"}, "landmark": null}', "radii.factor_50: "),
    ],
)
def test_a_calibration_that_no_stage_wrote_is_refused(model, text, says):
    (model.with_name("cells-calibration") / "calibration.json").write_bytes(text)
    line = refusal(model)
    assert says in line
    assert "calibrate the model again" in line


@pytest.mark.parametrize("name", ["model.ckpt", "calibration.json", "index.parquet"])
def test_what_is_no_regular_file_is_not_read(model, name):
    (path,) = model.parent.glob(f"*/{name}")
    path.unlink()
    path.symlink_to("/dev/zero")
    assert f"{path} is no regular file" in refusal(model)
    path.unlink()
    os.mkfifo(path)
    assert f"{path} is no regular file" in refusal(model)


def test_an_index_of_another_network_is_refused(models, model):
    shutil.copy(models / "trained/arcface-calibration/index.parquet", model.with_name("cells-calibration"))
    assert "embedding is fixed_size_list" in refusal(model)


def test_outlines_of_other_cells_are_refused(model):
    path = model.with_name("cells-calibration") / "cells.parquet"
    cell_outlines().assign(cell=[1, 2, 3]).to_parquet(path)
    assert "holds the cells of another model" in refusal(model)

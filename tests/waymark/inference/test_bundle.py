import json
import pickle
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_model import METRICS, make_tiny_model

from waymark.errors import ModelError
from waymark.inference.bundle import MANIFEST, ModelFiles, export_model, is_exported, unpack_exported
from waymark.inference.lookup import load_model
from waymark.inference.predictor import load_predictor


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("exported") / "trained")


@pytest.fixture
def files(tiny):
    return ModelFiles("tiny", tiny.checkpoint, tiny.calibration, METRICS)


@pytest.fixture
def exported(files, tmp_path):
    export_model(files, tmp_path / "tiny.waymark")
    return tmp_path / "tiny.waymark"


def refusal(path, tmp_path):
    outside = set(tmp_path.iterdir())
    folder = tmp_path / "unpacked"
    folder.mkdir()
    with pytest.raises(ModelError) as caught:
        unpack_exported(path, folder)
    assert set(tmp_path.iterdir()) == outside | {folder}  # nothing is written anywhere else
    return str(caught.value)


def rewrite(path, *, manifest=None, parts=None, extra=(), compression=zipfile.ZIP_STORED):
    """Write an exported file again with something changed."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(content.pop(MANIFEST))
    document.update(manifest or {})
    content.update(parts or {})
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(MANIFEST, json.dumps(document))
        for name, data in [*content.items(), *extra]:
            archive.writestr(name, data)
    return path


def manifest_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(MANIFEST))


def test_an_exported_model_is_the_model(exported, files, tmp_path):
    (tmp_path / "unpacked").mkdir()
    unpacked = unpack_exported(exported, tmp_path / "unpacked")
    assert unpacked.checkpoint.read_bytes() == files.checkpoint.read_bytes()
    names = {path.name for path in files.calibration.iterdir()}
    assert {path.name: path.read_bytes() for path in unpacked.calibration.iterdir()} == {
        name: (files.calibration / name).read_bytes() for name in names
    }
    assert (unpacked.name, unpacked.metrics, unpacked.attribution) == ("tiny", METRICS, None)
    name, predictor = load_model(str(exported))
    assert name == "tiny"
    direct = load_predictor(files.checkpoint, files.calibration)
    assert predictor.calibration == direct.calibration
    for key, value in direct.locator.state_dict().items():
        np.testing.assert_array_equal(predictor.locator.state_dict()[key], value)


def test_the_same_model_gives_the_same_bytes(exported, files, tmp_path):
    manifest = export_model(files, tmp_path / "again.waymark")
    assert (tmp_path / "again.waymark").read_bytes() == exported.read_bytes()
    assert manifest.metrics == METRICS


def test_outlines_of_cells_travel_along(tiny, tmp_path):
    calibration = tmp_path / "calibration"
    calibration.mkdir()
    for path in tiny.calibration.iterdir():
        (calibration / path.name).write_bytes(path.read_bytes())
    (calibration / "cells.parquet").write_bytes(b"outlines")
    export_model(ModelFiles("tiny", tiny.checkpoint, calibration), tmp_path / "with.waymark")
    (tmp_path / "unpacked").mkdir()
    unpacked = unpack_exported(tmp_path / "with.waymark", tmp_path / "unpacked")
    assert (unpacked.calibration / "cells.parquet").read_bytes() == b"outlines"


def test_the_attribution_travels_along(files, tmp_path):
    (tmp_path / "attribution.csv").write_text("record_id,author,licence\n7,Nola Čavka,CC-BY\n")
    export_model(replace(files, attribution=tmp_path / "attribution.csv"), tmp_path / "with.waymark")
    (tmp_path / "unpacked").mkdir()
    unpacked = unpack_exported(tmp_path / "with.waymark", tmp_path / "unpacked")
    assert unpacked.attribution.read_bytes() == (tmp_path / "attribution.csv").read_bytes()
    export_model(unpacked, tmp_path / "again.waymark")
    assert (tmp_path / "again.waymark").read_bytes() == (tmp_path / "with.waymark").read_bytes()
    rewrite(tmp_path / "with.waymark", parts={"attribution.csv": b"nobody"})
    shutil.rmtree(tmp_path / "unpacked")
    assert "attribution.csv is not what was exported" in refusal(tmp_path / "with.waymark", tmp_path)


def test_only_an_exported_file_is_taken_for_one(exported, tiny, tmp_path):
    (tmp_path / "text").write_text("no zip")
    assert is_exported(exported)
    assert zipfile.is_zipfile(tiny.checkpoint)
    assert not is_exported(tiny.checkpoint)
    assert not is_exported(tmp_path / "text")


def test_a_part_that_changed_on_the_way_is_refused(exported, tmp_path):
    rewrite(exported, parts={"calibration/calibration.json": b"{}"})
    assert "calibration/calibration.json is not what was exported" in refusal(exported, tmp_path)


def test_a_file_that_was_cut_off_is_refused(exported, tmp_path):
    whole = exported.read_bytes()
    middle = len(whole) // 2
    exported.write_bytes(whole[:middle] + b"\0" * 100 + whole[middle + 100 :])
    assert "copy the file again" in refusal(exported, tmp_path)


@pytest.mark.parametrize("name", ["../evil.json", "calibration/../../evil.json", "/evil.json", "run.py"])
def test_names_that_lead_elsewhere_are_refused(exported, tmp_path, name):
    digests = {**manifest_of(exported)["files"], name: "0" * 64}
    rewrite(exported, manifest={"files": digests}, extra=[(name, b"evil")])
    assert "holds other files" in refusal(exported, tmp_path)


def test_parts_that_the_manifest_does_not_know_are_refused(exported, tmp_path):
    rewrite(exported, extra=[("calibration/more.json", b"{}")])
    assert "holds other files" in refusal(exported, tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_part_that_stands_twice_is_refused(exported, tmp_path):
    rewrite(exported, extra=[("model.ckpt", b"another")])
    assert "holds other files" in refusal(exported, tmp_path)


def test_packed_parts_are_refused_for_they_may_be_bombs(exported, tmp_path):
    rewrite(exported, compression=zipfile.ZIP_DEFLATED)
    assert "was not written by waymark export" in refusal(exported, tmp_path)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ({"format": 99}, "of format 99, not 1; export the model again"),
        ({"files": []}, "no exported model"),
        ({"files": {}}, "holds other files"),
    ],
)
def test_other_manifests_are_refused(exported, tmp_path, manifest, says):
    rewrite(exported, manifest=manifest)
    assert says in refusal(exported, tmp_path)


class Bomb:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


@pytest.mark.parametrize("dump", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb))])
def test_no_code_runs_from_the_checkpoint_inside(tiny, tmp_path, monkeypatch, dump):
    monkeypatch.chdir(tmp_path)
    dump(Bomb(), tmp_path / "model.ckpt")
    export_model(ModelFiles("bomb", tmp_path / "model.ckpt", tiny.calibration), tmp_path / "bomb.waymark")
    with pytest.raises(ModelError, match="without running code"):
        load_model("bomb.waymark")
    assert not (tmp_path / "ran").exists()

import json
import zipfile

import pytest
from tiny_model import METRICS, make_tiny_model, write_metrics, write_quads
from typer.testing import CliRunner

from waymark.cli import app
from waymark.inference.bundle import MANIFEST


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    make_tiny_model(folder / "trained")
    make_tiny_model(folder / "trained", "arcface", slots=(None,), head=None, landmark="arcface")
    make_tiny_model(folder / "trained", "joint", landmark="attention")
    (folder / "trained/arcface/attribution.csv").write_text("record_id,author,licence\n")
    write_metrics(folder / "reports")
    write_quads(folder / "quads", 1)
    return folder


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.stderr
    return result


def views(folder):
    return [folder / f"quads/place-0/{heading}.jpg" for heading in (0, 90, 180, 270)]


def test_the_manifest_says_what_the_model_can(folder, tmp_path):
    run("export", tmp_path / "tiny.waymark", "--model", "trained/tiny")
    with zipfile.ZipFile(tmp_path / "tiny.waymark") as archive:
        manifest = json.loads(archive.read(MANIFEST))
    assert (manifest["name"], manifest["metrics"]) == ("tiny", METRICS)
    assert set(manifest["files"]) == {"model.ckpt", "calibration/calibration.json", "calibration/index.parquet"}


@pytest.mark.parametrize("model", ["arcface", "joint"])
def test_a_model_of_landmarks_answers_alike_from_one_file(folder, tmp_path, model):
    run("export", tmp_path / "one.waymark", "--model", f"trained/{model}")
    with zipfile.ZipFile(tmp_path / "one.waymark") as archive:
        parts = set(json.loads(archive.read(MANIFEST))["files"])
    assert "calibration/landmarks.parquet" in parts
    assert ("attribution.csv" in parts) == (model == "arcface")
    picture = views(folder)[0]
    here, there = (
        json.loads(run("guess", picture, "--json", "--model", its).stdout)["answers"][0]
        for its in (f"trained/{model}", tmp_path / "one.waymark")
    )
    assert here == there
    assert here["landmark_name"]


def test_an_exported_file_can_be_exported_again(folder, tmp_path):
    run("export", tmp_path / "one.waymark")
    run("export", tmp_path / "two.waymark", "--model", tmp_path / "one.waymark")
    assert (tmp_path / "one.waymark").read_bytes() == (tmp_path / "two.waymark").read_bytes()


def test_only_an_exported_file_is_written_over(folder, tmp_path):
    run("export", tmp_path / "tiny.waymark")
    run("export", tmp_path / "tiny.waymark")
    photo = views(folder)[0].read_bytes()
    (tmp_path / "photo.jpg").write_bytes(photo)
    assert "exists and is not an exported model" in run("export", tmp_path / "photo.jpg", code=1).stderr
    assert (tmp_path / "photo.jpg").read_bytes() == photo


def test_a_model_that_cannot_answer_is_not_exported(folder, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/model.ckpt").write_bytes(b"no checkpoint")
    for path in (folder / "trained/tiny-calibration").iterdir():
        (tmp_path / "broken" / path.name).write_bytes(path.read_bytes())
    said = run("export", tmp_path / "broken.waymark", "--model", tmp_path / "broken", code=1).stderr
    assert "is no checkpoint" in said
    assert not (tmp_path / "broken.waymark").exists()

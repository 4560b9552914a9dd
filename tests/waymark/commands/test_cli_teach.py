import json
import shutil
import unicodedata
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance
from tiny_model import LANDMARKS, make_tiny_model, write_picture
from typer.testing import CliRunner

from waymark.cli import app
from waymark.inference.bundle import unpack_exported
from waymark.inference.lookup import load_model
from waymark.inference.predictor import load_predictor
from waymark.models.calibration_files import save_calibration

TOWER = [f"tower/{number}.png" for number in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teach")
    make_tiny_model(folder / "trained", "arcface", slots=(None,), head=None, landmark="arcface")
    make_tiny_model(folder / "trained", "joint", slots=(None,), head="coordinates", landmark="arcface")
    make_tiny_model(folder / "trained", "cells", slots=(None,))
    picture = Image.open(write_picture(folder / "new/tower.png", 50))
    (folder / "tower").mkdir()
    for name, light in zip(TOWER, (0.8, 0.9, 1.1), strict=True):
        ImageEnhance.Brightness(picture).enhance(light).save(folder / name)
    for seed in range(60, 64):
        write_picture(folder / f"others/{seed}.png", seed)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "reports").mkdir()
    (folder / "reports/compare.json").write_text(json.dumps({"best_landmark_on_val": "arcface"}))
    return folder


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    return result


def answers(model, *images):
    return json.loads(run("guess", "--each", "--json", "--model", model, *images).stdout)["answers"]


@pytest.mark.parametrize("model", ["arcface", "joint"])
def test_a_landmark_with_three_pictures_is_recognised_without_training(folder, tmp_path, model):
    others = sorted(map(str, (folder / "others").iterdir()))
    before = {path: path.read_bytes() for path in (folder / "trained").rglob("*") if path.is_file()}
    (unknown,) = answers(model, "new/tower.png")
    out = tmp_path / "taught.waymark"
    said = run("teach", "Toranj", *TOWER, "--model", model, "--out", out, "--id", "L7").stderr
    assert f"{out} is {model} with Toranj, from 3 pictures" in said
    (known,) = answers(out, "new/tower.png")
    assert unknown["best_landmark"] != "L7"
    assert (known["landmark"], known["landmark_name"]) == ("L7", "Toranj")
    assert known["landmark_score"] > unknown["landmark_score"]
    for was, now in zip(answers(model, *others), answers(out, *others), strict=True):
        for name in ("latitude", "longitude", "radius_90_km"):
            assert now[name] == (was[name] if was[name] is None else pytest.approx(was[name], abs=1e-6))
        assert now["landmark_score"] >= was["landmark_score"] - 1e-6  # there is one candidate more
    assert {path: path.read_bytes() for path in before} == before
    checkpoint = unpack_exported(out, empty(tmp_path / "unpacked")).checkpoint
    assert checkpoint.read_bytes() == (folder / "trained" / model / "model.ckpt").read_bytes()


def empty(folder):
    folder.mkdir()
    return folder


def test_the_index_holds_what_the_network_sees_in_each_picture(folder, tmp_path):
    run("teach", "Toranj", *TOWER, "--out", tmp_path / "taught.waymark")  # the best on val, of landmarks
    taught = unpack_exported(tmp_path / "taught.waymark", empty(tmp_path / "unpacked"))
    index = pd.read_parquet(taught.calibration / "index.parquet")
    old = pd.read_parquet(folder / "trained/arcface-calibration/index.parquet")
    pd.testing.assert_frame_equal(index.head(len(old)), old)
    added = index.tail(3)
    assert added["landmark"].tolist() == ["Toranj"] * 3
    assert added["latitude"].isna().all()
    assert index["record_id"].is_unique
    lengths = np.linalg.norm(np.stack(added["embedding"]), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    cosines = np.stack(added["embedding"]) @ np.stack(old["embedding"]).T
    assert cosines.max() < 1 - 1e-6


def test_a_taught_file_can_be_taught_again(tmp_path):
    one, two = tmp_path / "one.waymark", tmp_path / "two.waymark"
    run("teach", "Toranj", *TOWER, "--out", one)
    run("teach", "Most", "others/60.png", "--model", one, "--out", two)
    names = load_model(str(two)).predictor.names
    assert (names["Toranj"], names["Most"], names["L1"]) == ("Toranj", "Most", LANDMARKS["L1"])
    first, second = answers(two, "new/tower.png", "others/60.png")
    assert (first["landmark"], second["landmark"]) == ("Toranj", "Most")


def test_a_name_is_known_in_whatever_form_it_is_written(tmp_path):
    out = tmp_path / "cafe.waymark"
    composed, decomposed = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    run("teach", decomposed, *TOWER, "--out", out)
    assert load_model(str(out)).predictor.names[composed] == composed
    result = run("teach", composed, *TOWER, "--model", out, "--out", tmp_path / "again.waymark", code=1)
    assert "already has the landmark Café" in result.stderr


def test_few_pictures_are_advised_against(tmp_path):
    said = run("teach", "Toranj", TOWER[0], "--out", tmp_path / "one.waymark").stderr
    assert "3 or more pictures" in said
    assert "one picture cannot be tested" in said
    assert "or more" not in run("teach", "Toranj", *TOWER, "--out", tmp_path / "three.waymark").stderr


def test_each_picture_is_tried_as_if_only_the_others_had_been_shown(folder, tmp_path):
    """By hand: teach the others, and guess the picture."""
    images = [*TOWER, "others/60.png", "others/61.png"]
    run("teach", "Toranj", *TOWER, "--model", "arcface", "--out", tmp_path / "tower.waymark")
    scores = [answer["landmark_score"] for answer in answers(tmp_path / "tower.waymark", *images[3:])]
    make_tiny_model(tmp_path, "strict", slots=(None,), head=None, landmark="arcface", threshold=max(scores) + 1e-3)
    model = tmp_path / "strict"
    said = run("teach", "Toranj", *images, "--model", model, "--out", tmp_path / "all.waymark").stderr.splitlines()
    missed = {}
    for image in images:
        others = [other for other in images if other != image]
        run("teach", "Toranj", *others, "--model", model, "--out", tmp_path / "some.waymark")
        (answer,) = answers(tmp_path / "some.waymark", image)
        if answer["landmark"] != "Toranj":
            missed[image] = answer["landmark_name"] or "no landmark"
    assert 0 < len(missed) < len(images)
    found = len(images) - len(missed)
    assert said[1] == f"each picture left out in turn, {found} of 5 are recognised as Toranj by the others"
    assert said[2:] == [f"  {image}: {instead}" for image, instead in missed.items()]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["L1", *TOWER], "already has the landmark L1 (Stari most); choose another --id"),
        (["L9", *TOWER], "already has the landmark L9 (Svjetionik)"),
        (["Stari most", *TOWER], "already has a landmark called Stari most"),
        (["Toranj", *TOWER, "--model", "cells"], "cells has no landmarks"),
        (["Toranj", "broken.jpg", *TOWER], "broken.jpg: no known picture format"),
        (["Toranj", "absent.jpg"], "absent.jpg does not exist"),
        (["", *TOWER], "the name is empty"),
        ([" \u3000", *TOWER], "the name is empty"),
        (["Toranj ", *TOWER], "the name 'Toranj ' contains invisible characters"),
        (["To\x1b[31mranj", *TOWER], r"the name 'To\x1b[31mranj' contains invisible characters"),
        (["To\u202eranj", *TOWER], "contains invisible characters"),
        (["T" * 201, *TOWER], "the name has 201 characters; use at most 200"),
        (["Toranj", *TOWER, "--id", ""], "--id is empty"),
        (["Toranj", TOWER[0], f"tower/../{TOWER[0]}"], "an image is named twice"),
    ],
)
def test_what_cannot_be_taught_is_said_in_one_line(tmp_path, arguments, says):
    result = run("teach", *arguments, "--out", tmp_path / "new.waymark", code=1)
    (line,) = result.stderr.splitlines()
    assert says in line
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_index_has_no_say_of_its_classes_learns_landmarks_by_it(folder, tmp_path):
    shutil.copytree(folder / "trained/arcface", tmp_path / "sure")
    predictor = load_predictor(folder / "trained/arcface/model.ckpt", folder / "trained/arcface-calibration")
    (tmp_path / "sure-calibration").mkdir()
    fusion = replace(predictor.calibration.landmark, retrieval_weight=0.0, head=(0.04, 0.03), index=(0.4, 0.15))
    calibration = replace(predictor.calibration, landmark=fusion)
    ids = [str(row) for row in range(6)]
    save_calibration(calibration, predictor.index, ids, tmp_path / "sure-calibration")
    run("teach", "Toranj", *TOWER, "--model", tmp_path / "sure", "--out", tmp_path / "taught.waymark")
    assert load_model(str(tmp_path / "taught.waymark")).predictor.calibration.landmark.retrieval_weight == 0
    (unknown,), (known,) = (answers(tmp_path / name, "new/tower.png") for name in ("sure", "taught.waymark"))
    assert unknown["landmark"] != "Toranj" == known["landmark"]


def test_only_an_exported_model_is_written_over(folder, tmp_path):
    photo = tmp_path / "0.png"
    shutil.copy(folder / "tower/0.png", photo)
    assert "exists and is not an exported model" in run("teach", "Toranj", *TOWER, "--out", photo, code=1).stderr
    assert photo.read_bytes() == (folder / "tower/0.png").read_bytes()

"""The public Python API, and its page in the docs."""

import doctest
import json
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
from closure import ROOT
from PIL import Image
from tiny_model import CELLS, LANDMARKS, make_tiny_model, write_picture

import waymark
from waymark.errors import ImageError, ModelError
from waymark.geo.gazetteer import nearest_places
from waymark.images.decode import read_picture
from waymark.inference.answering import Query, answer_files
from waymark.inference.bundle import ModelFiles, export_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    tiny = make_tiny_model(folder / "trained", "tiny")
    export_model(ModelFiles("tiny", tiny.checkpoint, tiny.calibration), folder / "model.waymark")
    make_tiny_model(folder / "trained", "plain", head="coordinates", landmark="softmax", slots=(None,), threshold=99.0)
    for seed, name in enumerate(("photo", "north", "east")):
        write_picture(folder / f"{name}.jpg", seed)
    write_picture(folder / "photo.png", 0)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def predictor(folder):
    return waymark.load(folder / "model.waymark")


@pytest.mark.parametrize("light", [["torch", "pandas", "mlflow", "dvc", "prefect", "PIL"]])
def test_the_import_is_light_and_an_exported_model_needs_no_workflow(folder, light):
    code = (
        f"import sys, waymark; print([name for name in {light} if name in sys.modules], waymark.__version__);"
        " waymark.load('model.waymark').predict('photo.jpg');"
        " print([name for name in ('mlflow', 'dvc', 'prefect') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [f"[] {version('waymark')}", "[]"]


def test_an_answer_is_that_of_the_command_line(folder, predictor):
    (model,) = predictor.models.each
    path = folder / "photo.jpg"
    picture = read_picture(path, model.predictor.locator.config.shard_px, max_pixels=10**6)
    row = answer_files(model.predictor, [Query("photo", (path,), (None,))], iter([picture])).table.iloc[0]
    answer = predictor.predict(path)
    assert (answer.latitude, answer.longitude) == (row["latitude"], row["longitude"])
    assert (answer.radius_50_km, answer.radius_90_km) == (row["radius_50_km"], row["radius_90_km"])
    assert answer.candidates[0].probability == pytest.approx(row["probability"])
    assert (answer.landmark, answer.landmark_name, answer.landmark_confidence) == (None, None, None)


def test_a_picture_comes_in_many_forms(folder, predictor):
    image = Image.open(folder / "photo.png")
    forms = [
        folder / "photo.png",
        str(folder / "photo.png"),
        (folder / "photo.png").read_bytes(),
        image,
        np.array(image),
    ]
    answers = [predictor.predict(form) for form in forms]
    assert all(answer == answers[0] for answer in answers)
    assert image.size == (90, 70)  # as it was


def test_candidates_are_the_most_probable_cells(folder, predictor):
    answer = predictor.predict(folder / "photo.jpg", top_k=9)
    chances = [candidate.probability for candidate in answer.candidates]
    assert len(chances) == len(CELLS)
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) == pytest.approx(1)
    assert [(one.place, one.region, one.country) for one in answer.candidates] == [
        name[:3] for name in nearest_places(np.array([(one.latitude, one.longitude) for one in answer.candidates]))
    ]
    assert {one.country for one in answer.candidates} == {"Croatia"}
    assert predictor.predict(folder / "photo.jpg", top_k=2).candidates == answer.candidates[:2]
    with pytest.raises(ValueError, match="top_k is 0; ask for at least 1"):
        predictor.predict(folder / "photo.jpg", top_k=0)


def test_headings_put_views_into_their_slots(folder, predictor):
    views = [folder / "north.jpg", folder / "east.jpg"]
    answer = predictor.predict(views, headings_deg=[0, 90])
    assert predictor.predict(views[::-1], headings_deg=[90, 0]) == answer
    assert predictor.predict(views, headings_deg=[90, 0]) != answer
    with pytest.raises(ValueError, match="headings_deg has 1 for 2 views"):
        predictor.predict(views, headings_deg=[0])


def test_a_joint_model_without_cells_answers_both_questions(folder):
    joint = waymark.load(folder / "trained/plain")
    answer = joint.predict(folder / "photo.jpg")
    (candidate,) = answer.candidates
    assert (candidate.latitude, candidate.longitude) == (answer.latitude, answer.longitude)
    assert candidate.probability is None
    assert (answer.landmark, answer.landmark_name) == (None, None)  # below the threshold
    assert 0 <= answer.landmark_confidence <= 1
    named = make_tiny_model(folder / "named", "named", head=None, landmark="softmax", slots=(None,))
    answer = waymark.load(named.checkpoint.parent).predict(folder / "photo.jpg")
    assert answer.landmark_name == {**LANDMARKS, "L9": "Svjetionik"}[answer.landmark]
    assert (answer.latitude, answer.candidates) == (None, ())
    assert json.loads(json.dumps(answer.to_dict(), allow_nan=False))["landmark"] == answer.landmark


def test_many_are_answered_in_order_and_what_is_broken_stops_none(folder, predictor):
    paths = [folder / f"{name}.jpg" for name in ("photo", "broken", "north", "gone", "east")]
    found = list(predictor.predict_many(iter(paths)))
    assert [isinstance(each, waymark.Undecodable) for each in found] == [False, True, False, True, False]
    alone = predictor.predict(paths[0])
    assert (found[0].latitude, found[0].longitude) == pytest.approx((alone.latitude, alone.longitude), abs=1e-3)
    assert (found[1].path, found[1].reason) == (paths[1], "no known picture format")
    assert found[3].reason == "no such file"
    (bare,) = predictor.predict_many([b"nothing"])
    assert bare == waymark.Undecodable(None, "no known picture format")
    assert list(predictor.predict_many([])) == []
    with pytest.raises(ImageError, match=r"broken\.jpg: no known picture format"):
        predictor.predict(paths[1])
    with pytest.raises(ImageError, match=r"float64 \(4, 4\) is no \(H, W, 3\) of uint8"):
        predictor.predict(np.zeros((4, 4)))
    with pytest.raises(ImageError, match="there is no view"):
        predictor.predict([])


def test_what_is_no_model_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(ModelError, match=r"lost\.waymark does not exist; give"):
        waymark.load("lost.waymark")


def test_the_page_in_the_docs_is_true(folder, monkeypatch):
    monkeypatch.chdir(folder)
    outcome = doctest.testfile(str(ROOT / "docs/api.md"), module_relative=False)
    assert outcome.attempted > 8
    assert outcome.failed == 0

import json
import shutil
from pathlib import Path

import pytest
from tiny_model import METRICS, make_tiny_model, write_metrics

from waymark.errors import ModelError
from waymark.inference import lookup
from waymark.inference.lookup import load_model, load_models, model_files
from waymark.inference.references import LANDMARK


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finding")
    make_tiny_model(folder / "trained", slots=(None,))
    make_tiny_model(folder / "trained", "arcface", slots=(None,), head=None, landmark="arcface")
    make_tiny_model(folder / "trained", "joint", slots=(None,), landmark="softmax")
    write_metrics(folder / "reports")
    return folder


@pytest.fixture(autouse=True)
def _here(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def refusal(reference):
    with pytest.raises(ModelError) as caught:
        load_model(reference)
    return str(caught.value)


@pytest.mark.parametrize("reference", ["trained/tiny", "trained/tiny/model.ckpt", "tiny", None])
def test_a_trained_model_is_found_with_its_calibration_and_figures(checkout, reference):
    with model_files(reference) as files:
        assert files.checkpoint == checkout / "trained/tiny/model.ckpt"
        assert files.calibration == checkout / "trained/tiny-calibration"
        assert (files.name, files.metrics) == ("tiny", METRICS)


def test_a_calibration_may_lie_beside_the_checkpoint(checkout, tmp_path):
    for path in [*(checkout / "trained/tiny").iterdir(), *(checkout / "trained/tiny-calibration").iterdir()]:
        shutil.copy(path, tmp_path)
    with model_files(str(tmp_path / "model.ckpt")) as files:
        assert files.calibration == tmp_path
        assert files.metrics == {}


def test_a_checkpoint_without_calibration_is_refused(checkout, tmp_path):
    shutil.copy(checkout / "trained/tiny/model.ckpt", tmp_path)
    assert "has no calibration" in refusal(str(tmp_path / "model.ckpt"))


def test_what_is_not_there_is_refused_with_the_remedy(checkout, tmp_path, monkeypatch):
    assert "trained holds no model.ckpt" in refusal("trained")
    assert "somewhere/model.ckpt does not exist; give a checkpoint" in refusal("somewhere/model.ckpt")
    assert "champion is no file, and there is no registry here" in refusal("champion")
    monkeypatch.chdir(tmp_path)
    assert "there is no model here; give one with --model" in refusal(None)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/compare.json").write_text(json.dumps({"best_on_val": None}))
    assert "there is no model here" in refusal(None)


def test_without_mlflow_a_file_is_found_and_an_alias_is_not(monkeypatch):
    monkeypatch.setattr(lookup, "find_spec", lambda name: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///nowhere.db")
    assert load_model(None).name == "tiny"
    assert "MLflow is not installed to look it up" in refusal("champion")


def best(**names):
    Path("reports").mkdir(exist_ok=True)
    Path("reports/compare.json").write_text(json.dumps(names))


def who(*references):
    models = load_models(references)
    return tuple(None if model is None else model.name for model in (models.place, models.landmark))


@pytest.mark.parametrize(
    ("place", "landmark", "expected"),
    [
        ("tiny", "arcface", ("tiny", "arcface")),
        ("joint", "arcface", ("joint", "arcface")),
        ("tiny", "joint", ("tiny", "joint")),
        ("joint", "joint", ("joint", "joint")),
        ("tiny", None, ("tiny", None)),
        (None, "arcface", (None, "arcface")),
        ("joint", None, ("joint", "joint")),
    ],
)
def test_by_default_the_best_for_places_and_the_best_for_landmarks_answer(
    checkout, tmp_path, monkeypatch, place, landmark, expected
):
    (tmp_path / "trained").symlink_to(checkout / "trained")
    monkeypatch.chdir(tmp_path)
    best(best_on_val=place, best_landmark_on_val=landmark)
    assert who() == expected
    with model_files(None) as files:
        assert files.name == (place or landmark)
    with model_files(None, prefer=LANDMARK) as files:
        assert files.name == (landmark or place)


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        (["tiny"], ("tiny", None)),
        (["arcface"], (None, "arcface")),
        (["joint"], ("joint", "joint")),
        (["arcface", "tiny"], ("tiny", "arcface")),
        (["tiny", "joint"], ("tiny", "joint")),
        (["arcface", "joint"], ("joint", "arcface")),
    ],
)
def test_each_question_goes_to_the_first_model_that_answers_it(references, expected):
    assert who(*references) == expected


@pytest.mark.parametrize(
    ("references", "says"),
    [
        (["joint", "arcface"], "arcface adds nothing to joint"),
        (["tiny", "arcface", "joint"], "joint adds nothing to tiny and arcface"),
        (["tiny", "tiny"], "tiny adds nothing"),
    ],
)
def test_a_model_that_would_answer_nothing_is_refused(references, says):
    with pytest.raises(ModelError, match=says):
        load_models(references)


def test_models_are_named_once(checkout):
    assert load_models(["arcface", "tiny"]).name == "tiny and arcface"
    assert load_models(["joint"]).name == "joint"
    assert len(load_models(["joint"]).each) == 1


def test_a_joint_model_that_is_there_under_two_names_is_asked_once(checkout, tmp_path, monkeypatch):
    for name in ("joint", "again", "recalibrated"):
        shutil.copytree(checkout / "trained/joint", tmp_path / "trained" / name)
        shutil.copytree(checkout / "trained/joint-calibration", tmp_path / f"trained/{name}-calibration")
    told = tmp_path / "trained/recalibrated-calibration/calibration.json"
    content = json.loads(told.read_text())
    told.write_text(json.dumps({**content, "landmark": {**content["landmark"], "threshold": 0.5}}))
    monkeypatch.chdir(tmp_path)
    best(best_on_val="joint", best_landmark_on_val="again")
    assert [model.name for model in load_models().each] == ["joint"]
    assert who() == ("joint", "joint")
    best(best_on_val="joint", best_landmark_on_val="recalibrated")  # which answers otherwise
    assert who() == ("joint", "recalibrated")


def test_the_attribution_beside_a_checkpoint_goes_along(checkout, tmp_path):
    shutil.copytree(checkout / "trained", tmp_path, dirs_exist_ok=True)
    (tmp_path / "arcface/attribution.csv").write_text("record_id,author,licence\n")
    with model_files(str(tmp_path / "arcface")) as files:
        assert files.attribution == tmp_path / "arcface/attribution.csv"
    with model_files(str(tmp_path / "tiny")) as files:
        assert files.attribution is None

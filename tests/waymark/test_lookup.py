import json
import shutil

import pytest
from tiny_model import METRICS, make_tiny_model, write_metrics

from waymark import lookup
from waymark.errors import ModelError
from waymark.lookup import load_model, model_files


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finding")
    make_tiny_model(folder / "trained", slots=(None,))
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

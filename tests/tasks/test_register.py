import json
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from tiny_model import make_tiny_model, write_picture

from tasks.registry import register, runs
from tasks.registry.register import Registered, register_best
from waymark.errors import ModelError
from waymark.inference.lookup import load_models, model_files

pytestmark = pytest.mark.slow

LOCATION, LANDMARK = "waymark-location", "waymark-landmark"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("register")
    landmarks = {"slots": (None,), "head": None, "landmark": "arcface"}
    make_tiny_model(folder, "cells", slots=(None,))
    make_tiny_model(folder, "arcface", **landmarks)
    make_tiny_model(folder, "softmax", slots=(None,), head=None, landmark="softmax")
    make_tiny_model(folder, "joint", slots=(None,), landmark="arcface")
    return folder


@pytest.fixture
def store(trained, tmp_path, monkeypatch):
    """A checkout with trained models and a store of its own; the runs and the example need no data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    shutil.copytree(trained, tmp_path / "trained")
    (tmp_path / "reports").mkdir()
    store = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = store.create_experiment("register", artifact_location=(tmp_path / "mlruns").as_uri())
    picture = write_picture(tmp_path / "example.png", 1).read_bytes()
    monkeypatch.setattr(register, "_example", lambda: pd.DataFrame({"views": [[picture]]}))
    known = {}

    def run_of(model):
        if model not in known:
            known[model] = store.create_run(experiment, tags={"waymark.model": model}).info.run_id
        return known[model]

    monkeypatch.setattr(runs, "run_of", run_of)
    yield store
    mlflow.set_tracking_uri(None)


def best(place, landmark):
    models = {name: {} for name in ("cells", "arcface", "softmax", "joint")}
    comparison = {"best_on_val": place, "best_landmark_on_val": landmark, "models": models}
    Path("reports/compare.json").write_text(json.dumps(comparison))


def test_the_best_for_places_and_the_best_for_landmarks_are_registered_once(store, tmp_path):
    (tmp_path / "trained/arcface/attribution.csv").write_text("record_id,author,licence\n")
    best("cells", "arcface")
    expected = [Registered(LOCATION, "cells", "1", True), Registered(LANDMARK, "arcface", "1", True)]
    assert register_best() == expected
    assert register_best() == expected
    for name, model in ((LOCATION, "cells"), (LANDMARK, "arcface")):
        (version,) = store.search_model_versions(f"name = '{name}'")
        assert sorted(store.get_registered_model(name).aliases) == ["challenger", "champion"]
        assert version.tags["waymark.model"] == model
    models = load_models()
    assert (models.place.name, models.landmark.name) == (f"{LOCATION} version 1", f"{LANDMARK} version 1")
    with model_files(f"{LANDMARK}@champion") as files:
        assert files.attribution.read_text() == "record_id,author,licence\n"


def test_a_better_model_is_challenger_until_somebody_promotes_it(store):
    best("cells", "arcface")
    register_best()
    best("cells", "softmax")
    place, landmark = register_best()
    assert place == Registered(LOCATION, "cells", "1", True)
    assert landmark == Registered(LANDMARK, "softmax", "2", False)
    aliases = store.get_registered_model(LANDMARK).aliases
    assert (str(aliases["champion"]), str(aliases["challenger"])) == ("1", "2")
    best("cells", "arcface")  # the old one again: no new version
    assert register_best()[1] == Registered(LANDMARK, "arcface", "1", True)


def test_other_authors_or_another_calibration_make_another_version(store, tmp_path):
    best(None, "arcface")
    assert register_best() == [Registered(LANDMARK, "arcface", "1", True)]
    (tmp_path / "trained/arcface/attribution.csv").write_text("record_id,author,licence\n")
    assert register_best()[0].version == "2"
    index = tmp_path / "trained/arcface-calibration/landmarks.parquet"
    pd.read_parquet(index).replace("Svjetionik", "Faro").to_parquet(index)
    assert register_best()[0].version == "3"


def test_a_joint_model_may_be_best_at_both(store):
    best("joint", "joint")
    assert register_best() == [Registered(LOCATION, "joint", "1", True), Registered(LANDMARK, "joint", "1", True)]
    assert load_models().name == f"{LOCATION} version 1"  # and is asked once


def test_without_any_figure_on_val_nothing_is_registered(store):
    best(None, None)
    with pytest.raises(ModelError, match="nothing to register"):
        register_best()
    assert store.search_registered_models() == []


class Bomb:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


def test_a_registered_model_needs_no_pickle_and_runs_none(store, tmp_path):
    best("cells", None)
    register_best()
    kept = {path.name: path for path in (tmp_path / "mlruns").rglob("*") if path.is_file()}
    assert not {path for path in kept.values() if path.suffix in (".pkl", ".pickle", ".cloudpickle", ".joblib")}
    assert {"MLmodel", "mlflow_model.py", "model.ckpt"} <= set(kept)
    torch.save(Bomb(), kept["model.ckpt"])
    with pytest.raises(ModelError, match="without running code"):
        load_models()
    with pytest.raises(ModelError, match="without running code"):
        mlflow.pyfunc.load_model(f"models:/{LOCATION}@champion")
    assert not Path("ran").exists()
    torch.load(kept["model.ckpt"], weights_only=False)
    assert Path("ran").exists()  # it was a bomb

import base64
import json
import subprocess
import sys
from importlib.metadata import packages_distributions

import mlflow
import pandas as pd
import pytest
from closure import ROOT, closure, imported_names
from mlflow.tracking import MlflowClient
from mlflow.types.schema import DataType
from tiny_model import HEADINGS, make_tiny_model, write_quads
from typer.testing import CliRunner

from waymark.cli import app
from waymark.errors import ModelError
from waymark.inference.answering import COLUMNS, PLACE, answer_bytes
from waymark.inference.lookup import load_model, model_files, trained_files
from waymark.inference.mlflow_model import REQUIREMENTS, log_registered_model

pytestmark = pytest.mark.slow

NAME, LANDMARK = "waymark-location", "waymark-landmark"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A store with a tiny model for places and one for landmarks, each of them champion."""
    folder = tmp_path_factory.mktemp("serving")
    write_quads(folder / "quads", 2)
    make_tiny_model(folder / "trained")
    make_tiny_model(folder / "trained", "arcface", head=None, landmark="arcface", threshold=threshold(folder))
    (folder / "trained/arcface/attribution.csv").write_text("record_id,author,licence\n")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    store = MlflowClient(uri)
    experiment = store.create_experiment("tiny", artifact_location=(folder / "mlruns").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        mlflow.log_metrics({"val.mean_km": 12.5, "test.mean_km": 14.25, "train/loss": 3.0})
        log_registered_model(trained_files(folder / "trained/tiny"), rows(folder).head(1), NAME)
        log_registered_model(trained_files(folder / "trained/arcface"), rows(folder).head(1), LANDMARK)
    for name in (NAME, LANDMARK):
        store.set_registered_model_alias(name, "champion", "1")
    yield folder
    mlflow.set_tracking_uri(None)


def threshold(folder):
    """Between the scores of the two places, so that one of them is refused."""
    make_tiny_model(folder / "measured", "arcface", head=None, landmark="arcface")
    predictor = load_model(str(folder / "measured/arcface")).predictor
    return float(answer_bytes(predictor, rows(folder))["landmark_score"].mean())


@pytest.fixture(autouse=True)
def _here(registry, monkeypatch):
    monkeypatch.chdir(registry)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def views(folder, place):
    return [folder / f"quads/place-{place}/{heading:g}.jpg" for heading in HEADINGS]


def rows(folder):
    pictures = [[path.read_bytes() for path in views(folder, place)] for place in range(2)]
    return pd.DataFrame({"views": pictures, "headings_deg": [list(HEADINGS)] * 2})


def test_registry_command_line_and_exported_file_give_the_same_numbers(registry):
    place, landmark = (
        mlflow.pyfunc.load_model(f"models:/{name}@champion").predict(rows(registry)) for name in (NAME, LANDMARK)
    )
    assert abs(place["longitude"].diff()[1]) > 1e-3
    assert sorted(landmark["landmark"].notna()) == [False, True]

    def run(*arguments):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.stderr
        return result

    run("export", "places.waymark", "--model", "champion")
    run("export", "landmarks.waymark", "--model", f"{LANDMARK}@champion")
    both = [["champion", f"{LANDMARK}@champion"], ["places.waymark", "landmarks.waymark"]]
    for models in (*both, ["trained/arcface", "trained/tiny"], []):
        chosen = [word for model in models for word in ("--model", model)]
        run("predict", "quads", "--out", "predictions.csv", *chosen)
        predicted = pd.read_csv("predictions.csv")
        for number in range(2):
            (said,) = json.loads(run("guess", *views(registry, number), "--json", *chosen).stdout)["answers"]
            for row in (said, predicted.loc[number]):
                for name in PLACE:
                    at_hand = 1e-3 if name.startswith("radius") else 1e-6  # the CSV rounds radii to metres
                    assert row[name] == pytest.approx(place[name][number], abs=at_hand)
                assert row["landmark_score"] == pytest.approx(landmark["landmark_score"][number], abs=1e-6)
                for name in ("landmark", "landmark_name"):
                    known = landmark[name][number]
                    assert pd.isna(row[name]) if known is None else row[name] == known


def test_what_a_model_has_not_learnt_is_null_in_the_registry_too(registry):
    place, landmark = (
        mlflow.pyfunc.load_model(f"models:/{name}/1").predict(rows(registry)) for name in (NAME, LANDMARK)
    )
    assert place[["landmark", "landmark_name", "landmark_score"]].isna().all(axis=None)
    assert landmark[["latitude", "longitude", "probability"]].isna().all(axis=None)
    assert place.columns.tolist() == landmark.columns.tolist() == [*COLUMNS, "error"]
    signature = mlflow.models.get_model_info(f"models:/{LANDMARK}/1").signature
    assert signature.outputs.input_names() == [*COLUMNS, "error"]
    strings = [column.name for column in signature.outputs if column.type == DataType.string]
    assert strings == ["landmark", "landmark_name", "error"]


def test_the_attribution_goes_with_the_version():
    with model_files(f"{LANDMARK}@champion") as files:
        assert files.attribution.read_text() == "record_id,author,licence\n"
    with model_files(NAME + "/1") as files:
        assert files.attribution is None


@pytest.mark.parametrize("reference", [None, "champion", "1", f"{NAME}@champion", f"{NAME}/1", f"models:/{NAME}/1"])
def test_a_version_is_named_by_alias_or_number(reference):
    with model_files(reference) as files:
        assert files.name == f"{NAME} version 1"
        assert files.metrics == {"val": {"mean_km": 12.5}, "test": {"mean_km": 14.25}}


@pytest.mark.parametrize("reference", ["challenger", "7", f"{NAME}@nobody", "another/1", "another@champion"])
def test_a_version_that_is_not_there_is_refused_with_what_is(reference):
    with pytest.raises(ModelError) as caught:
        load_model(reference)
    known = f"the models {LANDMARK}, {NAME}" if reference.startswith("another") else "champion and the versions 1"
    name, _, wanted = reference.replace("/", "@").rpartition("@")
    assert str(caught.value) == f"the registry has no {wanted} of {name or NAME}; it has {known}"


def test_a_registry_that_cannot_be_read_ends_in_one_line(registry, monkeypatch):
    (registry / "broken.db").write_text("no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registry}/broken.db")
    result = CliRunner().invoke(app, ["guess", str(views(registry, 0)[0]), "--model", "champion"])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("waymark: champion cannot be read from the registry at sqlite")
    assert "Traceback" not in result.stderr


def test_base64_as_mlflows_server_leaves_it_is_undone(registry):
    plain = rows(registry)
    packed = plain.assign(views=[[base64.b64encode(data) for data in its] for its in plain["views"]])
    model = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    pd.testing.assert_frame_equal(model.predict(packed), model.predict(plain))


def test_the_requirements_name_what_the_model_imports():
    """The registered model is loaded where nothing but these is installed."""
    names = {
        name.split(".")[0] for path in closure("waymark.inference.mlflow_model") for name in imported_names(ROOT / path)
    }
    ours = names - set(sys.stdlib_module_names) - {"waymark", "sqlalchemy"}  # mlflow brings that along
    providers = packages_distributions()
    named = {name.lower() for name in REQUIREMENTS}
    assert {
        name for name in ours if named.isdisjoint(its.lower().replace("_", "-") for its in providers[name])
    } == set()


def test_the_command_line_imports_no_mlflow_for_a_file(registry):
    code = (
        "import sys; from waymark.inference.lookup import *; load_model('trained/tiny'); print('mlflow' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False"]

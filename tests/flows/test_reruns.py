"""A change reruns exactly what depends on it, and taking it back runs nothing. Real DVC."""

import json

import pytest
from plain_cpu import PLAIN_CPU
from toy import DATA_STAGES, clone

pytestmark = pytest.mark.slow

LAST = ["ensemble", "compare"]
OF_CELLS = ["train@cells", "calibrate@cells", "evaluate@cells"]
EVERYTHING = ("data", "trained", "reports")


@pytest.fixture
def taken_back(finished):
    """Hand out the finished project, and afterwards take every change of it back: nothing may run."""
    params = (finished.folder / "params.yaml").read_text()
    lock, contents = finished.lock(), finished.bytes_of(*EVERYTHING)
    yield finished
    (finished.folder / "params.yaml").write_text(params)
    assert finished.repro() == []
    assert finished.lock() == lock
    kept = finished.bytes_of(*EVERYTHING)
    assert {path: kept.get(path) for path in contents} == contents


def test_a_second_run_runs_nothing(finished):
    lock, contents = finished.lock(), finished.bytes_of(*EVERYTHING)
    assert finished.repro() == []
    assert finished.lock() == lock
    assert finished.bytes_of(*EVERYTHING) == contents


def test_a_models_parameter_reruns_that_model_alone(taken_back):
    before = taken_back.bytes_of("trained", "reports")
    taken_back.change(models__cells__optimizer__lr=0.0015)
    assert taken_back.repro() == [*OF_CELLS, *LAST]
    after = taken_back.bytes_of("trained", "reports")
    changed = {path for path in after if after[path] != before[path]}
    assert "trained/cells/model.ckpt" in changed
    assert "reports/index.html" in changed
    assert not {path for path in changed if "coordinates" in path}


def test_the_spacing_reruns_what_uses_cells(taken_back):
    before = taken_back.bytes_of("data")
    taken_back.change(grid__spacing_m=60000.0)
    trainings = [f"train@{model}" for model in taken_back.params()["models"]]
    assert taken_back.repro(*trainings) == ["grid", "train@cells"]  # what follows a training is seen above
    after = taken_back.bytes_of("data")
    assert {path for path in after if after[path] != before[path]} == {
        "data/grid/cells.parquet",
        "data/grid/places.parquet",
    }


def test_the_size_of_pictures_changes_the_shards(taken_back):
    before = taken_back.bytes_of("data")
    taken_back.change(resize__size_px=24)
    assert taken_back.repro("split") == ["resize", "split"]
    after = taken_back.bytes_of("data")
    assert after["data/shards/shard-00000.arrow"] != before["data/shards/shard-00000.arrow"]
    assert (taken_back.folder / "data/shards/shard-00000.arrow").stat().st_size > 60 * 4 * 24 * 24 * 3


def test_a_model_is_added_and_removed_as_an_entry(finished):
    params, before = finished.params(), finished.stages()
    models = params["models"]
    finished.change(models={**models, "second": {**models["coordinates"], "views": "mean"}})
    assert finished.repro() == ["train@second", "calibrate@second", "evaluate@second", *LAST]
    assert compared(finished) == {*models, "second"}
    finished.change(models=models)
    assert finished.repro() == ["ensemble"]  # which removes what the model left behind, so that compare is cached
    assert compared(finished) == set(models)
    assert before.items() <= finished.stages().items()  # DVC forgets no stage in its lock file
    finished.change(models={"cells": models["cells"]})
    assert finished.repro() == LAST
    assert compared(finished) == {"cells"}
    finished.change(models=models)
    assert finished.repro() == []
    assert before.items() <= finished.stages().items()


def test_an_ensemble_is_added_and_removed_as_an_entry(taken_back):
    before = taken_back.bytes_of("trained", "reports/models")
    taken_back.change(ensembles={"both": {"models": ["cells", "coordinates"]}})
    assert taken_back.repro() == LAST
    comparison = json.loads((taken_back.folder / "reports/compare.json").read_text())
    assert comparison["ensembles"]["both"]["test"]["mean_km"] > 0
    assert "ensemble of cells, coordinates" in (taken_back.folder / "reports/index.html").read_text()
    assert taken_back.bytes_of("trained", "reports/models") == before


def compared(project):
    return set(json.loads((project.folder / "reports/compare.json").read_text())["models"])


@pytest.mark.parametrize("variables", [{}, PLAIN_CPU], ids=["another clone", "CPU features off"])
def test_data_stages_repeat_to_the_byte(finished, tmp_path, variables):
    other = clone(tmp_path / "other")
    assert sorted(other.repro("split", "grid", **variables)) == sorted(DATA_STAGES)
    assert other.output_md5() == finished.output_md5()
    assert other.bytes_of("data") == finished.bytes_of("data")

"""What would run and why, said from DVC's own status and held against what then really runs."""

import shutil

import pytest

from flows.stages.explain import NOTHING, Cause, plan, write

pytestmark = pytest.mark.slow


@pytest.fixture
def here(finished, monkeypatch):
    """Stand in the finished project, and put its parameters back afterwards."""
    monkeypatch.chdir(finished.folder)
    params = (finished.folder / "params.yaml").read_text()
    yield finished
    (finished.folder / "params.yaml").write_text(params)


def test_nothing_changed_causes_nothing(here):
    assert plan()[1] == []
    assert here.run("python", "-m", "flows.pipeline", "--explain").stdout.strip() == NOTHING


def test_a_parameter_is_named_with_both_values_and_what_follows_from_it(here):
    here.change(grid__spacing_m=60000.0)
    assert plan()[1] == [
        Cause("grid", ("grid.spacing_m: 40000 -> 60000.0",)),
        Cause("train@cells", ("after grid",)),
        Cause("calibrate@cells", ("after train@cells",)),
        Cause("evaluate@cells", ("after calibrate@cells",)),
        Cause("ensemble", ("after evaluate@cells",)),
        Cause("compare", ("after ensemble",)),
    ]


def test_a_new_key_and_a_new_stage_are_named(here):
    models = here.params()["models"]
    here.change(models={**models, "second": models["coordinates"]})
    causes = {cause.stage: cause.reasons for cause in plan()[1]}
    assert list(causes) == ["train@second", "calibrate@second", "evaluate@second", "ensemble", "compare"]
    assert causes["train@second"] == ("it never ran here",)
    assert any(reason.startswith("models.second: not set -> {") for reason in causes["compare"])


def test_files_and_inputs_are_named(here):
    code, photo = here.folder / "tasks/grid.py", here.folder / "input/one.txt"
    before = code.read_text()
    try:
        code.write_text(before + "\n")
        photo.write_text("new")
        causes = {cause.stage: cause.reasons for cause in plan()[1]}
    finally:
        code.write_text(before)
        photo.unlink()
    assert causes["download"] == ("input changed",)
    assert causes["filter"] == ("after download",)
    assert causes["grid"] == ("tasks/grid.py changed", "after split")


def test_outputs_that_are_missing_or_edited_are_named(here, tmp_path):
    grid, split = here.folder / "data/grid", here.folder / "data/split/statistics.json"
    kept = split.read_text()
    shutil.move(grid, tmp_path / "grid")
    split.unlink()  # it may be a link into DVC's cache
    split.write_text("{}")
    try:
        causes = {cause.stage: cause.reasons for cause in plan()[1]}
    finally:
        split.write_text(kept)
        shutil.move(tmp_path / "grid", grid)
    assert causes["split"] == ("data/split is not as its stage left it",)
    assert causes["grid"] == ("data/grid is missing", "after split")
    assert "filter" not in causes


def test_it_is_written_in_markdown():
    text = write([Cause("grid", ("grid.spacing_m: 1 -> 2", "after split")), Cause("compare", ("after grid",))])
    assert text.splitlines() == [
        "2 stages would run:",
        "",
        "- `grid`: grid.spacing_m: 1 -> 2; after split",
        "- `compare`: after grid",
    ]

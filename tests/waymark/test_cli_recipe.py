from pathlib import Path

import pytest
from typer.testing import CliRunner

from waymark.cli import app

CROATIA = "# 205 cells\nregion: HRV\ngrid: {spacing_deg: 0.21, cells: null}\nmodels:\n  cells: {epochs: 40}\n"
PHOTOS = "# holiday photos\nregion: null\ngrid: {spacing_deg: null, cells: 50}\nmodels:\n  cells: {epochs: 12}\n"
OWN = "region: HRV   # mine\ngrid: {spacing_deg: 1.0, cells: null}\nmodels:\n  own: {epochs: 3}\n"


@pytest.fixture(autouse=True)
def _checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/croatia.yaml").write_text(CROATIA)
    (tmp_path / "recipes/photos.yaml").write_text(PHOTOS)
    (tmp_path / "params.yaml").write_text(OWN)


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["recipe", *arguments])
    assert result.exit_code == code, result.stderr
    return result


def test_recipes_are_listed_with_what_they_say_of_themselves():
    assert run("list").stdout.splitlines() == ["croatia  205 cells", "photos   holiday photos"]


def test_a_recipe_is_shown_as_it_stands():
    assert run("show", "croatia").stdout == CROATIA


def test_a_recipe_takes_the_place_of_the_params_and_says_what_changes():
    result = run("use", "croatia")
    assert Path("params.yaml").read_text() == CROATIA
    assert Path("params.yaml.before").read_text() == OWN
    assert result.stdout.splitlines() == [
        "grid.spacing_deg: 1.0 -> 0.21",
        "models.cells.epochs: (absent) -> 40",
        "models.own.epochs: 3 -> (absent)",
    ]
    assert "kept as params.yaml.before" in result.stderr


def test_ones_own_params_are_never_lost():
    run("use", "croatia")
    run("use", "photos")  # the recipe in between is not kept: it lies in recipes/
    assert not Path("params.yaml.before-2").exists()
    Path("params.yaml").write_text(OWN + "# again\n")
    run("use", "croatia")
    assert Path("params.yaml.before").read_text() == OWN
    assert Path("params.yaml.before-2").read_text() == OWN + "# again\n"


def test_a_recipe_in_place_changes_nothing():
    run("use", "croatia")
    result = run("use", "croatia")
    assert result.stdout == ""
    assert "is recipes/croatia.yaml already" in result.stderr


def test_what_is_no_recipe_is_refused(tmp_path, monkeypatch):
    assert "did you mean 'croatia'?" in run("use", "croatian", code=1).stderr
    Path("recipes/broken.yaml").write_text("region: [")
    assert "recipes/broken.yaml is no valid YAML" in run("use", "broken", code=1).stderr
    assert Path("params.yaml").read_text() == OWN
    assert not Path("params.yaml.before").exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "run from the root of a checkout" in run("list", code=1).stderr

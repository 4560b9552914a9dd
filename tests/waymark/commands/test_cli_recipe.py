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


def test_recipes_are_listed_with_all_that_they_say_of_themselves():
    long = "# A sentence that is wider than a terminal has columns,\n# over several lines, to its end.\n"
    Path("recipes/long.yaml").write_text(long + "\n# of a section\nregion: null\n")
    first, *middle, last = run("list").stdout.splitlines()
    assert (first, last) == ("croatia  205 cells", "photos   holiday photos")
    said = " ".join(" ".join(middle).split())
    assert said == "long A sentence that is wider than a terminal has columns, over several lines, to its end."
    assert all(len(line) <= 80 for line in middle)


OF_FOLDER = (
    "# mine\ndownload:\n  source: photos   # of whom\n  path: input      # folder\n  file: null\nregion: null # all\n"
)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("my photos", '"my photos"'),
        ("./my photos/", '"my photos"'),
        ("~/café", '"{home}/café"'),
        ("{home}/café", '"{home}/café"'),
    ],
)
def test_a_recipe_learns_from_a_folder_of_ones_own(tmp_path, monkeypatch, given, written):
    """Whatever stands in the recipe besides stays as it is."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    (home / "café").mkdir(parents=True)
    checkout = tmp_path / "checkout"
    (checkout / "recipes").mkdir(parents=True)
    (checkout / "my photos").mkdir()
    (checkout / "recipes/mine.yaml").write_text(OF_FOLDER)
    monkeypatch.chdir(checkout)
    result = run("use", "mine", "--path", given.format(home=home))
    expected = OF_FOLDER.replace("path: input ", f"path: {written.format(home=home)} ")
    assert Path("params.yaml").read_text() == expected
    assert f"with the data in {written.format(home=home)[1:-1]}" in result.stderr


def test_a_path_that_a_recipe_cannot_learn_from_is_refused():
    Path("recipes/mine.yaml").write_text(OF_FOLDER)
    Path("recipes/server.yaml").write_text(OF_FOLDER.replace("photos", "gldv2"))
    for recipe in ("croatia", "photos"):
        Path(f"recipes/{recipe}.yaml").unlink()
    assert "does not exist; name the folder" in run("use", "mine", "--path", "nowhere", code=1).stderr
    assert "recipes/mine.yaml is not a folder" in run("use", "mine", "--path", "recipes/mine.yaml", code=1).stderr
    refused = run("use", "server", "--path", "recipes", code=1).stderr
    assert "has a source of its own (download.source: gldv2); --path works with mine" in refused
    Path("a\nb").mkdir()
    assert "rename it" in run("use", "mine", "--path", "a\nb", code=1).stderr
    assert Path("params.yaml").read_text() == OWN


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
    assert "is already recipes/croatia.yaml" in result.stderr


def test_what_is_no_recipe_is_refused(tmp_path, monkeypatch):
    assert "did you mean 'croatia'?" in run("use", "croatian", code=1).stderr
    Path("recipes/broken.yaml").write_text("region: [")
    assert "recipes/broken.yaml is not valid YAML" in run("use", "broken", code=1).stderr
    assert Path("params.yaml").read_text() == OWN
    assert not Path("params.yaml.before").exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "run from the root of a checkout" in run("list", code=1).stderr

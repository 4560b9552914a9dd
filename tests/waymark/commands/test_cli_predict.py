import json
import os
import shutil
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from tiny_model import make_tiny_model, write_picture, write_quads
from typer.testing import CliRunner

from waymark.cli import app
from waymark.commands import predict
from waymark.commands.predict import find_queries
from waymark.errors import SourceError
from waymark.inference.answering import LANDMARK, PLACE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    make_tiny_model(folder / "trained")
    make_tiny_model(folder / "trained", "single", slots=(None,), seed=4)
    write_arcface(folder)
    return folder


def write_arcface(folder):
    """Write a model that refuses some of five pictures."""
    arcface = {"slots": (None,), "head": None, "landmark": "arcface"}
    for seed in range(5):
        write_picture(folder / f"measured/{seed}.png", seed)
    make_tiny_model(folder, "measuring", **arcface)
    argument = ["predict", str(folder / "measured"), "--out", str(folder / "measured.csv"), "--model"]
    assert CliRunner().invoke(app, [*argument, str(folder / "measuring")]).exit_code == 0
    threshold = float(pd.read_csv(folder / "measured.csv")["landmark_score"].median())
    make_tiny_model(folder / "trained", "arcface", threshold=threshold, **arcface)


@pytest.fixture(autouse=True)
def _here(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def run(folder, *arguments, model="tiny"):
    return CliRunner().invoke(app, [*arguments, "--model", str(folder / "trained" / model)])


def predicted(folder, *arguments, model="tiny"):
    result = run(folder, "predict", *arguments, "--out", "predictions.csv", model=model)
    assert result.exit_code == 0, result.stderr
    return pd.read_csv("predictions.csv", dtype={"uuid": str}), result.stderr


def guessed(folder, *images, model="tiny"):
    result = run(folder, "guess", *map(str, images), "--json", model=model)
    return json.loads(result.stdout)["answers"][0]


def assert_same(row, said):
    for name in ("latitude", "longitude"):
        assert row[name] == pytest.approx(said[name], abs=1e-5)
    for name in ("radius_50_km", "radius_90_km"):
        assert row[name] == pytest.approx(said[name], abs=1e-2)
    assert row["cell"] == said["cell"]


@pytest.mark.parametrize("inside", ["", "images", "data", "data/train"])
def test_places_of_four_views_get_the_numbers_of_guess(folder, tmp_path, inside):
    names = write_quads(tmp_path / "places" / inside, 2)
    table, said = predicted(folder, "places")
    assert table.columns.tolist() == [
        *("uuid", "latitude", "longitude", "radius_50_km", "radius_90_km", "cell", "probability"),
        *("landmark", "landmark_name", "landmark_score", "landmark_confidence", "best_landmark", "views"),
    ]
    assert table["uuid"].tolist() == names
    assert table["views"].tolist() == [4, 4]
    assert "2 of 2 answered by tiny in predictions.csv" in said
    for name, row in zip(names, table.to_dict("records"), strict=True):
        assert_same(
            row, guessed(folder, *[tmp_path / "places" / inside / name / f"{h}.jpg" for h in (0, 90, 180, 270)])
        )


@pytest.mark.parametrize("top_k", [2, 5])
def test_candidates_of_each_answer_are_named_in_columns(folder, tmp_path, monkeypatch, top_k):
    monkeypatch.setattr(predict, "AT_ONCE", 2)
    write_quads(tmp_path / "places", 3)
    table, _ = predicted(folder, "places", "--top-k", str(top_k))
    plain, _ = predicted(folder, "places")
    pd.testing.assert_frame_equal(table[plain.columns], plain)
    names = ("latitude", "longitude", "probability", "place", "region", "country")
    expected = [f"candidate_{rank}_{name}" for rank in range(1, top_k + 1) for name in names]
    assert table.columns.difference(plain.columns, sort=False).tolist() == expected
    for row in table.to_dict("records"):
        said = guessed(folder, *[tmp_path / "places" / row["uuid"] / f"{h}.jpg" for h in (0, 90, 180, 270)])
        for rank, candidate in enumerate(said["candidates"][:top_k], start=1):
            for name in ("place", "region", "country"):
                assert row[f"candidate_{rank}_{name}"] == candidate[name]
            for name in ("latitude", "longitude", "probability"):
                assert row[f"candidate_{rank}_{name}"] == pytest.approx(candidate[name], abs=1e-3)
        assert row["candidate_1_probability"] == row["probability"]
    if top_k == 5:  # of three cells
        assert table[expected[18:]].isna().all(axis=None)


def test_candidates_of_two_models_are_those_of_places(folder, tmp_path):
    write_picture(tmp_path / "photos/a.png", 1)
    both = [*models(folder, "single"), *models(folder, "arcface")]
    arguments = ["predict", "photos", "--out", "both.csv", "--top-k", "1"]
    assert CliRunner().invoke(app, [*arguments, *both]).exit_code == 0
    places, _ = predicted(folder, "photos", "--top-k", "1", model="single")
    columns = [name for name in places.columns if name.startswith("candidate_1_")]
    pd.testing.assert_frame_equal(pd.read_csv("both.csv")[columns], places[columns])
    assert places["candidate_1_country"].notna().all()
    landmarks, _ = predicted(folder, "photos", "--top-k", "1", model="arcface")
    assert landmarks[columns].isna().all(axis=None)


def test_photos_of_any_tree_get_the_numbers_of_guess_by_their_path(folder, tmp_path):
    names = ["Zadar/DSC_1.JPG", "Zadar/old/b.png", "a.webp"]
    for seed, name in enumerate(names):
        write_picture(tmp_path / "photos" / name, seed)
    (tmp_path / "photos/notes.txt").write_text("no picture")
    write_picture(tmp_path / "photos/.trash/c.jpg", 9)
    table, _ = predicted(folder, "photos", model="single")
    assert table["uuid"].tolist() == names
    for name, row in zip(names, table.to_dict("records"), strict=True):
        assert_same(row, guessed(folder, tmp_path / "photos" / name, model="single"))


def test_what_cannot_be_decoded_is_listed_and_does_not_stop_the_rest(folder, tmp_path):
    write_quads(tmp_path / "places", 3)
    (tmp_path / "places/place-0/90.jpg").write_bytes(b"no picture")
    for heading in (0, 90, 180, 270):
        (tmp_path / f"places/place-1/{heading}.jpg").write_bytes(b"")
    (tmp_path / "places/place-2/270.jpg").unlink()
    table, said = predicted(folder, "places")
    assert table["uuid"].tolist() == ["place-0", "place-2"]
    assert table["views"].tolist() == [3, 3]
    lines = said.splitlines()
    assert [line.split(":")[0] for line in lines[:5]] == [
        "places/place-0/90.jpg",
        *(f"places/place-1/{heading}.jpg" for heading in (0, 90, 180, 270)),
    ]
    assert "2 of 3 answered by tiny in predictions.csv, 1 have no picture; 5 pictures could not be decoded" in lines


def test_a_prediction_that_comes_to_nothing_leaves_the_old_one(folder, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"no picture")
    (tmp_path / "predictions.csv").write_text("of yesterday")
    result = run(folder, "predict", "photos", "--out", "predictions.csv")
    assert result.exit_code == 1
    assert "waymark: no picture of photos can be decoded" in result.stderr
    assert (tmp_path / "predictions.csv").read_text() == "of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "predictions.csv"]


def test_a_model_of_places_and_one_of_landmarks_answer_in_one_table(folder, tmp_path, monkeypatch):
    """Pictures go through in chunks, decoded once for both models or to the side that each wants."""
    monkeypatch.setattr(predict, "AT_ONCE", 2)
    for seed in range(5):
        write_picture(tmp_path / f"photos/{seed}.png", seed)
    both = [*models(folder, "single"), *models(folder, "arcface")]
    result = CliRunner().invoke(app, ["predict", "photos", "--out", "both.csv", *both])
    assert result.exit_code == 0, result.stderr
    assert "5 of 5 answered by single and arcface in both.csv" in result.stderr
    table = pd.read_csv("both.csv")
    places, _ = predicted(folder, "photos", model="single")
    landmarks, _ = predicted(folder, "photos", model="arcface")
    pd.testing.assert_frame_equal(table[list(PLACE)], places[list(PLACE)])
    of_landmarks = [*LANDMARK, "best_landmark"]
    pd.testing.assert_frame_equal(table[of_landmarks], landmarks[of_landmarks])
    assert places[of_landmarks].isna().all(axis=None)
    assert landmarks[list(PLACE)].isna().all(axis=None)
    assert 0 < table["landmark"].notna().sum() < 5
    assert table["best_landmark"].notna().all()
    assert table["landmark_score"].nunique() == 5


def models(folder, *names):
    return [word for name in names for word in ("--model", str(folder / "trained" / name))]


def test_views_beyond_the_models_are_said_to_be_unused(folder, tmp_path):
    write_quads(tmp_path / "places", 1)
    table, said = predicted(folder, "places", model="single")
    assert table["views"].tolist() == [1]
    assert "single takes 1 views of a place; the rest of the 4 were not used" in said


def refusal(folder, *arguments):
    result = run(folder, "predict", *arguments, "--out", "predictions.csv")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    return line


def test_folders_that_say_nothing_clear_are_refused(folder, tmp_path):
    assert "waymark: absent is not a folder" in refusal(folder, "absent")
    (tmp_path / "empty").mkdir()
    assert "empty has no picture" in refusal(folder, "empty")
    write_quads(tmp_path / "mixed", 1)
    write_picture(tmp_path / "mixed/cover.jpg", 5)
    assert "set --layout quads or photos" in refusal(folder, "mixed")
    assert len(find_queries(tmp_path / "mixed", "quads")) == 1
    assert len(find_queries(tmp_path / "mixed", "photos")) == 5
    write_quads(tmp_path / "twice/train", 1)
    write_quads(tmp_path / "twice/val", 1)
    assert "have the same name" in refusal(folder, "twice")
    write_picture(tmp_path / "loose/a.jpg", 5)
    assert "loose has no place" in refusal(folder, "loose", "--layout", "quads")
    write_quads(tmp_path / "double", 1)
    shutil.copy(tmp_path / "double/place-0/90.jpg", tmp_path / "double/place-0/90.png")
    assert "two pictures of the same heading" in refusal(folder, "double")


def test_what_is_no_photo_is_left_out_and_counted_as_in_the_source(folder, tmp_path):
    write_picture(tmp_path / "photos/a.jpg", 1)
    for name in ("@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/._a.jpg", ".thumbnails/a.jpg", "._a.jpg"):
        write_picture(tmp_path / "photos" / name, 1)
    for name in ("a.NEF", "a.dng", "a.xmp", "a.mov", "Thumbs.db", "notes.txt"):
        (tmp_path / "photos" / name).write_bytes((tmp_path / "photos/a.jpg").read_bytes())
    write_picture(tmp_path / "elsewhere/b.jpg", 2)
    (tmp_path / "photos/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/round").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/b.jpg").symlink_to(tmp_path / "elsewhere/b.jpg")
    (tmp_path / "photos/gone.jpg").symlink_to("nowhere")
    os.mkfifo(tmp_path / "photos/pipe.jpg")
    table, said = predicted(folder, "photos", model="single")
    assert table["uuid"].tolist() == ["a.jpg"]
    counted = (
        "1 broken links, 5 hidden, 2 linked folders, 1 links out, 1 others, 2 raw, 1 sidecars, 1 special files, 1 v"
    )
    assert f"skipped: {counted}ideos" in said.splitlines()
    (tmp_path / "photos/a.jpg").unlink()
    with pytest.raises(SourceError, match=r"photos has no picture \(skipped: 1 broken links, 5 hidden"):
        find_queries(tmp_path / "photos", "auto")


@pytest.mark.parametrize("layout", ["photos", "quads"])
def test_names_that_are_no_utf8_or_in_another_form_reach_the_table(folder, tmp_path, layout):
    names = [os.fsencode(unicodedata.normalize("NFD", "Café")), b"caf\xe9"]
    for name in names:
        place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/photos/" + name))
        write_picture(place / "0.jpg", 1)
    table, _ = predicted(folder, "photos", "--layout", layout, model="single")
    suffix = "/0.jpg" if layout == "photos" else ""
    assert table["uuid"].tolist() == ["Café" + suffix, "caf\\xe9" + suffix]

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyproj import Geod
from shapely.geometry import shape
from tiny_model import CELLS, CENTRES, LANDMARKS, NEW, make_tiny_model, write_picture, write_quads
from typer.testing import CliRunner

from waymark.cli import app
from waymark.commands.pictures import open_upright
from waymark.errors import ImageError
from waymark.geo.gazetteer import nearest_places

SPHERE = Geod(a=6371008.8, b=6371008.8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guess")
    make_tiny_model(folder / "trained")
    make_tiny_model(folder / "trained", "single", slots=(None,), head="coordinates")
    landmarks = {"slots": (None,), "head": None}
    make_tiny_model(folder / "trained", "arcface", landmark="arcface", **landmarks)
    make_tiny_model(folder / "trained", "strict", landmark="arcface", threshold=1e9, **landmarks)
    make_tiny_model(folder / "trained", "attention", landmark="attention", **landmarks)
    write_quads(folder / "quads", 2)
    write_picture(folder / "photos/castle.png", 77)
    write_picture(folder / "photos/bridge.jpg", 78, size=(60, 120))
    (folder / "photos/broken.jpg").write_bytes(b"\xff\xd8 no more")
    return folder


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def views(place=0, order=(0, 90, 180, 270)):
    return [f"quads/place-{place}/{heading}.jpg" for heading in order]


def run(*arguments, model="tiny"):
    """Ask one model, or several with a space between."""
    chosen = [word for name in model.split() for word in ("--model", name)]
    return CliRunner().invoke(app, ["guess", *chosen, *arguments])


def answers(*arguments, model="tiny"):
    result = run(*arguments, "--json", model=model)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["answers"]


def name_of(said):
    return ", ".join(filter(None, (said["place"], said["region"], said["country"])))


def refusal(*arguments, model="tiny"):
    result = run(*arguments, model=model)
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("waymark: ")]
    return line


def test_people_read_place_radius_and_cell_and_further_candidates():
    (said,) = answers(*views())
    radius_50, radius_90 = (f"{said[name]:.1f} km" for name in ("radius_50_km", "radius_90_km"))
    result = run(*views())
    first, *others = said["candidates"]
    assert first["probability"] == pytest.approx(said["probability"])
    assert result.stdout.splitlines() == [
        "0.jpg, 90.jpg, 180.jpg, 270.jpg",
        f"  place   {said['latitude']:.5f}, {said['longitude']:.5f} ({name_of(said)})",
        f"  radius  {radius_50} holds the truth in 50 % of cases, {radius_90} in 90 %",
        f"  cell    {said['cell']}, probability {said['probability']:.3f}",
        *(
            f"  {rank}     probability {other['probability']:.3f}, {name_of(other)}"
            for rank, other in zip(("2nd", "3rd"), others, strict=True)
        ),
    ]
    assert result.stderr.splitlines() == ["answered by tiny"]
    assert said["cell"] in CELLS


def test_json_names_the_place_and_its_candidates():
    (said,) = answers(*views())
    here = nearest_places(np.array([[said["latitude"], said["longitude"]]]))[0]
    assert (said["place"], said["region"], said["country"]) == here[:3]
    best = said["candidates"]
    assert [one["probability"] for one in best] == sorted((one["probability"] for one in best), reverse=True)
    assert best[0]["probability"] == pytest.approx(said["probability"])
    lat_lon = np.array([(one["latitude"], one["longitude"]) for one in best])
    np.testing.assert_allclose(lat_lon[lat_lon[:, 0].argsort()], CENTRES, atol=1e-6)
    assert [(one["place"], one["region"], one["country"]) for one in best] == [
        name[:3] for name in nearest_places(lat_lon)
    ]


def test_a_model_without_cells_has_one_candidate_and_one_without_places_none():
    (said,) = answers("photos/castle.png", model="single")
    (only,) = said["candidates"]
    assert only["probability"] is None
    assert {name: said[name] for name in only if name != "probability"} == {
        name: value for name, value in only.items() if name != "probability"
    }
    (said,) = answers("photos/castle.png", model="arcface")
    assert (said["candidates"], said["place"], said["country"]) == ([], None, None)
    (said,) = answers("photos/castle.png", model="tiny arcface")
    assert len(said["candidates"]) == 3


def test_headings_come_from_the_names_of_the_files_or_are_given():
    (named,) = answers(*views())
    (shuffled,) = answers(*views(order=(180, 0, 270, 90)))
    (turned,) = answers(*views(), "--headings", "90,0,180,270")
    assert shuffled["headings_deg"] == [180, 0, 270, 90]
    assert turned["headings_deg"] == [90, 0, 180, 270]
    assert shuffled["longitude"] == pytest.approx(named["longitude"], abs=1e-5)
    assert abs(turned["longitude"] - named["longitude"]) > 1e-3
    (one,) = answers("quads/place-0/90.jpg")
    assert one["headings_deg"] == [90]


def test_images_without_headings_stand_in_order_and_that_is_said():
    result = run("photos/castle.png", "photos/bridge.jpg")
    assert result.exit_code == 0
    assert "no headings are known" in result.stderr


def test_each_image_is_answered_as_if_it_were_alone():
    one, other = answers("photos/castle.png", "photos/bridge.jpg", "--each", model="single")
    assert one["images"] == ["photos/castle.png"]
    (alone,) = answers("photos/bridge.jpg", model="single")
    assert other["latitude"] == pytest.approx(alone["latitude"], abs=1e-5)
    assert abs(one["latitude"] - other["latitude"]) > 1e-4
    assert one["cell"] is None
    assert one["probability"] is None


def test_of_several_photos_the_good_ones_are_answered_and_the_broken_ones_named():
    result = run("photos/castle.png", "photos/broken.jpg", "--each", "--json", model="single")
    assert [answer["images"] for answer in json.loads(result.stdout)["answers"]] == [["photos/castle.png"]]
    assert result.exit_code == 1
    assert "waymark: photos/broken.jpg: " in result.stderr


def test_what_the_sources_leave_out_is_named_and_not_answered(tmp_path):
    """A raw file holds a thumbnail that Pillow would take for the photo."""
    raw = write_picture(tmp_path / "castle.tif", 77).rename(tmp_path / "castle.NEF")
    result = run("photos/castle.png", str(raw), "--each", "--json", model="single")
    assert result.exit_code == 1
    assert [row["images"] for row in json.loads(result.stdout)["answers"]] == [["photos/castle.png"]]
    assert "castle.NEF: raw files are not decoded; convert it to JPEG" in result.stderr
    os.mkfifo(tmp_path / "pipe.jpg")
    result = run("photos/castle.png", str(tmp_path / "pipe.jpg"), "--each", model="single")
    assert result.exit_code == 1
    assert "pipe.jpg is not a regular file" in result.stderr


def test_a_picture_is_shown_as_the_model_sees_it(tmp_path):
    """One decoder: 16 bits are not clipped, and what is turned is upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = np.full((40, 60), 0x8000, np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png", exif=exif)
    shown = open_upright(tmp_path / "grey.png")
    assert (shown.size, shown.mode) == ((40, 60), "RGB")
    assert set(np.asarray(shown).flatten()) == {128}
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken\.jpg: cannot identify image file"):
        open_upright(tmp_path / "broken.jpg")


def test_geojson_has_the_place_its_radii_and_the_cells():
    (said,) = answers(*views(), "--geojson", "out/place.json")
    document = json.loads(Path("out/place.json").read_text())
    assert document["type"] == "FeatureCollection"
    by_kind = {}
    for feature in document["features"]:
        by_kind.setdefault(feature["properties"]["kind"], []).append(feature)
    (answer,) = by_kind["answer"]
    assert answer["geometry"]["type"] == "Point"
    assert answer["geometry"]["coordinates"] == pytest.approx([said["longitude"], said["latitude"]], abs=1e-6)
    assert answer["properties"]["country"] == said["country"] is not None
    cells = {feature["properties"]["cell"]: feature for feature in by_kind["cell"]}
    assert sum(feature["properties"]["probability"] for feature in cells.values()) == pytest.approx(1)
    assert cells[said["cell"]]["properties"]["probability"] == pytest.approx(said["probability"], abs=1e-6)
    for cell, centre in zip(CELLS, CENTRES, strict=True):
        assert cells[cell]["geometry"]["coordinates"] == pytest.approx(centre[::-1], abs=1e-6)
    for feature in by_kind["radius"]:
        corners = np.array(shape(feature["geometry"]).exterior.coords)
        count = len(corners)
        away = SPHERE.inv([said["longitude"]] * count, [said["latitude"]] * count, *corners.T)[2] / 1000
        expected = said["radius_90_km"] if feature["properties"]["share"] == 0.9 else said["radius_50_km"]
        np.testing.assert_allclose(away, expected, rtol=1e-3)


def test_geojson_on_stdout_is_nothing_but_geojson():
    result = run(*views(), "--geojson", "-")
    assert json.loads(result.stdout)["type"] == "FeatureCollection"


def test_the_page_holds_its_pictures_its_figures_and_the_map():
    (said,) = answers(*views(), "--html", "out/place.html")
    page = Path("out/place.html").read_text()
    assert f"{said['latitude']:.5f}, {said['longitude']:.5f} ({said['place']}" in page
    assert f"probability {said['candidates'][2]['probability']:.3f}, {said['candidates'][2]['place']}" in page
    assert "Names of places: GeoNames" in page  # as its licence asks
    assert page.count("data:image/jpeg;base64,") == 4
    assert "plot-answer-1" in page
    for cell in CELLS:
        assert f"cell {cell}" in page
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in page


def test_the_drawn_picture_is_the_photo_with_a_band_below_it():
    assert run("photos/bridge.jpg", "--draw", "out/drawn.png", model="single").exit_code == 0
    drawn, photo = Image.open("out/drawn.png"), Image.open("photos/bridge.jpg")
    assert drawn.width == photo.width
    np.testing.assert_array_equal(np.asarray(drawn)[: photo.height], np.asarray(photo))
    band = np.asarray(drawn.convert("L"))[photo.height :]
    assert len(band) > 12
    assert (band > 200).mean() > 0.02  # white letters
    assert (band < 80).mean() > 0.5  # on dark ground


def test_originals_are_never_written_to():
    before = Path("photos/bridge.jpg").read_bytes()
    assert "is one of the images; write to another file" in refusal(
        "photos/bridge.jpg", "--draw", "photos/../photos/bridge.jpg", model="single"
    )
    assert Path("photos/bridge.jpg").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["photos/absent.jpg"], "photos/absent.jpg does not exist"),
        (["photos"], "photos is a folder; name its pictures, or use waymark predict"),
        ([*views(), "--headings", "0,90"], "--headings names 2 for 4 images"),
        ([*views(), "--headings", "N,E,S,W"], "write degrees such as 0,90,180,270"),
        ([*views(), "photos/castle.png"], "takes 4 views of a place, and 5 images are named; --each"),
        ([*views(), "--each", "--headings", "0,90,180,270"], "leave out one of them"),
        ([*views(), "--each", "--draw", "x.jpg"], "ask for one place at a time"),
        ([*views(), "--draw", "x.txt"], "'.txt' is not a picture format"),
        ([*views(), "--json", "--geojson", "-"], "both write to stdout"),
        (["quads/place-0/0.jpg", "photos/broken.jpg"], "photos/broken.jpg: "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments, says):
    assert says in refusal(*arguments)


def test_debug_shows_the_traceback():
    result = run("photos/absent.jpg", "--debug")
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "ParameterError"


def test_headings_of_three_digits_are_headings_too(tmp_path):
    for image in views():
        (tmp_path / f"{int(Path(image).stem):03d}.jpg").write_bytes(Path(image).read_bytes())
    (padded,), (plain,) = answers(*map(str, sorted(tmp_path.iterdir()))), answers(*views())
    assert padded["headings_deg"] == [0, 90, 180, 270]
    assert padded["latitude"] == plain["latitude"]


def test_numbers_of_a_camera_are_no_headings(tmp_path):
    numbered = [str(tmp_path / f"{number}.jpg") for number in (1, 2, 3, 4)]
    for source, copy in zip(views(), numbered, strict=True):
        Path(copy).write_bytes(Path(source).read_bytes())
    result = run(*numbered)
    assert result.exit_code == 0
    assert "no headings are known" in result.stderr


def test_people_read_the_landmark_beside_the_place():
    (said,) = answers("photos/castle.png", model="single arcface")
    assert said["landmark"] in LANDMARKS | NEW
    assert said["landmark_name"] == (LANDMARKS | NEW)[said["landmark"]]
    result = run("photos/castle.png", model="single arcface")
    first, landmark, place, *_ = result.stdout.splitlines()
    assert first == "castle.png"
    assert landmark == f"  landmark  {said['landmark_name']}, confidence {said['landmark_confidence']:.2f}"
    assert place == f"  place     {said['latitude']:.5f}, {said['longitude']:.5f} ({name_of(said)})"
    assert result.stderr.splitlines() == ["answered by single and arcface"]


def test_no_landmark_keeps_the_best_candidate_and_its_score():
    (sure,), (said,) = answers("photos/castle.png", model="arcface"), answers("photos/castle.png", model="strict")
    assert (said["landmark"], said["landmark_name"]) == (None, None)
    assert (said["best_landmark"], said["landmark_score"]) == (sure["landmark"], sure["landmark_score"])
    assert said["latitude"] is None
    printed = run("photos/castle.png", model="strict").stdout.splitlines()
    assert printed[1:] == [
        f"  landmark  no landmark; the best candidate has confidence {said['landmark_confidence']:.2f}"
    ]


def test_a_place_of_four_views_is_answered_by_both_models():
    (said,) = answers(*views(), model="tiny arcface")
    (place,), (landmark,) = answers(*views()), answers(views()[0], model="arcface")
    assert (said["latitude"], said["landmark_score"]) == (place["latitude"], landmark["landmark_score"])
    assert (
        "arcface takes 1 view of a place; the rest of the 4 were not used" in run(*views(), model="tiny arcface").stderr
    )


def test_geojson_of_a_landmark_has_its_name_and_without_a_place_no_geometry():
    for model in ("single arcface", "arcface"):
        result = run("photos/castle.png", "--geojson", "-", model=model)
        (said,) = answers("photos/castle.png", model=model)
        features = json.loads(result.stdout)["features"]
        (answer,) = [its for its in features if its["properties"]["kind"] == "answer"]
        for name in ("landmark", "landmark_name", "landmark_score"):
            assert answer["properties"][name] == said[name]
        assert (answer["geometry"] is None) == (model == "arcface")
        assert len(features) == (1 if model == "arcface" else 3)


def test_the_page_names_the_landmark_and_shows_where_the_model_looks():
    for model, pictures, maps in (("single attention", 2, 1), ("attention", 2, 0), ("single arcface", 1, 1)):
        (said,) = answers("photos/castle.png", "--html", "out/page.html", model=model)
        page = Path("out/page.html").read_text()
        assert f"{said['landmark_name']}, confidence {said['landmark_confidence']:.2f}" in page
        assert page.count("data:image/jpeg;base64,") == pictures
        assert page.count('id="plot-answer-1"') == maps


def test_attention_is_drawn_beside_the_picture():
    """What the network does not see, above and below the square, is grey."""
    assert run("photos/bridge.jpg", "--draw", "out/plain.png", model="arcface").exit_code == 0
    assert run("photos/bridge.jpg", "--draw", "out/seen.png", model="attention").exit_code == 0
    plain, seen = (np.asarray(Image.open(f"out/{name}.png").convert("RGB")) for name in ("plain", "seen"))
    photo = np.asarray(Image.open("photos/bridge.jpg"))  # 60 x 120
    np.testing.assert_array_equal(plain[:120], photo)
    assert seen.shape[1] == 120
    np.testing.assert_array_equal(seen[:120, :60], photo)
    panel = seen[:120, 60:].astype(int)
    colour = panel.max(axis=2) - panel.min(axis=2)
    assert colour[:30].max() == colour[90:].max() == 0
    assert (colour[30:90] > 10).mean() > 0.9
    assert len(seen) > 120 + 12  # the band with the words


def test_two_models_that_answer_the_same_are_refused():
    assert "strict adds nothing to arcface" in refusal("photos/castle.png", model="arcface strict")

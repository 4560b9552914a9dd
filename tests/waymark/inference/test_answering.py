from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_model import (
    CELLS,
    CENTRES,
    HEADINGS,
    LANDMARKS,
    NEW,
    SHARD_PX,
    cell_outlines,
    make_tiny_model,
    write_quads,
)

from waymark.images.batches import Examples, RecordLoaders
from waymark.images.decode import MAX_PIXELS, read_picture
from waymark.images.shards import INDEX_SCHEMA, Shards, shard_name, write_shard
from waymark.images.transforms import shrink
from waymark.inference import answering
from waymark.inference.answering import (
    BEST,
    COLUMNS,
    LANDMARK,
    PLACE,
    Query,
    answer_bytes,
    answer_files,
    attention_maps,
    cell_probabilities,
    join_answers,
)
from waymark.inference.predictor import load_predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answering")
    write_quads(folder / "quads", 5)
    return folder


@pytest.fixture(scope="module")
def predictor(folder):
    tiny = make_tiny_model(folder / "trained")
    return load_predictor(tiny.checkpoint, tiny.calibration)


def load(folder, name, **entry):
    tiny = make_tiny_model(folder / "trained", name, **entry)
    return load_predictor(tiny.checkpoint, tiny.calibration)


@pytest.fixture(scope="module")
def recogniser(folder):
    """A model of landmarks alone, of which some answers are refused."""
    predictor = load(folder, "arcface", slots=(None,), head=None, landmark="arcface", threshold=None)
    queries = make_queries(folder)
    scores = answer_files(predictor, queries, read(queries)).table["landmark_score"]
    return load(folder, "choosy", slots=(None,), head=None, landmark="arcface", threshold=float(scores.median()))


@pytest.fixture(scope="module")
def joint(folder):
    return load(folder, "joint", landmark="attention")


def make_queries(folder, count=5):
    places = sorted((folder / "quads").iterdir())[:count]
    return [Query(place.name, tuple(place / f"{angle:g}.jpg" for angle in HEADINGS), HEADINGS) for place in places]


def read(queries):
    return (
        read_picture(path, SHARD_PX, max_pixels=MAX_PIXELS)
        for path in chain.from_iterable(query.pictures for query in queries)
    )


def from_shards(folder, predictor, queries):
    """Answer as `evaluate` does: from the shards of `resize`, through the loaders of records."""
    shards = folder / "shards"
    shards.mkdir(exist_ok=True)
    write_shard([picture.pixels for picture in read(queries)], SHARD_PX, shards / shard_name(0))
    rows = [
        {"record_id": query.name, "view": view, "shard": 0, "row": 4 * place + view, "status": "ok"}
        for place, query in enumerate(queries)
        for view in range(4)
    ]
    index = pa.Table.from_pylist(rows, INDEX_SCHEMA.with_metadata({"size_px": str(SHARD_PX)}))
    pq.write_table(index, shards / "index.parquet")
    count = len(queries)
    nowhere = np.full((count, 2), np.nan)
    examples = Examples(
        [query.name for query in queries],
        [HEADINGS] * count,
        nowhere,
        nowhere,
        *[np.full(count, -1, dtype=np.int64)] * 2,
    )
    config = predictor.locator.config
    # In one batch, as the files are: in batches of another size the kernels round otherwise.
    loaders = RecordLoaders(Shards(shards), config.slots, count, size_px=config.size_px)
    return predictor.predict(loaders.evaluation(examples))


@pytest.mark.parametrize("model", ["predictor", "recogniser", "joint"])
def test_files_bytes_and_shards_give_the_same_numbers(folder, model, request):
    predictor, queries = request.getfixturevalue(model), make_queries(folder)
    files = answer_files(predictor, queries, read(queries)).table
    rows = [[path.read_bytes() for path in query.pictures] for query in queries]
    sent = answer_bytes(predictor, pd.DataFrame({"views": rows, "headings_deg": [list(HEADINGS)] * len(rows)}))
    evaluated = from_shards(folder, predictor, queries)
    assert files["name"].tolist() == [query.name for query in queries]
    asked = "landmark_score" if model == "recogniser" else "latitude"
    assert files[asked].round(3).nunique() == len(queries)  # else equal answers would say nothing
    assert sent.columns.tolist() == [*COLUMNS, "error"]
    for name in (*PLACE, "landmark_score"):
        np.testing.assert_allclose(files[name], sent[name], atol=1e-6, err_msg=name)
        assert files[name].isna().all() == (name != "cell" and name not in what(predictor))
    for name in ("landmark", "landmark_name"):
        assert files[name].tolist() == sent[name].tolist()
    np.testing.assert_allclose(files[["latitude", "longitude"]], evaluated.lat_lon, atol=1e-5)
    np.testing.assert_allclose(files["radius_90_km"], evaluated.radius_90_km, rtol=1e-5)
    np.testing.assert_array_equal(files["cell"], evaluated.cell)
    np.testing.assert_allclose(files["probability"], evaluated.probability, atol=1e-5)
    np.testing.assert_allclose(files["landmark_score"], evaluated.landmark_score, atol=1e-6)
    assert files["landmark"].tolist() == evaluated.landmark.tolist()


def what(predictor):
    """Name the columns that a model answers."""
    places = PLACE if predictor.locator.place_head is not None else ()
    return (*places, *(LANDMARK if predictor.locator.landmark_head is not None else ()))


def test_a_landmark_has_its_name_and_a_refused_one_is_none_but_keeps_its_score(folder, recogniser):
    queries = make_queries(folder)
    table = answer_files(recogniser, queries, read(queries)).table
    threshold = recogniser.calibration.landmark.threshold
    answered = table["landmark"].notna()
    assert 0 < answered.sum() < len(table)
    np.testing.assert_array_equal(answered, table["landmark_score"] >= threshold)
    names = {**LANDMARKS, **NEW}
    for row in table.to_dict("records"):
        assert row[BEST] in names
        assert row["landmark"] in (row[BEST], None)
        assert row["landmark_name"] == names.get(row["landmark"])


def test_two_models_answer_each_its_question(folder, predictor, recogniser, tmp_path):
    """One takes four views and the other a single one, which here is broken."""
    one, other = make_queries(folder, 2)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    blind = Query("blind", (tmp_path / "broken.jpg", *one.pictures[1:]), HEADINGS)
    queries = [one, blind, other]
    place, landmark = (answer_files(model, queries, read(queries)) for model in (predictor, recogniser))
    assert landmark.table.index.tolist() == [0, 2]
    joined = join_answers(place, landmark)
    assert joined.table.columns.tolist() == ["name", *COLUMNS, BEST, "views"]
    assert joined.table["name"].tolist() == [one.name, "blind", other.name]
    assert joined.table["views"].tolist() == [4, 3, 4]
    pd.testing.assert_frame_equal(joined.table[list(PLACE)], place.table[list(PLACE)])
    assert joined.table.loc[[0, 2], "landmark_score"].tolist() == landmark.table["landmark_score"].tolist()
    assert joined.table.loc[1, [*LANDMARK, BEST]].isna().all()
    assert [picture.path.name for picture in joined.undecodable] == ["broken.jpg"]
    (photo,) = make_queries(folder, 1)
    alone = [Query("other way", photo.pictures[1:2], (None,)), photo]
    turned = join_answers(answer_files(predictor, [], iter([])), answer_files(recogniser, alone, read(alone)))
    assert turned.table["name"].tolist() == ["other way", photo.name]
    assert turned.table["cell"].tolist() == [-1, -1]


def test_attention_is_that_of_the_view(folder, joint, predictor, recogniser, monkeypatch):
    (query,) = make_queries(folder, 1)
    pixels = [picture.pixels for picture in read([query])]
    assert [its.ndim for its in attention_maps(joint, pixels, HEADINGS)] == [2] * 4
    assert attention_maps(predictor, pixels, HEADINGS) == [None] * 4
    for model in (joint, recogniser):  # a map that says how bright the view is
        monkeypatch.setattr(model, "attention", lambda batch: batch.views.float().mean(dim=2, keepdim=False) / 255)
    turned = attention_maps(joint, pixels[::-1], HEADINGS[::-1])
    for its, picture in zip(turned, pixels[::-1], strict=True):
        np.testing.assert_allclose(its, shrink(picture, 32).mean(axis=2) / 255, atol=1e-5)
    first, *others = attention_maps(recogniser, pixels, HEADINGS)
    assert first is not None
    assert others == [None] * 3


def test_the_headings_say_which_view_is_which(folder, predictor):
    (query,) = make_queries(folder, 1)
    turned = Query("turned", query.pictures[::-1], query.headings_deg[::-1])
    wrong = Query("wrong", query.pictures[::-1], query.headings_deg)
    queries = [query, turned, wrong]
    table = answer_files(predictor, queries, read(queries)).table
    assert table["longitude"][0] == pytest.approx(table["longitude"][1], abs=1e-5)
    assert abs(table["longitude"][0] - table["longitude"][2]) > 1e-3


def test_a_view_that_cannot_be_decoded_is_as_one_that_is_not_there(folder, predictor, tmp_path):
    (query,) = make_queries(folder, 1)
    (tmp_path / "broken.jpg").write_bytes(query.pictures[1].read_bytes()[:300])
    broken = Query("broken", (query.pictures[0], tmp_path / "broken.jpg", *query.pictures[2:]), HEADINGS)
    three = Query("three", (query.pictures[0], *query.pictures[2:]), (0.0, 180.0, 270.0))
    nothing = Query("nothing", (tmp_path / "broken.jpg", tmp_path / "absent.jpg"), (0.0, 90.0))
    queries = [broken, nothing, three]
    answers = answer_files(predictor, queries, read(queries))
    assert answers.table["name"].tolist() == ["broken", "three"]
    assert answers.table["views"].tolist() == [3, 3]
    one, other = answers.table[["latitude", "longitude"]].to_numpy()
    np.testing.assert_allclose(one, other, atol=1e-5)
    found = [(picture.path.name, bool(picture.reason)) for picture in answers.undecodable]
    assert found == [("broken.jpg", True), ("broken.jpg", True), ("absent.jpg", True)]


def test_answers_keep_their_order_over_batches(folder, predictor, monkeypatch):
    queries = make_queries(folder)
    whole = answer_files(predictor, queries, read(queries)).table
    monkeypatch.setattr(answering, "BATCH_SIZE", 2)
    parts = answer_files(predictor, queries, read(queries)).table
    np.testing.assert_allclose(parts[["latitude", "longitude"]], whole[["latitude", "longitude"]], atol=1e-5)


def test_no_picture_at_all_gives_an_empty_table_of_the_same_columns(predictor):
    answers = answer_files(predictor, [], iter([]))
    assert answers.table.columns.tolist() == ["name", *COLUMNS, BEST, "views"]
    assert answers.table.empty


def test_what_is_wrong_with_one_row_costs_no_other_its_answer(folder, predictor):
    one, other = ([path.read_bytes() for path in query.pictures] for query in make_queries(folder, 2))
    whole = answer_bytes(predictor, pd.DataFrame({"views": [one, other], "headings_deg": [list(HEADINGS)] * 2}))
    assert whole["error"].tolist() == [None, None]
    three = answer_bytes(predictor, pd.DataFrame({"views": [one[:1] + one[2:]], "headings_deg": [[0.0, 180.0, 270.0]]}))
    views = [one, [one[0], b"no picture", *one[2:]], [b"no picture"], [], None, [None], one, other, "text"]
    headings = [list(HEADINGS)] * 6 + [["north"] * 4, list(HEADINGS), None]
    answers = answer_bytes(predictor, pd.DataFrame({"views": views, "headings_deg": headings}))
    assert answers.columns.tolist() == [*COLUMNS, "error"]
    assert answers["error"].tolist() == [
        None,
        "view 1: no known picture format",
        "view 0: no known picture format",
        "there is no view; give the bytes of at least one picture",
        "there is no view; give the bytes of at least one picture",
        "view 0: no bytes",
        "headings_deg are not numbers; give degrees such as 0, 90, 180, 270, or null",
        None,
        "there is no view; give the bytes of at least one picture",
    ]
    expected = pd.concat([whole.iloc[[0]], three, whole.iloc[[1]]])[["latitude", "longitude"]]
    np.testing.assert_allclose(answers.loc[[0, 1, 7], ["latitude", "longitude"]], expected, atol=1e-5)
    lost = answers.loc[[2, 3, 4, 5, 6, 8]]
    assert lost.drop(columns=["cell", "error"]).isna().all(axis=None)
    assert (lost["cell"] == -1).all()


def test_rows_that_are_all_wrong_have_answers_of_the_same_columns(predictor):
    answers = answer_bytes(predictor, pd.DataFrame({"views": [[b""], []]}))
    assert answers.columns.tolist() == [*COLUMNS, "error"]
    assert answers["error"].notna().all()
    assert answers["latitude"].isna().all()


def test_cells_have_the_probabilities_behind_the_answer(folder, predictor, monkeypatch):
    (query,) = make_queries(folder, 1)
    row = answer_files(predictor, [query], read([query])).table.iloc[0]
    pixels = [picture.pixels for picture in read([query])]
    points = cell_probabilities(predictor, pixels, HEADINGS)
    assert points["probability"].sum() == pytest.approx(1)
    assert points["probability"].is_monotonic_decreasing
    assert points["cell"][0] == row["cell"]
    assert points["probability"][0] == pytest.approx(row["probability"], abs=1e-6)
    places = points.set_index("cell").loc[list(CELLS), ["latitude", "longitude"]]
    np.testing.assert_allclose(places, CENTRES, atol=1e-6)
    assert set(points.geom_type) == {"Point"}
    monkeypatch.setattr(predictor, "cells", cell_outlines().iloc[::-1], raising=False)
    polygons = cell_probabilities(predictor, pixels, HEADINGS)
    assert polygons.contains(points.geometry).all()  # each cell has its own outline


def test_a_model_without_cells_has_no_probabilities(folder, tmp_path):
    tiny = make_tiny_model(tmp_path, slots=(None,), head="coordinates")
    predictor = load_predictor(tiny.checkpoint, tiny.calibration)
    query = Query("photo", (folder / "quads/place-0/90.jpg",), (None,))
    row = answer_files(predictor, [query], read([query])).table.iloc[0]
    assert np.isfinite(row["latitude"])
    assert row["cell"] == -1
    assert np.isnan(row["probability"])
    assert cell_probabilities(predictor, [picture.pixels for picture in read([query])], (None,)) is None

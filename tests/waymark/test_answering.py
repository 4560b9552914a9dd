from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_model import CELLS, CENTRES, HEADINGS, SHARD_PX, cell_outlines, make_tiny_model, write_quads

from waymark import answering
from waymark.answering import COLUMNS, Query, answer_bytes, answer_files, cell_probabilities
from waymark.errors import ImageError
from waymark.images.datamodule import Examples, RecordLoaders
from waymark.images.decode import MAX_PIXELS, read_picture
from waymark.images.shards import INDEX_SCHEMA, Shards, shard_name, write_shard
from waymark.models.guesser import load_guesser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answering")
    write_quads(folder / "quads", 5)
    return folder


@pytest.fixture(scope="module")
def guesser(folder):
    tiny = make_tiny_model(folder / "trained")
    return load_guesser(tiny.checkpoint, tiny.calibration)


def make_queries(folder, count=5):
    places = sorted((folder / "quads").iterdir())[:count]
    return [Query(place.name, tuple(place / f"{angle:g}.jpg" for angle in HEADINGS), HEADINGS) for place in places]


def read(queries):
    return (
        read_picture(path, SHARD_PX, max_pixels=MAX_PIXELS)
        for path in chain.from_iterable(query.pictures for query in queries)
    )


def from_shards(folder, guesser, queries):
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
        [query.name for query in queries], [HEADINGS] * count, nowhere, nowhere, np.full(count, -1, dtype=np.int64)
    )
    blueprint = guesser.locator.blueprint
    loaders = RecordLoaders(Shards(shards), blueprint.slots, 2, size_px=blueprint.size_px)
    return guesser.guess(loaders.evaluation(examples))


def test_files_bytes_and_shards_give_the_same_numbers(folder, guesser):
    queries = make_queries(folder)
    files = answer_files(guesser, queries, read(queries)).table
    rows = [[path.read_bytes() for path in query.pictures] for query in queries]
    sent = answer_bytes(guesser, pd.DataFrame({"views": rows, "headings_deg": [list(HEADINGS)] * len(rows)}))
    evaluated = from_shards(folder, guesser, queries)
    assert files["name"].tolist() == [query.name for query in queries]
    assert files["latitude"].round(3).nunique() == len(queries)  # else equal answers would say nothing
    for name in COLUMNS:
        np.testing.assert_allclose(files[name], sent[name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(files[["latitude", "longitude"]], evaluated.lat_lon, atol=1e-5)
    np.testing.assert_allclose(files["radius_90_km"], evaluated.radius_90_km, rtol=1e-5)
    np.testing.assert_array_equal(files["cell"], evaluated.cell)
    np.testing.assert_allclose(files["probability"], evaluated.probability, atol=1e-5)


def test_the_headings_say_which_view_is_which(folder, guesser):
    (query,) = make_queries(folder, 1)
    turned = Query("turned", query.pictures[::-1], query.headings_deg[::-1])
    wrong = Query("wrong", query.pictures[::-1], query.headings_deg)
    queries = [query, turned, wrong]
    table = answer_files(guesser, queries, read(queries)).table
    assert table["longitude"][0] == pytest.approx(table["longitude"][1], abs=1e-5)
    assert abs(table["longitude"][0] - table["longitude"][2]) > 1e-3


def test_a_view_that_cannot_be_decoded_is_as_one_that_is_not_there(folder, guesser, tmp_path):
    (query,) = make_queries(folder, 1)
    (tmp_path / "broken.jpg").write_bytes(query.pictures[1].read_bytes()[:300])
    broken = Query("broken", (query.pictures[0], tmp_path / "broken.jpg", *query.pictures[2:]), HEADINGS)
    three = Query("three", (query.pictures[0], *query.pictures[2:]), (0.0, 180.0, 270.0))
    nothing = Query("nothing", (tmp_path / "broken.jpg", tmp_path / "absent.jpg"), (0.0, 90.0))
    queries = [broken, nothing, three]
    answers = answer_files(guesser, queries, read(queries))
    assert answers.table["name"].tolist() == ["broken", "three"]
    assert answers.table["views"].tolist() == [3, 3]
    one, other = answers.table[["latitude", "longitude"]].to_numpy()
    np.testing.assert_allclose(one, other, atol=1e-5)
    found = [(picture.path.name, bool(picture.reason)) for picture in answers.undecodable]
    assert found == [("broken.jpg", True), ("broken.jpg", True), ("absent.jpg", True)]


def test_answers_keep_their_order_over_batches(folder, guesser, monkeypatch):
    queries = make_queries(folder)
    whole = answer_files(guesser, queries, read(queries)).table
    monkeypatch.setattr(answering, "BATCH_SIZE", 2)
    parts = answer_files(guesser, queries, read(queries)).table
    np.testing.assert_allclose(parts[["latitude", "longitude"]], whole[["latitude", "longitude"]], atol=1e-5)


def test_no_picture_at_all_gives_an_empty_table_of_the_same_columns(guesser):
    answers = answer_files(guesser, [], iter([]))
    assert answers.table.columns.tolist() == ["name", *COLUMNS, "views"]
    assert answers.table.empty


def test_bytes_that_are_no_picture_are_refused_by_row_and_view(folder, guesser):
    (query,) = make_queries(folder, 1)
    good = query.pictures[0].read_bytes()
    with pytest.raises(ImageError, match="view 1 of row 0 cannot be decoded"):
        answer_bytes(guesser, pd.DataFrame({"views": [[good, b"no picture"]]}))
    with pytest.raises(ImageError, match="row 1 has no view"):
        answer_bytes(guesser, pd.DataFrame({"views": [[good], []]}))


def test_cells_have_the_probabilities_behind_the_answer(folder, guesser, monkeypatch):
    (query,) = make_queries(folder, 1)
    row = answer_files(guesser, [query], read([query])).table.iloc[0]
    pixels = [picture.pixels for picture in read([query])]
    points = cell_probabilities(guesser, pixels, HEADINGS)
    assert points["probability"].sum() == pytest.approx(1)
    assert points["probability"].is_monotonic_decreasing
    assert points["cell"][0] == row["cell"]
    assert points["probability"][0] == pytest.approx(row["probability"], abs=1e-6)
    places = points.set_index("cell").loc[list(CELLS), ["latitude", "longitude"]]
    np.testing.assert_allclose(places, CENTRES, atol=1e-6)
    assert set(points.geom_type) == {"Point"}
    monkeypatch.setattr(guesser, "cells", cell_outlines().iloc[::-1], raising=False)
    polygons = cell_probabilities(guesser, pixels, HEADINGS)
    assert polygons.contains(points.geometry).all()  # each cell has its own outline


def test_a_model_without_cells_has_no_probabilities(folder, tmp_path):
    tiny = make_tiny_model(tmp_path, slots=(None,), head="coordinates")
    guesser = load_guesser(tiny.checkpoint, tiny.calibration)
    query = Query("photo", (folder / "quads/place-0/90.jpg",), (None,))
    row = answer_files(guesser, [query], read([query])).table.iloc[0]
    assert np.isfinite(row["latitude"])
    assert row["cell"] == -1
    assert np.isnan(row["probability"])
    assert cell_probabilities(guesser, [picture.pixels for picture in read([query])], (None,)) is None

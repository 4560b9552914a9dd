import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyproj import Geod
from tiny_world import HTRS, ISLAND, QUARTERS, make_data, make_locator, make_world
from torch import nn

from waymark.errors import ModelError
from waymark.geo import unproject
from waymark.inference.predictor import Predictor, load_predictor
from waymark.models import decoding
from waymark.models.calibration import Radii, RetrievalIndex, unit_length
from waymark.models.calibration_files import Calibration, save_calibration
from waymark.models.inference import run

CALIBRATION = Calibration(temperature=1.7, neighbours=3, radii=Radii(factor_50=0.8, factor_90=None, floor_km=2.5))
PLACES = ("lat_lon", "cell", "probability", "radius_50_km", "radius_90_km")
SPHERE = Geod(a=6371008.8, b=6371008.8)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(params=["cells", "hybrid", "coordinates"])
def predictor(world, request):
    locator = make_locator(world, request.param)
    if request.param == "hybrid":
        nn.init.normal_(locator.place_head.offset.weight, std=0.05)  # else it has no offsets
    for layer in locator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    data = make_data(world, batch_size=24)
    batch = next(iter(data.train_dataloader()))
    locator.train()(batch.views, batch.present)  # else an untrained net sees nothing
    seen = run(locator, data.loaders.evaluation(world.train))
    return Predictor(locator, CALIBRATION, RetrievalIndex(unit_length(seen.embedding), world.train.lat_lon))


def guess(predictor, world, batch_size=4):
    return predictor.predict(make_data(world, batch_size=batch_size).val_dataloader())


def test_guesses_are_those_of_the_head_put_together_by_hand(predictor, world):
    locator, guesses = predictor.locator.eval(), guess(predictor, world)
    for row, batch in enumerate(make_data(world, batch_size=1).val_dataloader()):
        with torch.inference_mode():
            embedding = locator.embed(batch.views, batch.present)
            output = locator.place_head(embedding)
        lat_lon = locator.place(output).lat_lon[0].numpy()
        np.testing.assert_allclose(guesses.lat_lon[row], lat_lon, atol=1e-4)

        def apart_km(place, lat_lon=lat_lon):
            return SPHERE.inv(place[1], place[0], lat_lon[1], lat_lon[0])[2] / 1000

        if locator.config.head.name != "coordinates":
            chances = (output[0, :4].double() / 1.7).softmax(dim=0)
            best = int(chances.argmax())
            assert guesses.cell[row] == best * 10
            assert guesses.probability[row] == pytest.approx(float(chances[best]), abs=1e-4)
            cells = unproject(locator.place_head.positions_m.numpy(), HTRS)
            if locator.config.head.name == "hybrid":
                bare, cells = cells, unproject(locator.place_head.cells_m(output)[0].numpy(), HTRS)
                assert np.abs(cells - bare).max() > 0.01
            hard_km = sum(float(chance) * apart_km(cell) for chance, cell in zip(chances, cells, strict=True))
        else:
            assert guesses.cell[row] == -1
            assert np.isnan(guesses.probability[row])
            alike = predictor.index.embedding @ unit_length(embedding)[0]
            hard_km = np.mean([apart_km(world.train.lat_lon[near]) for near in np.argsort(-alike)[:3]])
        assert guesses.radius_50_km[row] == pytest.approx(0.8 * (hard_km + 2.5), rel=1e-3)
    assert np.isnan(guesses.radius_90_km).all()
    assert len(set(guesses.radius_50_km)) == len(world.val)


def test_a_predictor_answers_on_land_where_its_config_says_so(world):
    index = RetrievalIndex(np.eye(24, dtype=np.float32), world.train.lat_lon)
    free, ashore = (
        guess(Predictor(make_locator(world, "cells", answer="best", snap_to_land=snap), CALIBRATION, index), world)
        for snap in (False, True)
    )
    west, south, east, north = ISLAND.total_bounds
    assert (np.abs(ashore.lat_lon - [(south + north) / 2, (west + east) / 2]) < 0.1001).all()
    assert (np.abs(free.lat_lon - ashore.lat_lon) > 0.01).any(axis=1).all()


def test_the_cells_outlines_come_with_the_calibration(predictor, world, tmp_path):
    predictor.locator.save(tmp_path / "model.ckpt")
    record_ids = list(world.train.record_ids)
    save_calibration(CALIBRATION, predictor.index, record_ids, tmp_path)
    assert load_predictor(tmp_path / "model.ckpt", tmp_path).cells is None
    save_calibration(CALIBRATION, predictor.index, record_ids, tmp_path, cells=QUARTERS.assign(area_km2=1.0)[::-1])
    cells = load_predictor(tmp_path / "model.ckpt", tmp_path).cells
    assert list(cells.columns) == ["cell", "area_km2", "geometry"]
    assert cells.crs == QUARTERS.crs
    kept = cells.set_index("cell").geometry
    assert all(kept[row.cell].equals(row.geometry) for row in QUARTERS.itertuples())


def test_chunks_change_no_guess(predictor, world, monkeypatch):
    before = guess(predictor, world)
    monkeypatch.setattr(decoding, "CHUNK", 24)
    after = guess(predictor, world)
    for name in PLACES:
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-9)


def test_guesses_do_not_depend_on_the_batches(predictor, world):
    one, other = guess(predictor, world, 1), guess(predictor, world, 7)
    np.testing.assert_allclose(one.lat_lon, other.lat_lon, atol=1e-4)
    np.testing.assert_array_equal(one.cell, other.cell)


def test_a_predictor_from_its_files_gives_the_same_guesses(predictor, world, tmp_path):
    before = guess(predictor, world)
    predictor.locator.save(tmp_path / "model.ckpt")
    save_calibration(predictor.calibration, predictor.index, list(world.train.record_ids), tmp_path)
    loaded = load_predictor(tmp_path / "model.ckpt", tmp_path)
    assert loaded.calibration == CALIBRATION
    np.testing.assert_array_equal(loaded.index.embedding, predictor.index.embedding)
    np.testing.assert_array_equal(loaded.index.lat_lon, predictor.index.lat_lon)
    after = guess(loaded, world)
    for name in before.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert pq.read_table(tmp_path / "index.parquet")["record_id"].to_pylist() == world.train.record_ids


def test_a_temperature_changes_the_probability_and_not_the_answer(world):
    locator = make_locator(world, "cells")
    locator.place_head.linear.weight.data *= 30
    index = RetrievalIndex(np.eye(24, dtype=np.float32), world.train.lat_lon)
    cool, warm = (
        guess(Predictor(locator, Calibration(heat, 3, CALIBRATION.radii), index), world) for heat in (0.5, 5.0)
    )
    np.testing.assert_array_equal(cool.lat_lon, warm.lat_lon)
    assert (cool.probability > warm.probability).all()
    assert (cool.radius_50_km != warm.radius_50_km).all()


def refusal(folder):
    with pytest.raises(ModelError) as caught:
        load_predictor(folder / "model.ckpt", folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_calibration_that_is_missing_or_of_another_format_is_refused(world, tmp_path):
    locator = make_locator(world)
    locator.save(tmp_path / "model.ckpt")
    assert "calibration.json is missing; calibrate the model first" in refusal(tmp_path)
    index = RetrievalIndex(np.eye(24, locator.width, dtype=np.float32), world.train.lat_lon)
    save_calibration(CALIBRATION, index, list(world.train.record_ids), tmp_path)
    assert load_predictor(tmp_path / "model.ckpt", tmp_path).calibration == CALIBRATION
    whole = (tmp_path / "calibration.json").read_text()
    for broken in (
        "{",
        json.dumps({"temperature": 1.0}),
        json.dumps(json.loads(whole) | {"radii": {"factor": 1}}),
        "[]",
    ):
        (tmp_path / "calibration.json").write_text(broken)
        assert "calibrate the model again" in refusal(tmp_path)
    (tmp_path / "calibration.json").write_text(whole)
    pq.write_table(pa.table({"latitude": [1.0]}), tmp_path / "index.parquet")
    assert "calibrate the model again" in refusal(tmp_path)
    (tmp_path / "index.parquet").write_bytes(b"PAR1")
    assert "calibrate the model again" in refusal(tmp_path)
    save_calibration(CALIBRATION, index, list(world.train.record_ids), tmp_path)
    (tmp_path / "cells.parquet").write_bytes(b"PAR1")
    assert "calibrate the model again" in refusal(tmp_path)
    pq.write_table(pa.table({"cell": [1]}), tmp_path / "cells.parquet")
    assert "calibrate the model again" in refusal(tmp_path)

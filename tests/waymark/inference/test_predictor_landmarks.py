import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny_model import CENTRES, HEADINGS, LANDMARKS, NEW, make_tiny_model

from waymark.errors import ModelError
from waymark.images.batches import Batch
from waymark.inference.predictor import load_predictor
from waymark.models.calibration import RetrievalIndex, unit_length
from waymark.models.calibration_files import save_calibration

KINDS = {"landmarks": (None, "arcface"), "attention": (None, "attention"), "joint": ("coordinates", "softmax")}
TRUTHS = [["L9"], ["L2", "L9"], [], ["L1"], ["unheard of"]]
NAMES = {**LANDMARKS, **NEW}


def batch(seed=1, records=5):
    generator = torch.Generator().manual_seed(seed)
    views = torch.randint(0, 256, (records, len(HEADINGS), 3, 32, 32), dtype=torch.uint8, generator=generator)
    nowhere, unknown = torch.full((records, 2), torch.nan, dtype=torch.float64), torch.full((records,), -1)
    present = torch.ones(records, len(HEADINGS), dtype=torch.bool)
    present[0, 2] = False
    return Batch(views, present, nowhere, nowhere, unknown, unknown)


@pytest.fixture(scope="module", params=list(KINDS))
def model(request, tmp_path_factory):
    head, landmark = KINDS[request.param]
    return make_tiny_model(tmp_path_factory.mktemp("trained"), head=head, landmark=landmark)


def change(model, folder, **changes):
    """Copy the calibration, with another landmark section."""
    for file in model.calibration.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    content = json.loads((folder / "calibration.json").read_text())
    content["landmark"].update(changes)
    (folder / "calibration.json").write_text(json.dumps(content))
    return load_predictor(model.checkpoint, folder)


def fused_by_hand(predictor, model, weight):
    """Scores of L1, L2 and L9, from the network and the files as they lie there."""
    content = json.loads((model.calibration / "calibration.json").read_text())["landmark"]
    rows = pq.read_table(model.calibration / "index.parquet").to_pylist()
    queries = batch()
    with torch.inference_mode():
        seen = predictor.locator.see(queries.views, queries.present)
        output = predictor.locator.answer(seen).landmark[:, :2]
    found = []
    for looks, raw in zip(seen.embedding.double(), output.double(), strict=True):
        looks = looks / looks.norm()
        alike = {
            name: max(float(looks @ torch.tensor(row["embedding"]).double()) for row in rows if row["landmark"] == name)
            for name in NAMES
        }
        index = {name: (alike[name] - content["index"][0]) / content["index"][1] for name in NAMES}
        head = {
            name: (float(its) - content["head"][0]) / content["head"][1]
            for name, its in zip(LANDMARKS, raw, strict=True)
        }
        found.append({name: (1 - weight) * head.get(name, index[name]) + weight * index[name] for name in NAMES})
    return found


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_landmarks_are_those_of_head_and_index_put_together_by_hand(model, weight, tmp_path):
    predictor = change(model, tmp_path, retrieval_weight=weight)
    guesses = predictor.predict([batch()], TRUTHS)
    assert guesses.candidates.shape == guesses.candidate_scores.shape == (5, 5)
    for row, fused in enumerate(fused_by_hand(predictor, model, weight)):
        order = sorted(fused, key=lambda name: -fused[name])
        np.testing.assert_allclose(guesses.candidate_scores[row, :3], [fused[name] for name in order], atol=2e-4)
        close = np.diff(sorted(fused.values())).min() < 1e-3
        assert close or guesses.candidates[row].tolist() == [*order, None, None]
        places = [order.index(name) + 1 for name in TRUTHS[row] if name in order]
        assert close or guesses.rank[row] == min(places, default=-1)
        assert guesses.landmark[row] == guesses.best_landmark[row] == guesses.candidates[row, 0]
        assert guesses.landmark_name[row] == NAMES[guesses.landmark[row]]
        assert guesses.landmark_score[row] == guesses.candidate_scores[row, 0]
    assert np.isnan(guesses.candidate_scores[:, 3:]).all()
    assert len(set(guesses.landmark_score)) == 5
    assert (predictor.predict([batch()]).rank == -1).all()


def test_an_answer_below_the_threshold_is_refused_and_keeps_its_score(model, tmp_path):
    scores = load_predictor(model.checkpoint, model.calibration).predict([batch()]).landmark_score
    threshold = float(np.sort(scores)[2])
    guesses = change(model, tmp_path, threshold=threshold).predict([batch()])
    refused = scores < threshold
    assert refused.sum() == 2
    assert [its is None for its in guesses.landmark] == refused.tolist()
    assert [its is None for its in guesses.landmark_name] == refused.tolist()
    assert all(its is not None for its in guesses.best_landmark)
    np.testing.assert_array_equal(guesses.landmark_score, scores)


def test_a_model_without_a_head_for_places_answers_none(model):
    predictor = load_predictor(model.checkpoint, model.calibration)
    guesses = predictor.predict([batch()])
    there = predictor.locator.place_head is not None
    assert np.isfinite(guesses.lat_lon).all() == np.isfinite(guesses.radius_90_km).all() == there
    assert np.isnan(guesses.lat_lon).all() == np.isnan(guesses.radius_50_km).all() == (not there)
    assert (guesses.cell == -1).all()
    assert np.isnan(guesses.probability).all()


def test_a_model_without_a_head_for_landmarks_names_none(tmp_path):
    model = make_tiny_model(tmp_path, head="cells")
    guesses = load_predictor(model.checkpoint, model.calibration).predict([batch()], TRUTHS)
    for name in ("landmark", "landmark_name", "best_landmark"):
        assert getattr(guesses, name).tolist() == [None] * 5
    assert np.isnan(guesses.landmark_score).all()
    assert (guesses.rank == -1).all()
    assert guesses.attention is None
    assert not (model.calibration / "landmarks.parquet").exists()
    assert pq.read_table(model.calibration / "index.parquet")["landmark"].null_count == 6


def test_attention_is_that_of_the_network_for_each_view(model):
    predictor = load_predictor(model.checkpoint, model.calibration)
    whole, halves = (predictor.predict(given).attention for given in ([batch()], [batch(1, 5), batch(2, 3)]))
    if predictor.locator.config.head.parts().landmark.name != "attention":
        assert whole is halves is predictor.attention(batch()) is None
        return
    with torch.inference_mode():
        maps = predictor.locator.see(batch().views, batch().present).maps.numpy()
    assert maps.shape[:2] == (5, len(HEADINGS))
    np.testing.assert_allclose(whole, maps, atol=1e-5)
    np.testing.assert_allclose(predictor.attention(batch()).numpy(), maps, atol=1e-5)
    assert halves.shape == (8, *maps.shape[1:])
    assert (whole[0, 2] == 0).all()
    assert whole.max() <= 1


def test_records_without_coordinates_say_nothing_of_the_spread(tmp_path):
    """An index of a joint model holds records of landmarks that nobody knows the place of."""
    generator = np.random.default_rng(1)
    looks, query = unit_length(torch.tensor(generator.normal(size=(6, 4)))), torch.tensor(generator.normal(size=(3, 4)))
    lat_lon = CENTRES.repeat(2, axis=0)
    lat_lon[[1, 4]] = np.nan
    placed = ~np.isnan(lat_lon[:, 0])
    some, all_ = (RetrievalIndex(looks[its], lat_lon[its]) for its in (placed, np.full(6, True)))
    answer = np.full((3, 2), 45.0)
    for neighbours in (2, 99):
        expected = some.spread_km(query, answer, neighbours)
        assert np.isfinite(expected).all()
        np.testing.assert_array_equal(all_.spread_km(query, answer, neighbours), expected)


def test_names_of_landmarks_come_from_checkpoint_and_calibration(model, tmp_path):
    predictor = load_predictor(model.checkpoint, model.calibration)
    assert predictor.names == NAMES
    save_calibration(predictor.calibration, predictor.index, list("abcdef"), tmp_path)
    assert load_predictor(model.checkpoint, tmp_path).names == LANDMARKS


def test_a_landmark_section_of_another_format_is_refused(model, tmp_path):
    with pytest.raises(ModelError, match="calibrate the model again"):
        change(model, tmp_path, extra=1)
    predictor = load_predictor(model.checkpoint, model.calibration)
    for wrong in (None, np.full(6, None, dtype=object)):
        index = RetrievalIndex(predictor.index.embedding, predictor.index.lat_lon, wrong)
        save_calibration(predictor.calibration, index, list("abcdef"), tmp_path)
        with pytest.raises(ModelError, match="know no landmark; calibrate the model again"):
            load_predictor(model.checkpoint, tmp_path)

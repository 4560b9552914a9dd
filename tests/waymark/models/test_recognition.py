import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from waymark.models import decoding, recognition
from waymark.models.recognition import (
    AUTO_PRECISION,
    SLACK,
    WEIGHTS,
    Fusion,
    LandmarkIndex,
    Recogniser,
    fit_recognition,
    ranks,
    rejection,
)

CLASSES = ("b", "a", "d")  # of the head; c and e are known by their pictures alone
FUSION = Fusion(0.3, head=(0.4, 0.2), index=(0.7, 0.1))


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class World:
    """Landmarks as directions with noise, and a head that knows three of five."""

    def __init__(self, seed=1, records=40, width=6, noise=0.5):
        generator = np.random.default_rng(seed)
        self.names = ["a", "b", "c", "d", "e"]
        self.directions = generator.normal(size=(5, width))
        self.weights = torch.tensor(self.directions[[1, 0, 3]] + 0.2 * generator.normal(size=(3, width))).float()
        shown = generator.integers(0, 5, records)
        self.embedding = unit(self.directions[shown] + noise * generator.normal(size=(records, width)))
        self.landmark = np.array([self.names[its] for its in shown], dtype=object)
        its = generator.integers(0, 7, records)  # the last two show nothing
        centres = np.concatenate([self.directions, generator.normal(size=(2, width))])
        self.query = torch.tensor(3 * (centres[its] + noise * generator.normal(size=(records, width)))).float()
        self.truths = [[self.names[one]] if one < 5 else [] for one in its]

    def scores(self, embedding):
        return embedding @ self.weights.T

    def recogniser(self):
        return Recogniser(self.scores, CLASSES, self.embedding, self.landmark)

    def by_hand(self, fusion):
        """Fused scores, a dictionary of landmarks for each query, in plain Python."""
        (mean, std), (index_mean, index_std) = fusion.head, fusion.index
        found = []
        for query in self.query.numpy().astype(np.float64):
            looks = query / np.linalg.norm(query)
            fused = {}
            for name in self.names:
                alike = max(
                    float(looks @ row) for row, its in zip(self.embedding, self.landmark, strict=True) if its == name
                )
                retrieved = (alike - index_mean) / index_std
                head = retrieved
                if name in CLASSES:
                    head = (float(query @ self.weights[CLASSES.index(name)].double().numpy()) - mean) / std
                fused[name] = (1 - fusion.retrieval_weight) * head + fusion.retrieval_weight * retrieved
            found.append(fused)
        return found


def gap_by_hand(scores, right, relevant):
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    hits, total = 0, 0.0
    for rank, row in enumerate(order, start=1):
        hits += right[row]
        total += right[row] * hits / rank
    return total / relevant


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("chunk", [decoding.CHUNK, 90])
def test_fused_scores_candidates_and_ranks_are_those_by_hand(weight, chunk, monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK", chunk)
    world, fusion = World(), Fusion(weight, (0.4, 0.2), (0.7, 0.1))
    truths = [[*its, "unheard of", *(["b"] if row % 9 == 0 else [])] for row, its in enumerate(world.truths)]
    recogniser = world.recogniser()
    assert recogniser.landmarks == ("b", "a", "d", "c", "e")
    found = recogniser.recognise(world.query, fusion, truths)
    assert found.scores.dtype == np.float64
    for row, fused in enumerate(world.by_hand(fusion)):
        order = sorted(fused, key=lambda name: -fused[name])
        assert [recogniser.landmarks[its] for its in found.candidates[row]] == order
        np.testing.assert_allclose(found.scores[row], [fused[name] for name in order], atol=1e-4)
        known = [order.index(name) + 1 for name in truths[row] if name in order]
        assert found.rank[row] == min(known, default=-1)
    assert (recogniser.recognise(world.query, fusion).rank == -1).all()


def test_of_many_landmarks_the_five_best_are_kept_and_all_are_ranked():
    generator = np.random.default_rng(2)
    seen = unit(generator.normal(size=(60, 8)))
    landmark = np.array([f"L{number:02}" for number in range(60)], dtype=object)
    head = torch.tensor(seen[:30])
    recogniser = Recogniser(lambda looks: looks @ head.T, tuple(landmark[:30]), seen, landmark)
    found = recogniser.recognise(
        torch.tensor(seen), Fusion(1.0, (0.0, 1.0), (0.0, 1.0)), [[its] for its in landmark[::-1]]
    )
    assert found.candidates.shape == (60, 5)
    np.testing.assert_array_equal(found.candidates[:, 0], np.arange(60))
    cosine = seen.astype(np.float64) @ seen.T.astype(np.float64)
    np.testing.assert_allclose(found.scores, -np.sort(-cosine, axis=1)[:, :5], atol=1e-6)
    expected = [1 + (cosine[row] > cosine[row, 59 - row]).sum() for row in range(60)]
    np.testing.assert_array_equal(found.rank, expected)


def test_a_landmark_with_three_pictures_is_recognised_without_being_a_class():
    generator = np.random.default_rng(3)
    directions = np.eye(8)[:4] + 0.1 * generator.normal(size=(4, 8))
    shown = [0] * 20 + [1] * 20 + [2] * 20 + [3] * 3
    names = np.array(["a", "b", "c", "new"], dtype=object)
    embedding = unit(directions[shown] + 0.1 * generator.normal(size=(63, 8)))
    head = torch.tensor(directions[:3]).float()
    recogniser = Recogniser(lambda looks: looks @ head.T, ("a", "b", "c"), embedding, names[shown])
    its = np.arange(40) % 4
    query = torch.tensor(directions[its] + 0.1 * generator.normal(size=(40, 8))).float()
    truths = [[name] for name in names[its]]
    fusion = fit_recognition(recogniser, query, truths)
    found = recogniser.recognise(query, fusion, truths)
    assert (found.rank == 1).all()
    assert {recogniser.landmarks[best] for best in found.candidates[its == 3, 0]} == {"new"}
    without = Recogniser(lambda looks: looks @ head.T, ("a", "b", "c"), embedding[:60], names[shown[:60]])
    assert (without.recognise(query, fusion, truths).rank[its == 3] == -1).all()


@pytest.mark.parametrize("block", [recognition.BLOCK, 64])
def test_each_landmark_has_the_cosine_of_its_most_similar_record_however_many_others_are_nearer(block, monkeypatch):
    monkeypatch.setattr(recognition, "BLOCK", block)
    generator = np.random.default_rng(4)
    label = np.append(np.zeros(1500, dtype=np.int64), generator.integers(1, 20, 300))  # the first hides the others
    embedding = unit(generator.normal(size=(1800, 5)) + 4 * (label == 0)[:, None])
    order = generator.permutation(1800)
    embedding, label = embedding[order], label[order]
    query = torch.tensor(generator.normal(size=(15, 5)) + 4)
    cosine = unit(query.numpy()) @ embedding.T
    found = LandmarkIndex(embedding, label, 21).highest_cosines(query)
    assert (found.shape, found.dtype) == ((15, 21), np.float64)
    for number in range(20):
        np.testing.assert_allclose(found[:, number], cosine[:, label == number].max(axis=1), atol=1e-6)
    assert (found[:, 20] == -1).all()  # a landmark without any record


def test_among_many_records_of_others_a_taught_landmark_is_no_phantom():
    generator = np.random.default_rng(7)
    directions = np.eye(8)[:3]
    shown = [0] * 750 + [1] * 750 + [2] * 3
    names = np.array(["a", "b", "added"], dtype=object)
    embedding = unit(directions[shown] + 0.05 * generator.normal(size=(1503, 8)))
    head = torch.tensor(directions[:2]).float()
    recogniser = Recogniser(lambda looks: looks @ head.T, ("a", "b"), embedding, names[shown])
    its = np.arange(200) % 2
    query = torch.tensor(directions[its] + 0.3 * generator.normal(size=(200, 8))).float()
    found = recogniser.recognise(query, Fusion(0.0, (2.0, 0.1), (0.9, 0.1)), [["added"]] * 200)
    for row, best in zip(query.numpy(), found.scores, strict=True):
        looks = row / np.linalg.norm(row)
        by_hand = [(score - 2.0) / 0.1 for score in row[:2]] + [((embedding[1500:] @ looks).max() - 0.9) / 0.1]
        np.testing.assert_allclose(best, sorted(by_hand, reverse=True), atol=1e-4)
    new = torch.tensor(directions[[2] * 20] + 0.05 * generator.normal(size=(20, 8))).float()
    fusion = fit_recognition(recogniser, query, [[names[one]] for one in its])
    assert (recogniser.recognise(new, fusion, [["added"]] * 20).rank == 1).all()
    assert (recogniser.recognise(query, fusion).candidates[:, 0] != 2).all()


def test_a_class_that_another_hides_from_the_index_is_answered_where_the_head_is_sure():
    generator = np.random.default_rng(9)
    shown = np.array([0] * 1500 + [1] * 20)
    embedding = unit(np.array([[1.0, 0.0], [1.0, 0.1]])[shown] + 0.01 * generator.normal(size=(1520, 2)))
    recogniser = Recogniser(
        lambda looks: torch.tensor([[0.0, 1.0]]).repeat(len(looks), 1), ("a", "b"), embedding,
        np.array(["a", "b"], dtype=object)[shown],
    )  # fmt: skip
    found = recogniser.recognise(torch.tensor([[1.0, 0.0]]), Fusion(0.5, (1.0, 0.5), (1.0, 0.05)))
    assert found.candidates[0].tolist() == [1, 0]


@pytest.mark.parametrize("weight", ["auto", 0.3])
def test_the_index_is_searched_twice_however_many_weights_are_tried(weight):
    world = World()
    recogniser, searches = world.recogniser(), []
    search = recogniser.index.highest_cosines
    recogniser.index.highest_cosines = lambda embedding: searches.append(len(embedding)) or search(embedding)
    fit_recognition(recogniser, world.query, world.truths, retrieval_weight=weight)
    assert searches == [40, 40]


def test_equal_scores_go_to_the_lower_number():
    flat = Recogniser(
        lambda looks: torch.ones(len(looks), 2), ("a", "b"), np.eye(1, 3, dtype=np.float32).repeat(3, axis=0),
        np.array(["a", "b", "c"], dtype=object),
    )  # fmt: skip
    found = flat.recognise(torch.ones(2, 3), Fusion(0.0, (1.0, 1.0), (float(3**-0.5), 1.0)), [["c", "b"], ["c"]])
    assert found.candidates[0].tolist() == [0, 1, 2]
    assert ranks(np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]), [[2, 1], [2]]).tolist() == [2, 2]


def test_the_weight_is_that_with_the_highest_gap_on_val():
    world = World(seed=6, noise=0.9)
    recogniser = world.recogniser()
    fusion = fit_recognition(recogniser, world.query, world.truths)
    head, cosine = (np.concatenate([its[part] for _, its in list(recogniser.evidence(world.query))]) for part in (0, 1))
    assert fusion.head == pytest.approx((head.max(axis=1).mean(), head.max(axis=1).std()))
    assert fusion.index == pytest.approx((cosine.max(axis=1).mean(), cosine.max(axis=1).std()))
    merits = {}
    for weight in WEIGHTS:
        best = [
            max(fused.items(), key=lambda pair: pair[1])
            for fused in world.by_hand(Fusion(weight, fusion.head, fusion.index))
        ]
        right = [name in its for (name, _), its in zip(best, world.truths, strict=True)]
        shown = sum(map(bool, world.truths))
        merits[weight] = round(gap_by_hand([score for _, score in best], right, shown), 9), sum(right) / shown
    assert len(set(merits.values())) > 3
    top = [weight for weight in WEIGHTS if merits[weight] == max(merits.values())]
    assert fusion.retrieval_weight == min(top, key=lambda weight: abs(weight - 0.5))
    fixed = fit_recognition(recogniser, world.query, world.truths, retrieval_weight=0.7, precision=None)
    assert (fixed.retrieval_weight, fixed.head, fixed.index) == (0.7, fusion.head, fusion.index)
    assert (fixed.threshold, fixed.wanted_precision, fixed.answered) == (None, None, 1.0)


def test_equally_good_weights_give_way_to_the_nearest_to_one_half():
    world = World(noise=0.01)
    assert fit_recognition(world.recogniser(), world.query, world.truths).retrieval_weight == 0.5


def lowest_by_hand(scores, right, precision):
    """Try every score as the threshold."""
    found = {}
    for threshold in set(scores):
        kept = [is_right for score, is_right in zip(scores, right, strict=True) if score >= threshold]
        found[threshold] = sum(kept) / len(kept)
    wanted = min(precision, max(found.values()))
    return min(threshold for threshold in found if found[threshold] >= wanted), found


@pytest.mark.parametrize("precision", [0.3, 0.6, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_is_the_lowest_that_reaches_the_precision(precision, seed, caplog):
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=80).round(1)  # many are equal
    right = generator.random(80) < 1 / (1 + np.exp(-2 * scores))
    found = rejection(scores, right, precision)
    threshold, by_hand = lowest_by_hand(scores.tolist(), right.tolist(), precision)
    kept = scores >= found.threshold
    np.testing.assert_array_equal(kept, scores >= threshold)
    assert threshold - SLACK <= found.threshold < threshold
    assert found.precision == pytest.approx(by_hand[threshold])
    assert found.answered == pytest.approx(kept.mean())
    assert ("no threshold reaches" in caplog.text) == (max(by_hand.values()) < precision)


def test_scores_close_to_each_other_stay_apart():
    found = rejection(np.array([1.0, 1.0 - 1e-6]), np.array([True, False]), 1.0)
    assert 1.0 - 1e-6 < found.threshold < 1.0


def test_refusal_learnt_on_val_counts_pictures_without_a_landmark_as_wrong():
    world = World(seed=8, noise=0.3)
    recogniser = world.recogniser()
    fusion = fit_recognition(recogniser, world.query, world.truths, precision=0.9)
    found = recogniser.recognise(world.query, fusion, world.truths)
    answered = found.scores[:, 0] >= fusion.threshold
    assert 0 < answered.mean() == fusion.answered < 1
    assert (found.rank[answered] == 1).mean() == fusion.reached_precision >= 0.9
    nothing = np.array([not its for its in world.truths])
    assert answered[nothing].mean() < answered[~nothing].mean()


def test_without_pictures_that_show_nothing_nobody_can_tell_what_to_refuse():
    world = World(seed=8, noise=0.3)
    recogniser = world.recogniser()
    assert fit_recognition(recogniser, world.query, world.truths).wanted_precision == AUTO_PRECISION
    assert fit_recognition(recogniser, world.query, world.truths).threshold is not None
    shown = np.array([bool(its) for its in world.truths])
    all_shown = [its for its in world.truths if its]
    fusion = fit_recognition(recogniser, world.query[torch.from_numpy(shown)], all_shown)
    assert (fusion.wanted_precision, fusion.threshold, fusion.answered) == (None, None, 1.0)
    always = fit_recognition(recogniser, world.query, world.truths, precision=None)
    assert (always.wanted_precision, always.threshold) == (None, None)


def test_a_threshold_that_few_answers_speak_for_is_warned_of(caplog):
    scores, right = np.arange(20.0), np.arange(20) > 12
    assert rejection(scores, right, 0.9).answered == 0.35
    assert "rests on 7 answers on val" in caplog.text
    caplog.clear()
    rejection(np.arange(40.0), np.arange(40) > 12, 0.9)
    assert not caplog.records


def test_the_confidence_of_an_answer_is_how_often_such_answers_are_right():
    world = World(seed=8, noise=0.6)
    recogniser = world.recogniser()
    fusion = fit_recognition(recogniser, world.query, world.truths)
    found = recogniser.recognise(world.query, fusion, world.truths)
    confidence = fusion.confidence.at(found.scores[:, 0])
    assert ((confidence > 0) & (confidence < 1)).all()
    assert (np.diff(confidence[np.argsort(found.scores[:, 0])]) >= 0).all()
    assert confidence.mean() == pytest.approx((found.rank == 1).mean(), abs=0.05)


def test_val_without_landmarks_or_without_contrast_gives_plain_numbers(caplog):
    world = World()
    nothing = fit_recognition(world.recogniser(), world.query, [[]] * 40, precision=0.9)
    assert (nothing.retrieval_weight, nothing.reached_precision, nothing.answered) == (0.5, None, 0.0)
    assert (world.recogniser().recognise(world.query, nothing).scores[:, 0] < nothing.threshold).all()
    assert "no landmark named on val is right" in caplog.text
    single = fit_recognition(world.recogniser(), world.query[:1], world.truths[:1], precision=0.5)
    assert (single.head[1], single.index[1]) == (1.0, 1.0)
    assert json.loads(json.dumps(asdict(single), allow_nan=False))
    still = fit_recognition(world.recogniser(), world.query[:1].repeat(7, 1), [["a"]] * 7)
    assert (still.head[1], still.index[1]) == (1.0, 1.0)


def test_an_unknown_truth_has_no_rank_and_counts_as_a_landmark():
    world = World(noise=0.01)
    truths = [["elsewhere"] if row < 20 else its for row, its in enumerate(world.truths)]
    assert (world.recogniser().recognise(world.query, FUSION, truths).rank[:20] == -1).all()
    half = fit_recognition(world.recogniser(), world.query, truths, precision=1.0)
    assert half.answered < 1

import numpy as np
import pytest
import torch
from landmark_answers import answers_by_hand, gap_by_hand, landmark_predictions
from sklearn.metrics import average_precision_score

from waymark.errors import ParameterError
from waymark.metrics import GlobalAveragePrecision, global_average_precision

STATES = ("scores", "correct", "ids", "classes", "relevant")


def worked_case(answers):
    """The issue's: a shows 7, b 3 and 4, c 9, d and e nothing."""
    truths = {"a": {7}, "b": {3, 4}, "c": {9}, "d": set(), "e": set()}
    rows = sorted((query, landmark, score) for query, landmark, score in answers)
    scores = torch.tensor([score for *_, score in rows])
    correct = torch.tensor([landmark in truths[query] for query, landmark, _ in rows])
    by_hand = gap_by_hand(truths, {query: (landmark, score) for query, landmark, score in answers})
    return global_average_precision(scores, correct, 3).item(), by_hand


REST = [("a", 7, 0.8), ("b", 4, 0.8), ("c", 1, 0.6)]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [([("d", 7, 0.9), *REST], 0.388889), (REST, 0.666667), ([("d", 7, 0.8), *REST], 0.666667)],
    ids=["d is the surest", "d has no answer", "d ties, and comes after a and b"],
)
def test_the_worked_cases(answers, expected):
    found, by_hand = worked_case(answers)
    assert found == pytest.approx(expected, abs=5e-7)
    assert by_hand == pytest.approx(found, rel=1e-12)


def batch(frame):
    """Vectors of a frame's answers, with the ids as numbers."""
    rows = frame[frame["predicted_landmark"].notna()]
    right = [
        answer in list(truths) for answer, truths in zip(rows["predicted_landmark"], rows["landmarks"], strict=True)
    ]
    relevant = sum(len(truths) > 0 for truths in frame["landmarks"])
    ids = torch.tensor([int(name[1:]) for name in rows["record_id"]], dtype=torch.int64)
    return torch.tensor(rows["score"].to_numpy()), torch.tensor(right, dtype=torch.bool), ids, relevant


@pytest.mark.parametrize("seed", range(8))
def test_any_answers_agree_with_going_down_the_ranking(seed):
    frame = landmark_predictions(seed=seed).sort_values("record_id")
    scores, correct, _, relevant = batch(frame)
    assert len(scores.unique()) < len(scores) / 3  # ties matter
    expected = gap_by_hand(*answers_by_hand(frame, "predicted_landmark"))
    assert global_average_precision(scores, correct, relevant).item() == pytest.approx(expected, rel=1e-12)


def test_with_every_query_answered_it_is_average_precision():
    rng = np.random.default_rng(3)
    for number in (1, 2, 30, 500):
        scores, correct = rng.permutation(number) / number, rng.random(number) < 0.4
        correct[0] = True
        # scikit-learn divides by the right answers, GAP by the queries that have a landmark: here all of them.
        expected = average_precision_score(correct, scores) * correct.sum() / number
        found = global_average_precision(torch.tensor(scores), torch.tensor(correct), number)
        assert found.item() == pytest.approx(expected, rel=1e-12)


def test_the_ends_are_zero_and_one():
    scores = torch.rand(50, generator=torch.Generator().manual_seed(1))
    assert global_average_precision(scores, torch.ones(50, dtype=torch.bool), 50) == 1
    assert global_average_precision(scores, torch.zeros(50, dtype=torch.bool), 50) == 0
    assert global_average_precision(scores[:0], scores[:0].bool(), 3) == 0
    assert global_average_precision(scores, torch.zeros(50, dtype=torch.bool), 0).isnan()


def test_float32_scores_are_counted_in_float64():
    number = 300_000
    found = global_average_precision(torch.zeros(number), torch.arange(number) % 2 == 1, number)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(0.25, abs=1e-12)  # each second answer is right, and precision is 1/2 at each


@pytest.mark.parametrize(
    ("scores", "correct", "relevant", "message"),
    [
        (torch.tensor([0.5, torch.nan]), torch.tensor([True, False]), 2, "1 of 2 scores are NaN"),
        (torch.rand(3), torch.ones(2), 3, r"scores \(3,\) and correct \(2,\) do not fit"),
        (torch.rand(3, 1), torch.ones(3, 1), 3, "two vectors of one length"),
        (torch.rand(3), torch.ones(3), 2, "3 right answers cannot come from 2 relevant"),
        (torch.rand(3), torch.zeros(3), -1, "-1 relevant"),
    ],
)
def test_what_has_no_ranking_is_refused(scores, correct, relevant, message):
    with pytest.raises(ParameterError, match=message):
        global_average_precision(scores, correct, relevant)


def whole(frame):
    return gap_by_hand(*answers_by_hand(frame, "predicted_landmark"))


@pytest.mark.parametrize("sizes", [[240], [100, 100, 40], [7] * 34 + [2], [1] * 240])
def test_batches_in_any_order_give_the_gap_of_all(sizes):
    frame = landmark_predictions()
    metric = GlobalAveragePrecision()
    for stop, size in zip(np.cumsum(sizes), sizes, strict=True):
        metric.update(*batch(frame.iloc[stop - size : stop]))
    assert metric.compute().item() == pytest.approx(whole(frame), rel=1e-12)


def test_a_mean_of_batches_or_the_order_of_arrival_would_be_noticed():
    frame = landmark_predictions()
    scores, correct, _, relevant = batch(frame)
    halves = [
        global_average_precision(*(parts[name] for name in (0, 1, 3))) for parts in map(batch, split_in_two(frame))
    ]
    assert abs(sum(halves).item() / 2 - whole(frame)) > 1e-3
    assert abs(global_average_precision(scores, correct, relevant).item() - whole(frame)) > 1e-3


def split_in_two(frame):
    return frame.iloc[:170], frame.iloc[170:]


@pytest.mark.parametrize("turned", [False, True])
def test_merged_states_give_the_gap_of_all(turned):
    frame = landmark_predictions()
    one, other = (GlobalAveragePrecision() for _ in range(2))
    for metric, rows in zip((other, one) if turned else (one, other), split_in_two(frame), strict=True):
        metric.update(*batch(rows))
    one.merge_state(other)
    assert one.compute().item() == pytest.approx(whole(frame), rel=1e-12)


def synced(processes):
    """What torchmetrics does between processes: gather each state, and reduce it as the metric says."""

    def gathered(state, group):
        name = next(names)
        return [pieces(process, name) for process in processes]

    def pieces(process, name):
        state = getattr(process, name)
        if not isinstance(state, list):
            return state
        return torch.cat(state) if state else torch.tensor([], dtype=process.dtype)

    names = iter(STATES)
    processes[0].dist_sync_fn = gathered
    processes[0].distributed_available_fn = lambda: True
    return processes[0].compute().item()


def test_processes_sum_to_one():
    frame = landmark_predictions()
    processes = [GlobalAveragePrecision() for _ in range(2)]
    for process, rows in zip(processes, split_in_two(frame), strict=True):
        process.update(*batch(rows))
    assert synced(processes) == pytest.approx(whole(frame), rel=1e-12)


def test_a_process_without_records_loses_no_digit_of_the_others():
    """torchmetrics fills in for it a vector of the metric's dtype, which must not round large ids or scores."""
    one, empty = GlobalAveragePrecision(), GlobalAveragePrecision()
    near = torch.tensor([2**53 - 1, 2**53 - 2])  # one number in float32
    one.update(torch.tensor([0.5, 0.5]), torch.tensor([False, True]), near, 2)
    one.update(torch.tensor([0.25 + 1e-12, 0.25], dtype=torch.float64), torch.tensor([False, True]), near + 1, 0)
    assert all(state.dtype == torch.float64 for name in STATES[:-1] for state in getattr(one, name))
    assert empty.dtype == torch.float64
    assert synced([one, empty]) == pytest.approx((1 + 2 / 4) / 2)
    assert synced([empty, one]) == pytest.approx((1 + 2 / 4) / 2)


def test_equal_ids_are_ordered_by_class():
    scores, ids = torch.full((3,), 0.5), torch.tensor([4, 4, 2])
    correct, classes = torch.tensor([True, False, False]), torch.tensor([8, 9, 5])
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        metric = GlobalAveragePrecision()
        metric.update(scores[order], correct[order], ids[order], 1, classes[order])
        assert metric.compute().item() == 0.5  # second of three


def test_nothing_added_gives_nan_and_unanswered_queries_zero():
    metric = GlobalAveragePrecision()
    metric.update(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0)
    assert metric.compute().isnan()
    metric.update(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.tensor(2))
    assert metric.compute() == 0
    metric.reset()
    metric.update(torch.ones(1), torch.ones(1), torch.ones(1, dtype=torch.int64), 1)
    assert metric.compute() == 1


def test_a_batch_that_does_not_fit_is_refused():
    with pytest.raises(ParameterError, match=r"ids \(2,\).* do not fit"):
        GlobalAveragePrecision().update(torch.rand(3), torch.ones(3), torch.arange(2), 3)
    with pytest.raises(ParameterError, match="below 2"):
        GlobalAveragePrecision().update(torch.rand(1), torch.ones(1), torch.tensor([2**53 + 2]), 1)

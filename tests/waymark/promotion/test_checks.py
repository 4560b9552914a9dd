"""The gate against statistics that share nothing with it."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from waymark.metrics.intervals import CONFIDENCE, SEED
from waymark.promotion.checks import (
    Check,
    Gate,
    check_better,
    check_latency,
    check_leaks,
    check_records,
    check_slices,
    check_smoke,
    verdict_of,
)
from waymark.report.verdict import ENOUGH

GATE = Gate(resamples=2000)
ALONE = pd.Series(dtype=object)


def test_the_gate_draws_as_every_interval_does():
    assert (Gate().confidence, Gate().seed, Gate().least_records) == (CONFIDENCE, SEED, ENOUGH)


def errors(km):
    return pd.DataFrame(
        {"record_id": [f"r{n:04d}" for n in range(len(km))], "distance_km": np.asarray(km, dtype=float)}
    )


def answers(right, score, landmark="L1"):
    """Queries of one landmark, answered right or wrong, each with its score."""
    right = np.asarray(right, dtype=bool)
    answer = np.where(right, "L1", "L2")
    truth = [landmark] * len(right) if isinstance(landmark, str) else landmark
    return pd.DataFrame(
        {
            "record_id": [f"r{n:04d}" for n in range(len(right))],
            "landmarks": [[its] if its else [] for its in truth],
            "predicted_landmark": answer,
            "best_landmark": answer,
            "score": np.asarray(score, dtype=float),
            "rank": pd.array(np.where(right, 1, None), dtype="Int64"),
        }
    )


def gap_of(right, score):
    """GAP as the mean of the precision at each right answer over all queries, rank by rank."""
    ordered = np.asarray(right)[np.argsort(-np.asarray(score), kind="stable")]
    return sum(ordered[: rank + 1].mean() for rank in np.flatnonzero(ordered)) / len(ordered)


@pytest.fixture
def pair():
    rng = np.random.default_rng(5)
    champion = rng.gamma(2.0, 10.0, 200)
    return champion * rng.uniform(0.7, 1.05, 200), champion


def test_the_interval_is_that_of_a_paired_bootstrap(pair):
    check = check_better("places", errors(pair[0]), errors(pair[1]), ALONE, GATE)
    rng, difference = np.random.default_rng(99), pair[0] - pair[1]
    means = difference[rng.integers(0, 200, (20000, 200))].mean(axis=1)
    assert check.passed
    assert check.figures["value"] == pytest.approx(difference.mean())
    assert [check.figures["low"], check.figures["high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.08)
    narrow = check_better("places", errors(pair[0]), errors(pair[1]), ALONE, replace(GATE, confidence=0.5)).figures
    assert [narrow["low"], narrow["high"]] == pytest.approx(np.quantile(means, [0.25, 0.75]), abs=0.08)
    other = check_better("places", errors(pair[0]), errors(pair[1]), ALONE, replace(GATE, seed=2)).figures
    assert 0 < abs(other["low"] - check.figures["low"]) < 0.1


def test_only_what_is_better_beyond_chance_passes(pair):
    better, champion = map(errors, pair)
    assert not check_better("places", champion, better, ALONE, GATE).passed
    same = check_better("places", champion, champion, ALONE, GATE)
    assert not same.passed
    assert same.line.startswith("it is not shown to be better: mean error")
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 10, 200)
    unsure = errors(pair[1] + noise - noise.mean() - 0.2)
    assert unsure["distance_km"].mean() < champion["distance_km"].mean()
    assert not check_better("places", unsure, champion, ALONE, GATE).passed


def test_the_margin_is_a_share_of_the_champions_figure(pair):
    champion = errors(pair[1])
    tenth = errors(0.9 * pair[1])  # exactly a tenth better on each record, so that the interval is about 10 %
    high = check_better("places", tenth, champion, ALONE, GATE).figures["high"]
    just = -high / pair[1].mean()
    assert check_better("places", tenth, champion, ALONE, replace(GATE, margin=just - 1e-6)).passed
    assert not check_better("places", tenth, champion, ALONE, replace(GATE, margin=just + 1e-6)).passed


def test_groups_are_drawn_whole(pair):
    ours, theirs = map(errors, pair)
    copies = [pd.concat([rows] * 5, ignore_index=True) for rows in (ours, theirs)]
    for rows in copies:
        rows["record_id"] = [f"{its}-{n}" for n, its in enumerate(rows["record_id"])]
    groups = pd.Series([its.split("-")[0] for its in copies[0]["record_id"]], index=copies[0]["record_id"])
    grouped = check_better("places", *copies, groups, GATE).figures
    once = check_better("places", ours, theirs, ALONE, GATE).figures
    alone = check_better("places", *copies, ALONE, GATE).figures
    assert grouped["unit"] == "group"
    assert grouped["high"] - grouped["low"] == pytest.approx(once["high"] - once["low"], rel=0.05)
    assert alone["high"] - alone["low"] < 0.6 * (once["high"] - once["low"])


def test_landmarks_are_judged_by_gap():
    rng = np.random.default_rng(3)
    score = rng.random(120)
    ours, theirs = rng.random(120) < 0.5 + score / 2, rng.random(120) < 0.5
    check = check_better("landmarks", answers(ours, score), answers(theirs, score), ALONE, GATE)
    assert check.figures["challenger"] == pytest.approx(gap_of(ours, score))
    assert check.figures["champion"] == pytest.approx(gap_of(theirs, score))
    drawn = [rng.integers(0, 120, 120) for _ in range(4000)]
    found = [gap_of(ours[its], score[its]) - gap_of(theirs[its], score[its]) for its in drawn]
    assert [check.figures["low"], check.figures["high"]] == pytest.approx(np.quantile(found, [0.025, 0.975]), abs=0.02)
    assert check.passed
    assert not check_better("landmarks", answers(theirs, score), answers(ours, score), ALONE, GATE).passed
    luckier = theirs | (np.arange(120) == np.flatnonzero(~theirs)[0])  # one right answer more
    unsure = check_better("landmarks", answers(luckier, score), answers(theirs, score), ALONE, GATE)
    assert unsure.figures["value"] > 0
    assert not unsure.passed
    # The same answers, the wrong ones surest: as many are right, and GAP alone tells the two apart.
    worse = check_better("landmarks", answers(ours, np.where(ours, 0, 1) + score), answers(ours, score), ALONE, GATE)
    assert not worse.passed
    assert worse.figures["high"] < 0


def test_nothing_is_shown_by_one_group():
    rows = errors([1.0] * 20)
    groups = pd.Series("street", index=rows["record_id"])
    check = check_better("places", errors([0.5] * 20), rows, groups, GATE)
    assert not check.passed
    assert "too few records or groups" in check.line


@pytest.fixture
def sliced(pair):
    """A challenger that is far better in the north and twice as bad in twenty records of the south."""
    champion = pair[1]
    south = np.arange(200) >= 180
    rows = errors(np.where(south, 2 * champion, 0.5 * champion))
    slices = pd.Series(np.where(south, "south", "north"), index=rows["record_id"])
    return rows, errors(champion), slices


def test_a_slice_that_pays_refuses_although_the_mean_is_better(sliced):
    rows, champion, slices = sliced
    assert check_better("places", rows, champion, ALONE, GATE).passed
    check = check_slices("places", rows, champion, ALONE, slices, GATE)
    assert not check.passed
    north, south = check.figures["slices"]
    assert (north["slice"], north["records"], north["failed"]) == ("north", 180, False)
    assert (south["slice"], south["records"], south["failed"]) == ("south", 20, True)
    assert [north["loss"], south["loss"]] == pytest.approx([-0.5, 1.0])
    assert south["low"] <= 1.0 <= south["high"]
    assert "south (mean error" in check.line


def test_a_slice_that_is_too_small_or_allowed_to_lose_does_not_refuse(sliced):
    for gate in (replace(GATE, least_slice=21), replace(GATE, largest_slice_loss=1.01)):
        assert check_slices("places", *sliced[:2], ALONE, sliced[2], gate).passed
    nowhere = pd.Series(None, index=sliced[2].index, dtype=object)
    assert check_slices("places", *sliced[:2], ALONE, nowhere, GATE).figures["slices"] == []


def test_a_slice_that_loses_by_chance_does_not_refuse():
    rng = np.random.default_rng(1)
    champion = rng.gamma(1.0, 10.0, 12)
    challenger = rng.permutation(champion)  # the same errors, elsewhere
    challenger[0] += 60  # one bad answer makes the mean of twelve half as bad again
    slices = pd.Series("islands", index=errors(champion)["record_id"])
    check = check_slices("places", errors(challenger), errors(champion), ALONE, slices, GATE)
    (row,) = check.figures["slices"]
    assert row["loss"] > 0.25
    assert row["low"] < 0
    assert check.passed


def test_class_groups_are_judged_by_their_own_gap():
    score = np.linspace(1, 0, 60)
    tail = np.arange(60) % 3 == 0
    champion = answers(np.ones(60, bool), score)
    challenger = answers(~tail, score)
    slices = pd.Series(np.where(tail, "tail", "head"), index=champion["record_id"])
    check = check_slices("landmarks", challenger, champion, ALONE, slices, GATE)
    assert {row["slice"]: row["failed"] for row in check.figures["slices"]} == {"head": False, "tail": True}
    assert {row["slice"]: row["loss"] for row in check.figures["slices"]} == {"head": 0.0, "tail": 1.0}


def seen(way, split):
    return pd.DataFrame({"record_id": ["r1"], "way": [way], "split": [split], "seen_record_id": ["t9"]})


@pytest.mark.parametrize("way", ["record", "group", "picture"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_challenger_that_has_seen_its_test_leaks(way, split):
    check = check_leaks(seen(way, split))
    honest = (way, split) == ("picture", "val")  # no split promises that val looks like nothing in test
    assert check.passed == honest
    if not honest:
        assert f"1 of its own test records were trained or calibrated on (1 by {way})" in check.line
        assert f"r1 (by {way}: t9 of {split})" in check.line


def test_too_few_records_refuse():
    check = check_records(49, {"seen by the champion (by record)": 11, "without a picture": 0}, GATE)
    assert not check.passed
    assert (
        "49 test records are left that neither has seen (left out: 11 seen by the champion (by record))" in check.line
    )
    assert "fewer than 50" in check.line
    assert check_records(50, {}, GATE).passed


def test_latency_and_smoke():
    assert check_latency(1.9, 0.5, GATE).passed
    slow = check_latency(2.1, 0.5, GATE)
    assert not slow.passed
    assert "2.100 s for a record, 4.20 times the champion's, more than 2 s" in slow.line
    assert check_smoke(None).passed
    assert not check_smoke("no such file").passed


def test_a_verdict_says_what_failed_or_what_is_better():
    good, bad, worse = (
        Check("better", True, "12 against 15"),
        Check("slices", False, "south"),
        Check("latency", False, "slow"),
    )
    assert asdict(verdict_of([Check("records", True, "many"), good]))["reason"] == "12 against 15"
    assert verdict_of([good]).promoted
    refused = verdict_of([good, bad, worse])
    assert (refused.promoted, refused.reason) == (False, "south; slow")


def test_figures_are_json(sliced):
    checks = [
        check_better("places", *sliced[:2], ALONE, GATE),
        check_slices("places", *sliced[:2], ALONE, sliced[2], GATE),
        check_leaks(seen("group", "train")),
    ]
    assert json.loads(json.dumps([asdict(check) for check in checks], allow_nan=False))

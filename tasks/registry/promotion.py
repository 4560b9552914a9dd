"""Hold a challenger against the champion; make it champion if the evidence says so. No stage: it changes the world."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from tasks.common.stage import load_params
from tasks.registry import aliases as champions
from tasks.registry import tracking
from tasks.registry.evidence import Evidence, keep
from tasks.registry.exposure import read_exposure
from tasks.registry.rescore import TEST_TAG, Answered, TestSet, answer_test, find_test, latency_s, load_registered
from tasks.registry.smoke import smoke_fault
from tasks.training.tables import places_of
from waymark.data.overlap import WAYS, overlap
from waymark.errors import ModelError
from waymark.inference.predictor import Predictor
from waymark.inference.references import LANDMARK, LOCATION
from waymark.metrics.breakdown import named_regions
from waymark.promotion.checks import (
    Check,
    Question,
    Verdict,
    check_better,
    check_latency,
    check_leaks,
    check_records,
    check_slices,
    check_smoke,
    verdict_of,
)
from waymark.promotion.gate import Gate
from waymark.promotion.slices import landmark_slices, place_slices

logger = logging.getLogger(__name__)

Outcome = Literal["promoted", "refused", "nothing to do"]
Step = Callable[[str, Callable[[], Any]], Any]  # does a named part of the work, and gives what it gives
NEEDED: dict[Question, tuple[str, ...]] = {"places": ("latitude", "longitude"), "landmarks": ("landmark_score",)}


class Decision(NamedTuple):
    """What came of a challenger.

    Attributes:
        name: of the registered model.
        challenger: version that was held against the champion.
        champion: version that was champion before; None where there was none.
        outcome: what was decided.
        reason: why, in one line.
        uri: of the evidence in MLflow; empty where nothing was kept.
        markdown: the evidence for people; empty where there was nothing to do.
    """

    name: str
    challenger: str
    champion: str | None
    outcome: Outcome
    reason: str
    uri: str = ""
    markdown: str = ""


def plainly(name: str, work: Callable[[], Any]) -> Any:
    """Do a part of the work; a flow shows it as a task run instead."""
    return work()


def promote(
    name: str = LOCATION,
    challenger: str = "challenger",
    gate: Gate | None = None,
    folder: Path | None = None,
    *,
    dry_run: bool = False,
    step: Step = plainly,
) -> Decision:
    """Hold a challenger against the champion; keep the evidence, and move the alias if it is better.

    Args:
        name: of the registered model.
        challenger: an alias, or a version.
        gate: what it must show.
        folder: root of the checkout whose test is asked for; None looks into the night's checkout, then here.
        dry_run: decide and say so, but write nothing into the registry.
        step: does each part of the work.

    Raises:
        ModelError: there is no such version, no such test, or the champion moved meanwhile.
    """
    gate = gate or Gate()
    its, over = champions.version_of(name, challenger), champions.champion_of(name)
    version = str(its.version)
    if version == over:
        return Decision(name, version, over, "nothing to do", f"version {version} of {name} is champion already")
    logger.info("holding version %s of %s against the champion, version %s", version, name, over)
    verdict, evidence = _judge(its, over, gate, folder, step, chosen=challenger.isdigit())
    kept = step("keep the evidence", partial(keep, evidence, its, write=not dry_run))
    if not dry_run and verdict.promoted:
        champions.promote(name, version, over, verdict.reason, kept.uri)
    elif not dry_run:
        champions.refuse(name, version, verdict.reason, kept.uri)
    outcome: Outcome = "promoted" if verdict.promoted else "refused"
    return Decision(name, version, over, outcome, verdict.reason, kept.uri, kept.markdown)


def _judge(
    its: ModelVersion, over: str | None, gate: Gate, folder: Path | None, step: Step, *, chosen: bool
) -> tuple[Verdict, Evidence]:
    """Check what costs little first, and go on only as long as nothing speaks against the challenger."""
    name, version = its.name, str(its.version)
    evidence = Evidence(name, version, over, "landmarks" if name == LANDMARK else "places", gate)
    checks, test, exposures = _check_rolled_back(its, chosen), None, {}
    if over is not None:
        exposures = step("read what both have seen", partial(_exposures, name, version, over))
        checks.append(_check_exposures(exposures, version, over))
    if over is not None and _passed(checks):
        test = find_test(its.tags.get(TEST_TAG), folder)
        checks.append(check_leaks(overlap(test.records, exposures["challenger"])))
    if _passed(checks):
        needed = NEEDED[evidence.question]
        smoke = partial(smoke_fault, name, version, tracking.tracking_uri(), needed)
        checks.append(check_smoke(step(f"smoke test of version {version}", smoke)))
    if test is not None and _passed(checks):
        compared, evidence = _compare(evidence, test, exposures, step)
        checks = [check for check in checks if check.name != "leaks"] + compared  # now by pictures, too
    for check in checks:
        logger.log(logging.INFO if check.passed else logging.WARNING, "%s: %s", check.name, check.line)
    verdict = verdict_of(checks)
    if over is None and verdict.promoted:
        verdict = replace(verdict, reason=f"there was no champion of {name} to hold it against")
    return verdict, replace(evidence, verdict=verdict)


def _passed(checks: list[Check]) -> bool:
    return all(check.passed for check in checks)


def _check_rolled_back(its: ModelVersion, chosen: bool) -> list[Check]:
    """Let no night undo a rollback; an operator who names the version may."""
    left = its.tags.get(champions.LEFT)
    if left is None or chosen:
        return []
    line = (
        f"version {its.version} was rolled back {left}; python -m flows.rollback {its.name} --forward brings it back,"
        f" --challenger {its.version} judges it anew"
    )
    return [Check("rolled back", False, line)]


def _exposures(name: str, version: str, over: str) -> dict[str, pd.DataFrame]:
    found = {role: read_exposure(name, its) for role, its in (("challenger", version), ("champion", over))}
    return {role: its for role, its in found.items() if its is not None}


def _check_exposures(exposures: dict[str, pd.DataFrame], version: str, over: str) -> Check:
    """Refuse to compare models of which nobody knows what they have seen."""
    versions = {"challenger": version, "champion": over}
    unknown = [f"the {role} (version {its})" for role, its in versions.items() if role not in exposures]
    if not unknown:
        sizes = " and ".join(f"{len(its):,} records of the {role}" for role, its in exposures.items())
        return Check("exposure", True, f"{sizes} were trained or calibrated on")
    line = (
        f"nobody knows what {' and '.join(unknown)} was trained on: its run kept no {tracking.EXPOSURE}; train and"
        " register it again (dvc repro --force train@MODEL, then make run), so that both can be compared"
    )
    return Check("exposure", False, line, {"unknown": unknown})


def _compare(
    evidence: Evidence, test: TestSet, exposures: dict[str, pd.DataFrame], step: Step
) -> tuple[list[Check], Evidence]:
    """Score both models on what neither has seen, and hold the answers against each other."""
    versions = {"challenger": evidence.challenger, "champion": str(evidence.champion)}
    predictors, answered = {}, {}
    for role, version in versions.items():
        load = partial(_load, evidence, role, version)
        predictors[role] = step(f"load the {role}, version {version}", load)
    for role, version in versions.items():
        score = partial(answer_test, predictors[role], test)
        answered[role] = step(f"score the {role}, version {version}", score)
    return step("compare the answers", partial(_checks, evidence, test, exposures, predictors, answered))


def _checks(
    evidence: Evidence,
    test: TestSet,
    exposures: dict[str, pd.DataFrame],
    predictors: dict[str, Predictor],
    answered: dict[str, Answered],
) -> tuple[list[Check], Evidence]:
    gate, question = evidence.gate, evidence.question
    seen = {role: overlap(test.records, exposures[role], its.looks) for role, its in answered.items()}
    leaks = check_leaks(seen["challenger"])
    rows, left_out = _unseen(question, test, answered, seen)
    evidence = replace(
        evidence, seen={role: _counts(its) for role, its in seen.items()}, rows=rows, test_records=len(test.records)
    )
    counted = rows["challenger"]
    if question == "landmarks":
        counted = counted[counted["landmarks"].map(len) > 0]
    checks = [leaks, check_records(len(counted), left_out, gate)]
    if not _passed(checks):
        return checks, evidence
    slices = _slices(question, rows["challenger"], exposures["challenger"], test.folder, gate)
    sides = (rows["challenger"], rows["champion"], test.records.set_index("record_id")["group"])
    seconds = {role: latency_s(predictor, test) for role, predictor in predictors.items()}
    checks += [
        check_better(question, *sides, gate),
        check_slices(question, *sides, slices, gate),
        check_latency(seconds["challenger"], seconds["champion"], gate),
    ]
    return checks, replace(evidence, slices=slices)


def _load(evidence: Evidence, role: str, version: str) -> Predictor:
    """Load one of the two.

    Raises:
        ModelError: it does not answer the question.
    """
    predictor = load_registered(evidence.name, version)
    locator, question = predictor.locator, evidence.question
    if (locator.place_head if question == "places" else locator.landmark_head) is None:
        raise ModelError(
            f"the {role}, version {version} of {evidence.name}, answers no {question}; register it under another name"
        )
    return predictor


def _unseen(
    question: Question, test: TestSet, answered: dict[str, Answered], seen: dict[str, pd.DataFrame]
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """Keep the records that both answered and neither has seen; count the others by the reason."""
    ids = test.records["record_id"]
    reasons = pd.Series(None, index=ids, dtype=object)
    both = set.intersection(*(set(its.rows["record_id"]) for its in answered.values()))
    reasons[~ids.isin(both).to_numpy()] = "without a picture"
    for role, its in seen.items():
        new = reasons.index.isin(its["record_id"]) & reasons.isna().to_numpy()
        way = its.set_index("record_id")["way"].reindex(reasons.index[new])
        reasons[new] = [f"seen by the {role} (by {how})" for how in way]
    if question == "places":
        nowhere = ~np.isfinite(places_of(test.records)).all(axis=1)
        reasons[nowhere & reasons.isna().to_numpy()] = "without coordinates"
    kept = set(reasons.index[reasons.isna()])
    rows = {
        role: its.rows[its.rows["record_id"].isin(kept)].reset_index(drop=True) for role, its in answered.items()
    }  # fmt: skip
    return rows, {str(reason): int(count) for reason, count in reasons.value_counts().sort_index().items()}


def _counts(seen: pd.DataFrame) -> dict[str, int]:
    return {way: int((seen["way"] == way).sum()) for way in WAYS}


def _slices(
    question: Question, rows: pd.DataFrame, exposure: pd.DataFrame, folder: Path, gate: Gate
) -> "pd.Series[Any]":
    """Name the slice of each record, by its id."""
    if question == "places":
        path = load_params(folder / "params.yaml").get("evaluate", {}).get("regions")
        regions = named_regions(None if path is None else folder / path)
        names = place_slices(places_of(rows), regions, gate.least_slice)
    else:
        first = pd.Series([next(iter(its), None) for its in rows["landmarks"]], dtype=object)
        names = landmark_slices(first, exposure.loc[exposure["split"] == "train", "landmark"])
    return pd.Series(names, index=rows["record_id"], dtype=object)

"""A challenger against the champion: checked, decided, and the alias moved. No stage: it changes the world."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from tasks.common.stage import load_params
from tasks.registry import runs, versions
from tasks.registry.evidence import ROLES, Evidence, keep
from tasks.registry.rescore import Answered, TestSet, answer_test, find_test, latency_s, load_registered, unseen
from tasks.registry.smoke import smoke_fault
from tasks.registry.store import tracking_uri
from tasks.training.tables import places_of
from waymark.data.overlap import WAYS, overlap
from waymark.errors import ModelError
from waymark.inference.predictor import Predictor
from waymark.inference.references import LANDMARK, LOCATION
from waymark.metrics.breakdown import named_regions
from waymark.promotion.checks import (
    Check,
    Gate,
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
from waymark.promotion.slices import landmark_slices, place_slices

logger = logging.getLogger(__name__)

Outcome = Literal["promoted", "refused", "nothing to do"]
Step = Callable[[str, Callable[[], Any]], Any]  # does a named part of the work, and returns what it returns
NEEDED: dict[Question, tuple[str, ...]] = {"places": ("latitude", "longitude"), "landmarks": ("landmark_score",)}


class Decision(NamedTuple):
    """What came of a challenger.

    Attributes:
        name: of the registered model.
        challenger: version that was compared with the champion.
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


def decide(
    name: str = LOCATION,
    challenger: str = "challenger",
    gate: Gate | None = None,
    *,
    dry_run: bool = False,
    step: Step = plainly,
) -> Decision:
    """Compare a challenger with the champion, keep the evidence, and make it champion if it is better.

    Args:
        name: of the registered model.
        challenger: an alias, or a version.
        gate: what it must show.
        dry_run: decide, but write nothing into the registry.
        step: does each part of the work.

    Raises:
        ModelError: there is no such version, no such test, or the champion moved meanwhile.
    """
    candidate, champion = versions.version_of(name, challenger), versions.champion_of(name)
    version = str(candidate.version)
    if version == champion:
        return Decision(name, version, champion, "nothing to do", f"version {version} of {name} is champion already")
    logger.info("comparing version %s of %s with the champion, version %s", version, name, champion)
    question: Question = "landmarks" if name == LANDMARK else "places"
    evidence = Evidence(name, version, champion, question, gate or Gate())
    verdict, evidence = _judge(candidate, evidence, step, chosen=challenger.isdigit())
    uri, markdown = step("keep the evidence", partial(keep, evidence, verdict, None if dry_run else candidate.run_id))
    if not dry_run and verdict.promoted:
        versions.make_champion(name, version, champion, verdict.reason, uri)
    elif not dry_run:
        versions.refuse(name, version, verdict.reason, uri)
    outcome: Outcome = "promoted" if verdict.promoted else "refused"
    return Decision(name, version, champion, outcome, verdict.reason, uri, markdown)


def _judge(candidate: ModelVersion, evidence: Evidence, step: Step, *, chosen: bool) -> tuple[Verdict, Evidence]:
    """Check what costs little first, and go on only as long as nothing speaks against the challenger."""
    name, version, champion = evidence.name, evidence.challenger, evidence.champion
    checks, test, exposures = _check_rolled_back(candidate, chosen), None, {}
    if champion is not None:
        exposures = step("read what both have seen", partial(_exposures, evidence))
        checks.append(_check_exposures(exposures, evidence))
    if champion is not None and _passed(checks):
        test = find_test(candidate.tags.get(runs.TEST_TAG))
        checks.append(check_leaks(overlap(test.records, exposures["challenger"])))
    if _passed(checks):
        smoke = partial(smoke_fault, name, version, tracking_uri(), NEEDED[evidence.question])
        checks.append(check_smoke(step(f"smoke test of version {version}", smoke)))
    if test is not None and _passed(checks):
        compared, evidence = _compare(evidence, test, exposures, step)
        checks = [check for check in checks if check.name != "leaks"] + compared  # now by pictures, too
    for check in checks:
        logger.log(logging.INFO if check.passed else logging.WARNING, "%s: %s", check.name, check.line)
    verdict = verdict_of(checks)
    if champion is None and verdict.promoted:
        verdict = replace(verdict, reason=f"there was no champion of {name} to compare it with")
    return verdict, evidence


def _passed(checks: list[Check]) -> bool:
    return all(check.passed for check in checks)


def _check_rolled_back(candidate: ModelVersion, chosen: bool) -> list[Check]:
    """Let no night undo a rollback; an operator who names the version may."""
    left = candidate.tags.get(versions.LEFT)
    if left is None or chosen:
        return []
    line = (
        f"version {candidate.version} was rolled back {left}; python -m flows.rollback {candidate.name} --forward"
        f" brings it back, --challenger {candidate.version} judges it again"
    )
    return [Check("rolled back", False, line)]


def _exposures(evidence: Evidence) -> dict[str, pd.DataFrame]:
    found = {
        role: runs.read_exposure(versions.version_of(evidence.name, version))
        for role, version in evidence.versions.items()
    }
    return {role: exposure for role, exposure in found.items() if exposure is not None}


def _check_exposures(exposures: dict[str, pd.DataFrame], evidence: Evidence) -> Check:
    """Refuse to compare models of which nobody knows what they have seen."""
    unknown = [
        f"the {role} (version {version})" for role, version in evidence.versions.items() if role not in exposures
    ]
    if not unknown:
        sizes = " and ".join(f"{len(exposure):,} records of the {role}" for role, exposure in exposures.items())
        return Check("exposure", True, f"{sizes} were trained or calibrated on")
    line = (
        f"nobody knows what {' and '.join(unknown)} was trained on: its run kept no {runs.EXPOSURE}; train and"
        " register it again (dvc repro --force train@MODEL, then make run), so that both can be compared"
    )
    return Check("exposure", False, line, {"unknown": unknown})


def _compare(
    evidence: Evidence, test: TestSet, exposures: dict[str, pd.DataFrame], step: Step
) -> tuple[list[Check], Evidence]:
    """Score both models on what neither has seen, and compare the answers."""
    predictors = {
        role: step(f"load the {role}, version {version}", partial(_load, evidence, role))
        for role, version in evidence.versions.items()
    }
    answered = {
        role: step(f"score the {role}, version {version}", partial(answer_test, predictors[role], test))
        for role, version in evidence.versions.items()
    }
    return step("compare the answers", partial(_checks, evidence, test, exposures, predictors, answered))


def _checks(
    evidence: Evidence,
    test: TestSet,
    exposures: dict[str, pd.DataFrame],
    predictors: dict[str, Predictor],
    answered: dict[str, Answered],
) -> tuple[list[Check], Evidence]:
    gate, question = evidence.gate, evidence.question
    seen = {role: overlap(test.records, exposures[role], answers.looks) for role, answers in answered.items()}
    rows, left_out = unseen(question, test, answered, seen)
    counts = {role: {way: int((found["way"] == way).sum()) for way in WAYS} for role, found in seen.items()}
    evidence = replace(evidence, seen=counts, rows=rows, test_records=len(test.records))
    counted = rows["challenger"]
    if question == "landmarks":
        counted = counted[counted["landmarks"].map(len) > 0]
    checks = [check_leaks(seen["challenger"]), check_records(len(counted), left_out, gate)]
    if not _passed(checks):
        return checks, evidence
    slices = _slices(question, rows["challenger"], exposures["challenger"], test.folder, gate)
    sides = (rows["challenger"], rows["champion"], test.records.set_index("record_id")["group"])
    checks += [
        check_better(question, *sides, gate),
        check_slices(question, *sides, slices, gate),
        check_latency(*(latency_s(predictors[role], test) for role in ROLES), gate),
    ]
    return checks, replace(evidence, slices=slices)


def _load(evidence: Evidence, role: str) -> Predictor:
    """Load one of the two.

    Raises:
        ModelError: it does not answer the question.
    """
    version, question = evidence.versions[role], evidence.question
    predictor = load_registered(evidence.name, version)
    locator = predictor.locator
    if (locator.place_head if question == "places" else locator.landmark_head) is None:
        raise ModelError(
            f"the {role}, version {version} of {evidence.name}, answers no {question}; register it under another name"
        )
    return predictor


def _slices(
    question: Question, rows: pd.DataFrame, exposure: pd.DataFrame, folder: Path, gate: Gate
) -> "pd.Series[Any]":
    """Name the slice of each record, by its id."""
    if question == "places":
        path = load_params(folder / "params.yaml").get("evaluate", {}).get("regions")
        regions = named_regions(None if path is None else folder / path)
        names = place_slices(places_of(rows), regions, gate.least_slice)
    else:
        first = pd.Series([next(iter(landmarks), None) for landmarks in rows["landmarks"]], dtype=object)
        names = landmark_slices(first, exposure.loc[exposure["split"] == "train", "landmark"])
    return pd.Series(names, index=rows["record_id"], dtype=object)

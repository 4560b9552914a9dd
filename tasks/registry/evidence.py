"""What a promotion was decided on, kept with the challenger's run for programs and for people."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from tasks.common.outputs import write_json
from tasks.registry import tracking
from waymark.promotion.checks import Question, Verdict
from waymark.promotion.gate import Gate
from waymark.report.promotion import promotion_markdown, promotion_page

ROLES = ("challenger", "champion")


@dataclass(frozen=True)
class Evidence:
    """All that was looked at.

    Attributes:
        name: of the registered model.
        challenger: its version.
        champion: version that it was held against; None where there was none.
        question: that the model answers.
        gate: what was asked of it.
        verdict: what came out.
        seen: how many test records each of the two has seen, by the way.
        test_records: of the split.
        rows: answers of each to the records that neither has seen; empty where nothing was scored.
        slices: name by record_id.
    """

    name: str
    challenger: str
    champion: str | None
    question: Question
    gate: Gate
    verdict: Verdict | None = None
    seen: dict[str, dict[str, int]] = field(default_factory=dict)
    test_records: int | None = None
    rows: dict[str, pd.DataFrame] = field(default_factory=dict)
    slices: "pd.Series[Any] | None" = None


class Kept(NamedTuple):
    """Where the evidence lies, and what it says."""

    uri: str
    markdown: str


def keep(evidence: Evidence, its: ModelVersion, *, write: bool = True) -> Kept:
    """Write the evidence beside the challenger's run, as JSON, as a page, and as the answers to recompute it from.

    Args:
        evidence: to keep.
        its: the challenger's version.
        write: whether it goes into the store; otherwise it is only told.
    """
    document = _document(evidence)
    markdown = promotion_markdown(document)
    if not write:
        return Kept("", markdown)
    place = f"promotion/{evidence.name}-{evidence.challenger}-against-{evidence.champion or 'nobody'}"
    with TemporaryDirectory(prefix="waymark-") as folder:
        write_json(document, Path(folder) / "evidence.json")
        (Path(folder) / "evidence.md").write_text(markdown)
        (Path(folder) / "evidence.html").write_text(promotion_page(document, evidence.rows))
        if evidence.rows:
            _answers(evidence).to_parquet(Path(folder) / "answers.parquet", index=False)
        tracking.client().log_artifacts(its.run_id, folder, place)
    return Kept(f"runs:/{its.run_id}/{place}/evidence.html", markdown)


def _document(evidence: Evidence) -> dict[str, Any]:
    verdict = evidence.verdict
    assert verdict is not None
    return {
        "model": evidence.name,
        "challenger": evidence.challenger,
        "champion": evidence.champion,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "question": evidence.question,
        "promoted": verdict.promoted,
        "reason": verdict.reason,
        "gate": asdict(evidence.gate),
        "test_records": evidence.test_records,
        "seen": evidence.seen,
        "checks": [asdict(check) for check in verdict.checks],
    }


def _answers(evidence: Evidence) -> pd.DataFrame:
    """Put the answers of both beside each other, so that every figure can be computed again."""
    truth = ["record_id", "latitude", "longitude", "landmarks"]
    first = evidence.rows["challenger"][truth]
    parts = [
        evidence.rows[role].set_index("record_id").drop(columns=[*truth[1:], "split"]).add_prefix(f"{role}_")
        for role in ROLES
    ]
    table = first.merge(parts[0], on="record_id").merge(parts[1], on="record_id")
    return table if evidence.slices is None else table.assign(slice=table["record_id"].map(evidence.slices))

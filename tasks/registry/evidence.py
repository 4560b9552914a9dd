"""What a promotion was decided on, kept with the challenger's run for programs and for people."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from tasks.common.outputs import write_json
from tasks.registry.store import client
from waymark.promotion.checks import Gate, Question, Verdict
from waymark.report.promotion import promotion_markdown, promotion_page

ROLES = ("challenger", "champion")


@dataclass(frozen=True)
class Evidence:
    """All that was looked at.

    Attributes:
        name: of the registered model.
        challenger: its version.
        champion: version that it was compared with; None where there was none.
        question: that the model answers.
        gate: what was asked of it.
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
    seen: dict[str, dict[str, int]] = field(default_factory=dict)
    test_records: int | None = None
    rows: dict[str, pd.DataFrame] = field(default_factory=dict)
    slices: "pd.Series[Any] | None" = None

    @property
    def versions(self) -> dict[str, str]:
        """Version by role, where there are two."""
        return dict(zip(ROLES, (self.challenger, str(self.champion)), strict=True))


def keep(evidence: Evidence, verdict: Verdict, run_id: str | None) -> tuple[str, str]:
    """Write the evidence next to the challenger's run, as JSON, as a page, and as the answers to recompute it from.

    Args:
        evidence: to keep.
        verdict: what came out.
        run_id: of the challenger; None writes nothing.

    Returns:
        Address of the page, empty where nothing was written; and the evidence in Markdown.
    """
    document = _document(evidence, verdict)
    markdown = promotion_markdown(document)
    if run_id is None:
        return "", markdown
    place = f"promotion/{evidence.name}-{evidence.challenger}-against-{evidence.champion or 'nobody'}"
    with TemporaryDirectory(prefix="waymark-") as folder:
        write_json(document, Path(folder) / "evidence.json")
        (Path(folder) / "evidence.md").write_text(markdown)
        (Path(folder) / "evidence.html").write_text(promotion_page(document, evidence.rows))
        if evidence.rows:
            _answers(evidence).to_parquet(Path(folder) / "answers.parquet", index=False)
        client().log_artifacts(run_id, folder, place)
    return f"runs:/{run_id}/{place}/evidence.html", markdown


def _document(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
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
    """Put the answers of both next to each other, so that every figure can be computed again."""
    truth = ["record_id", "latitude", "longitude", "landmarks"]
    table = evidence.rows["challenger"][truth]
    for role in ROLES:
        answers = evidence.rows[role].set_index("record_id").drop(columns=[*truth[1:], "split"])
        table = table.merge(answers.add_prefix(f"{role}_"), on="record_id")
    return table if evidence.slices is None else table.assign(slice=table["record_id"].map(evidence.slices))

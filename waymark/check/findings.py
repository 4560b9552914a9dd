"""Findings of a check: title, reason, remedy and the first examples of each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_EXAMPLES = 8


@dataclass(frozen=True)
class Example:
    """One case: its records, what is wrong with them, and the pictures that show it."""

    record_ids: tuple[str, ...]
    detail: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One kind of fault, or of noteworthy fact.

    Attributes:
        kind: short stable name, such as `swapped`.
        title: what was found, with the count.
        why: its effect on a model, or how it was detected.
        remedy: which parameter to set, or what to do with the files.
        count: number of records, pictures or landmarks.
        examples: the first cases by record id.
        needs_look: whether it should be fixed before training; otherwise it is for information.
    """

    kind: str
    title: str
    why: str
    remedy: str
    count: int
    examples: Sequence[Example] = ()
    needs_look: bool = True


@dataclass(frozen=True)
class Check:
    """Result of a check.

    Attributes:
        source: kind of the source.
        counts: records, pictures and so on, by name.
        findings: all findings; those that need a look first.
        kept: number of records that the filter would keep; None if it would fail.
        stopped: why the filter would fail.
        dropped: number of records that it would drop, by reason.
        page: path of the page.
    """

    source: str
    counts: Mapping[str, int]
    findings: Sequence[Finding]
    kept: int | None
    stopped: str
    dropped: Mapping[str, int]
    page: Path

    @property
    def needs_look(self) -> bool:
        """Whether anything should be fixed before training."""
        return any(finding.needs_look for finding in self.findings)

    @property
    def status(self) -> int:
        """Exit status of the command: 0 if nothing needs a look, else 1."""
        return int(self.needs_look)

    def text(self) -> str:
        """Summarise the check for a terminal."""
        lines = [", ".join(f"{count:,} {name}" for name, count in self.counts.items())]
        for heading, look in (("needs a look", True), ("good to know", False)):
            chosen = [finding for finding in self.findings if finding.needs_look == look]
            lines += ["", f"{heading}:"] if chosen else []
            for finding in chosen:
                lines.append(f"  - {finding.title}")
                if look:
                    lines.append(f"    {finding.remedy}")
        if self.kept is None:
            lines += ["", f"the filter would fail: {self.stopped}"]
        else:
            reasons = "; ".join(f"{reason}: {count:,}" for reason, count in Counter(self.dropped).most_common())
            lines += ["", f"the filter would keep {self.kept:,} of {self.counts['records']:,} records"]
            lines[-1] += f" ({reasons})" if reasons else ""
        return "\n".join([*lines, f"page: {self.page}"])


def first(examples: Iterable[Example]) -> tuple[Example, ...]:
    """Return the first examples by record id."""
    return tuple(sorted(examples, key=lambda example: example.record_ids)[:MOST_EXAMPLES])


def counted(number: int, thing: str, plural: str | None = None) -> str:
    """Format a number with its noun.

    >>> counted(1, "record"), counted(12000, "record"), counted(2, "class", "classes")
    ('1 record', '12,000 records', '2 classes')
    """
    return f"{number:,} {thing if number == 1 else plural or thing + 's'}"

"""Findings of a check: title, reason, remedy and the first examples of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


def first(examples: Iterable[Example]) -> tuple[Example, ...]:
    """Return the first examples by record id."""
    return tuple(sorted(examples, key=lambda example: example.record_ids)[:MOST_EXAMPLES])


def counted(number: int, thing: str, plural: str | None = None) -> str:
    """Format a number with its noun.

    >>> counted(1, "record"), counted(12000, "record"), counted(2, "class", "classes")
    ('1 record', '12,000 records', '2 classes')
    """
    return f"{number:,} {thing if number == 1 else plural or thing + 's'}"

"""What a check says: each finding with its number, its remedy and the first examples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_EXAMPLES = 8


@dataclass(frozen=True)
class Example:
    """One case: the records it is about, what is wrong with them, and the pictures that show it."""

    record_ids: tuple[str, ...]
    detail: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One kind of fault, or of thing worth knowing.

    Attributes:
        kind: short name that stays the same, such as `swapped`.
        title: what was found, with its number.
        why: what it does to a model, or why it is thought to be so.
        remedy: which parameter to set, or what to do with the files.
        count: how many records, pictures or landmarks.
        examples: the first cases by record id.
        needs_look: whether somebody should act before training; otherwise it is good to know.
    """

    kind: str
    title: str
    why: str
    remedy: str
    count: int
    examples: Sequence[Example] = ()
    needs_look: bool = True


def first(examples: Iterable[Example]) -> tuple[Example, ...]:
    """Give the first examples by record id."""
    return tuple(sorted(examples, key=lambda example: example.record_ids)[:MOST_EXAMPLES])


def counted(number: int, thing: str, plural: str | None = None) -> str:
    """Number and noun.

    >>> counted(1, "record"), counted(12000, "record"), counted(2, "class", "classes")
    ('1 record', '12,000 records', '2 classes')
    """
    return f"{number:,} {thing if number == 1 else plural or thing + 's'}"

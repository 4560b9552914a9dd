"""Assignment of the views of a record to the slots of a model."""

from collections.abc import Iterable, Iterator, Sequence

MAX_SLOTS = 8  # more headings are arbitrary angles, not a rig

Heading = float | None


def heading_slots(records: Iterable[Sequence[Heading]]) -> list[Heading]:
    """Choose the slots of a model from the headings of its training records.

    Records of a rig share a few headings, and each heading is a slot. If headings are missing or differ between
    records, the slots are positions.

    Args:
        records: headings in degrees of each record's views, None where unknown.

    >>> heading_slots([[0.0, 90.0], [90.0, None]])
    [0.0, 90.0]
    >>> heading_slots([[None], [None, None]])
    [None, None]
    """
    records = list(records)
    known = {heading % 360 for record in records for heading in record if heading is not None}
    most = max((len(record) for record in records), default=1)
    if known and len(known) <= MAX_SLOTS:
        return [*sorted(known), *[None] * (min(most, MAX_SLOTS) - len(known))]
    return [None] * min(most, MAX_SLOTS)


def place_views(headings: Sequence[Heading], slots: Sequence[Heading]) -> list[int | None]:
    """Assign each view to the slot of its heading, or to the first free one.

    Of two views for the same slot the nearer one gets it.

    Args:
        headings: in degrees of each view, None where unknown.
        slots: heading in degrees of each slot, None for a position.

    Returns:
        Slot of each view, None if there are more views than slots.

    >>> place_views([None, 90.0], [0.0, 90.0, 180.0])
    [0, 1]
    >>> place_views([88.0], [0.0, 90.0])
    [1]
    """
    placed: list[int | None] = [None] * len(headings)
    free = set(range(len(slots)))
    for _, view, slot in sorted(_nearest_slots(headings, slots)):
        if slot in free:
            placed[view] = slot
            free.discard(slot)
    for view, its in enumerate(placed):
        if its is None and free:
            placed[view] = min(free)
            free.discard(min(free))
    return placed


def _nearest_slots(headings: Sequence[Heading], slots: Sequence[Heading]) -> Iterator[tuple[float, int, int]]:
    """Return for each view with a heading the angle to the nearest slot, the view, and that slot."""
    angles = {slot: its for slot, its in enumerate(slots) if its is not None}
    for view, heading in enumerate(headings):
        if heading is not None and angles:
            yield min((abs((heading - its + 180) % 360 - 180), view, slot) for slot, its in angles.items())

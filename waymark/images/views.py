"""Which view of a record stands in which slot of a model."""

from collections.abc import Iterable, Iterator, Sequence

MAX_SLOTS = 8  # headings beyond are free angles, not a rig's

Heading = float | None


def heading_slots(records: Iterable[Sequence[Heading]]) -> list[Heading]:
    """Choose the slots of a model from the headings of its training records.

    Records of a rig share a few headings, and each heading is a slot. Where headings are
    missing or differ from record to record, the slots are positions.

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
    """Give each view the slot of its heading, or the first free one.

    Of two views that want the same slot the nearer one gets it.

    Args:
        headings: in degrees of each view, None where unknown.
        slots: heading in degrees of each slot, None for a position.

    Returns:
        For each view its slot, None where more views came than there are slots.

    >>> place_views([None, 90.0], [0.0, 90.0, 180.0])
    [0, 1]
    >>> place_views([88.0], [0.0, 90.0])
    [1]
    """
    placed: list[int | None] = [None] * len(headings)
    free = set(range(len(slots)))
    for _, view, slot in sorted(_wishes(headings, slots)):
        if slot in free:
            placed[view] = slot
            free.discard(slot)
    for view, its in enumerate(placed):
        if its is None and free:
            placed[view] = min(free)
            free.discard(min(free))
    return placed


def _wishes(headings: Sequence[Heading], slots: Sequence[Heading]) -> Iterator[tuple[float, int, int]]:
    """Give for each view with a heading how far the nearest slot's is off, the view, and that slot."""
    angles = {slot: its for slot, its in enumerate(slots) if its is not None}
    for view, heading in enumerate(headings):
        if heading is not None and angles:
            yield min((abs((heading - its + 180) % 360 - 180), view, slot) for slot, its in angles.items())

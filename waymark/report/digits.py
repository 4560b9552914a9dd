"""Numbers as people read them."""

import math
from collections.abc import Sequence

MISSING = "–"


def shown(value: float | int | None, kind: str) -> str:
    """A figure as people read it: kilometres to three digits, shares in per cent, an en dash for none.

    >>> shown(7.123, "km"), shown(61.25, "km"), shown(1234.5, "km")
    ('7.12', '61.2', '1,234')
    >>> shown(0.905, "share"), shown(3120, "count"), shown(None, "km")
    ('90.5 %', '3,120', '–')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if kind == "share":
        return f"{100 * value:.1f} %"
    if kind == "count":
        return f"{value:,.0f}"
    if kind in ("ratio", "score"):
        return f"{value:.{2 if kind == 'ratio' else 3}f}"
    return f"{value:,.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def shown_interval(ends: Sequence[float] | None, kind: str) -> str:
    """The ends of an interval as people read them; empty for none.

    >>> shown_interval((38.92, 46.7), "km"), shown_interval((0.897, 0.955), "share")
    ('38.9–46.7', '89.7–95.5 %')
    """
    if ends is None or not all(map(math.isfinite, ends)):
        return ""
    low, high = (shown(end, kind) for end in ends)
    dash = "–" if ends[0] >= 0 else " to "  # a dash before a minus would not be read
    return f"{low.removesuffix(' %')}{dash}{high}"

"""What became of each stage in one run of the pipeline, and how long it took."""

import threading
from typing import Any, NamedTuple

from prefect.states import State

SKIPPED = "Skipped"  # state of a stage that had nothing to do
NOT_REACHED = "Not reached"
CACHED = "it ran before with these parameters and inputs"


class Entry(NamedTuple):
    """One stage's line."""

    stage: str
    state: str
    seconds: float
    reason: str

    @property
    def outcome(self) -> str:
        """What became of it, in a word."""
        words = {SKIPPED: "cached" if self.reason == CACHED else "skipped", "Completed": "ran"}
        return words.get(self.state, self.state.lower())


class Ledger:
    """Gathers the lines of stages that end at the same time.

    Args:
        order: all stages in the graph's order.
    """

    def __init__(self, order: list[str]) -> None:
        self._order = order
        self._entries: dict[str, Entry] = {}
        self._guard = threading.Lock()

    def add(self, stage: str, state: State[Any], seconds: float) -> Entry:
        """Write down how a stage ended."""
        entry = Entry(stage, state.name or state.type.value, round(seconds, 1), state.message or "")
        with self._guard:
            self._entries[stage] = entry
        return entry

    def entries(self) -> list[Entry]:
        """List a line for each stage, in the graph's order, those that were never reached among them."""
        with self._guard:
            known = dict(self._entries)
        return [known.get(stage, Entry(stage, NOT_REACHED, 0.0, "the run ended before it")) for stage in self._order]

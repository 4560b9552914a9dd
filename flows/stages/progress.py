"""What a person sees of a run: a line for each stage that ends, a bar for each training; and what became of them."""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import NamedTuple, TextIO

from tqdm import tqdm

from flows.stages.repro import CACHED, SKIPPED
from waymark.system.terminal import printable_lines

NOT_REACHED = "Not reached"
EPOCH = re.compile(r"(training from )?epoch (\d+) of (\d+)\b")  # as a training logs its begin and the end of each
LINES = 4  # that a training prints at most where there is no room for a bar
BAR = "{unit}|{bar:20}| {desc}"

logger = logging.getLogger(__name__)


class Entry(NamedTuple):
    """What became of one stage."""

    stage: str
    state: str
    seconds: float
    reason: str

    @property
    def outcome(self) -> str:
        """What became of it, in a word."""
        words = {SKIPPED: "cached" if self.reason == CACHED else "skipped", "Completed": "ran"}
        return words.get(self.state, self.state.lower())


class Progress:
    """Prints the lines of stages, draws bars where the stream is a terminal, and keeps what became of each stage.

    Args:
        stages: of the run, in the graph's order.
        epochs: most epochs of a training, by its stage.
        stream: where to print.
    """

    def __init__(self, stages: Iterable[str], epochs: Mapping[str, int], stream: TextIO | None = None) -> None:
        self._stages = list(stages)
        self._width = max(map(len, self._stages), default=0) + 2
        self._epochs = epochs
        self._stream = stream or sys.stdout
        self._bars: dict[str, tqdm] = {}
        self._clocks: dict[str, Clock] = {}
        self._ended: dict[str, Entry] = {}
        self._guard = threading.RLock()

    def write(self, line: str) -> None:
        """Print a line, above the bars."""
        with self._guard, tqdm.external_write_mode(self._stream) if self._bars else nullcontext():
            print(printable_lines(line), file=self._stream, flush=True)

    def begin(self, stage: str) -> None:
        """Start the clock and the bar of a training; other stages have none."""
        with self._guard:
            if (epochs := self._epochs.get(stage)) is not None:
                self._clocks[stage] = Clock()
                if self._stream.isatty():
                    name = f"{stage:{self._width}}"
                    bar = tqdm(total=epochs, unit=name, file=self._stream, leave=False, bar_format=BAR)
                    bar.set_description_str("first epoch")
                    self._bars[stage] = bar

    def receive(self, stage: str, line: str) -> None:
        """Log a line of a stage's output, and show it where it says how far a training is."""
        logger.info("%s: %s", stage, line)
        if (match := EPOCH.match(line)) is None or stage not in self._clocks:
            return
        epoch, epochs = map(int, match.groups()[1:])
        with self._guard:
            clock = self._clocks[stage]
            if match[1]:
                return clock.begin(epoch)
            text = f"epoch {epoch} of {epochs}, {in_words(clock.left_s(epoch, epochs))} left"
            if (bar := self._bars.get(stage)) is not None:
                bar.total, bar.n = epochs, epoch
                bar.set_description_str(text)
            elif epoch < epochs and LINES * epoch // epochs > LINES * (epoch - 1) // epochs:
                self.write(f"{stage:{self._width}}{text}")

    def end(self, entry: Entry) -> None:
        """Print and keep what became of a stage."""
        with self._guard:
            self._ended[entry.stage] = entry
            self._clocks.pop(entry.stage, None)
            if (bar := self._bars.pop(entry.stage, None)) is not None:
                bar.close()
            took = in_words(entry.seconds) if entry.seconds else ""
            self.write(f"{entry.stage:{self._width}}{entry.outcome:<12}{took}".rstrip())

    def entries(self) -> list[Entry]:
        """List what became of each stage, in the graph's order, with those that were never reached."""
        with self._guard:
            ended = dict(self._ended)
        return [ended.get(stage, Entry(stage, NOT_REACHED, 0.0, "the run ended before it")) for stage in self._stages]


class Clock:
    """Estimates how long a training still takes, from the epochs that this process has seen.

    Args:
        now: seconds from some start.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Count from an epoch that begins now: the first, or a later one where a training is resumed."""
        self._since, self._first = self._now(), epoch

    def left_s(self, epoch: int, epochs: int) -> float:
        """Estimate the time left after the end of an epoch, at the pace of those since the beginning."""
        return (self._now() - self._since) / (epoch - self._first + 1) * (epochs - epoch)


def in_words(seconds: float) -> str:
    """Write a duration for people.

    >>> in_words(0.32), in_words(48.2), in_words(95), in_words(3720)
    ('0.3 s', '48 s', '1 min 35 s', '1 h 2 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"

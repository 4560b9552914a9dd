"""What a person sees of a run of the pipeline: a line for each stage that ends, and a bar for each training."""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import TextIO

from tqdm import tqdm

from flows.ledger import Entry
from waymark.system.terminal import printable_lines

EPOCH = re.compile(r"(training from )?epoch (\d+) of (\d+)\b")  # as a training logs its begin and the end of each
LINES = 4  # that a training prints at most where there is no room for a bar
BAR = "{unit}|{bar:20}| {desc}"

logger = logging.getLogger(__name__)


class Progress:
    """Prints the lines of stages, and draws bars where the stream is a terminal.

    Args:
        stages: that the run may print lines of.
        epochs: most epochs of a training, by its stage.
        stream: where to.
    """

    def __init__(self, stages: Iterable[str], epochs: Mapping[str, int], stream: TextIO | None = None) -> None:
        self._width = max(map(len, stages), default=0) + 2
        self._epochs = epochs
        self._stream = stream or sys.stdout
        self._bars: dict[str, tqdm] = {}
        self._clocks: dict[str, Clock] = {}
        self._guard = threading.RLock()

    def write(self, line: str) -> None:
        """Print a line, above the bars."""
        with self._guard, tqdm.external_write_mode(self._stream) if self._bars else nullcontext():
            print(printable_lines(line), file=self._stream, flush=True)

    def begin(self, stage: str) -> None:
        """Take down that a stage is at work."""
        with self._guard:
            if (epochs := self._epochs.get(stage)) is not None:
                self._clocks[stage] = Clock()
                if self._stream.isatty():
                    name = f"{stage:{self._width}}"
                    bar = tqdm(total=epochs, unit=name, file=self._stream, leave=False, bar_format=BAR)
                    bar.set_description_str("first epoch")
                    self._bars[stage] = bar

    def hear(self, stage: str, line: str) -> None:
        """Log a line of a stage's output, and show it where it says how far a training is."""
        logger.info("%s: %s", stage, line)
        if (match := EPOCH.match(line)) is None or stage not in self._clocks:
            return
        begins, *numbers = match.groups()
        epoch, epochs = map(int, numbers)
        with self._guard:
            if begins:
                return self._clocks[stage].begin(epoch)
            said = f"epoch {epoch} of {epochs}, {in_words(self._clocks[stage].left_s(epoch, epochs))} left"
            if (bar := self._bars.get(stage)) is not None:
                bar.total, bar.n = epochs, epoch
                bar.set_description_str(said)
            elif epoch < epochs and LINES * epoch // epochs > LINES * (epoch - 1) // epochs:
                self.write(f"{stage:{self._width}}{said}")

    def end(self, entry: Entry) -> None:
        """Print what became of a stage."""
        with self._guard:
            self._clocks.pop(entry.stage, None)
            if (bar := self._bars.pop(entry.stage, None)) is not None:
                bar.close()
            took = in_words(entry.seconds) if entry.seconds else ""
            self.write(f"{entry.stage:{self._width}}{entry.outcome:<12}{took}".rstrip())


class Clock:
    """How long a training still takes, from the epochs that this process has seen.

    Args:
        now: seconds from some start.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Take down that an epoch, counted from 1, begins: the first, or one in the middle where a training goes on."""
        self._since, self._first = self._now(), epoch

    def left_s(self, epoch: int, epochs: int) -> float:
        """Estimate the time after the end of an epoch, with as much for each as those since the beginning took."""
        return (self._now() - self._since) / (epoch - self._first + 1) * (epochs - epoch)


def in_words(seconds: float) -> str:
    """Say how long something takes.

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

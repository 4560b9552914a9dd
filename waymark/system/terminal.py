"""Text that others wrote, made safe to show: names in a model, of files and landmarks, in a table, in EXIF."""

import logging
import unicodedata
from typing import TextIO

OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (text direction among them), surrogates, separators of lines
JOINERS = {"\u200c", "\u200d"}  # of format, yet part of how Persian, Hindi and emoji are written


def printable(text: str) -> str:
    r"""Show characters that a terminal would obey as escapes: none moves its cursor, colours it or turns its text.

    >>> print(printable("Tower\x1b[31m\nanswered by champion"))
    Tower\x1b[31m\nanswered by champion
    >>> print(printable("Vrh Dinare, Šibenik"))
    Vrh Dinare, Šibenik
    """
    if text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) in OBEYED and character not in JOINERS:
        return character.encode("unicode_escape").decode("ascii")
    return character


def printable_lines(text: str) -> str:
    """Do the same for a text of several lines, which stay lines."""
    return "\n".join(map(printable, text.split("\n")))


def one_line(text: object) -> str:
    """Put what a message says, an error's among them, on one printable line."""
    return printable(" ".join(str(text).split()))


class PrintableFormatter(logging.Formatter):
    """Messages of a log as they are, but printable."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the lines of a record."""
        return printable_lines(super().format(record))


def log_to(stream: TextIO | None, level: int) -> None:
    """Write the messages of a log to a stream, None for stderr."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler])

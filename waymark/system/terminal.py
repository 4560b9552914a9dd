"""Make untrusted text safe to print: names in models, files, tables and EXIF."""

import logging
import unicodedata
from typing import TextIO

OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (such as text direction), surrogates, line separators
JOINERS = {"\u200c", "\u200d"}  # format characters that Persian, Hindi and emoji need


def printable(text: str) -> str:
    r"""Escape characters that a terminal would obey: none moves its cursor, changes colours or the text direction.

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
    """Do the same for each line of a text."""
    return "\n".join(map(printable, text.split("\n")))


def one_line(text: object) -> str:
    """Convert a message, such as an error, to one printable line."""
    return printable(" ".join(str(text).split()))


class PrintableFormatter(logging.Formatter):
    """Formats log messages unchanged, but printable."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        return printable_lines(super().format(record))


def log_to(stream: TextIO | None, level: int) -> None:
    """Write log messages to a stream, None for stderr."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler])

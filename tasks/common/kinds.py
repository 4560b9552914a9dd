"""Kinds of parameters: what is a sensible count, distance, share or name, for all sections of params.yaml.

Bounds keep nonsense out (a number with thirty zeros, infinity, a slip of the unit), and leave room for whatever
somebody could want.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from tasks.common.params import shown
from waymark.errors import ParameterError, WaymarkError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
NAMES = "names consist of letters, digits, _ and -, the first a letter or digit, at most 64 in all"
LONGEST_NAME = 255  # bytes of one part of a path, on all common disks
LONGEST_PATH = 4096

# How many.
AtLeastOne = Annotated[int, Field(ge=1, le=1_000_000_000)]  # records, pictures, landmarks
NoneOrMore = Annotated[int, Field(ge=0, le=1_000_000_000)]
Made = Annotated[int, Field(ge=1, le=10_000_000)]  # records that are made up
MadeOrNone = Annotated[int, Field(ge=0, le=10_000_000)]
Few = Annotated[int, Field(ge=1, le=1000)]
FewOrNone = Annotated[int, Field(ge=0, le=1000)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
Epoch = Annotated[int, Field(ge=0, le=100_000)]  # the first is 0
Batch = Annotated[int, Field(ge=1, le=65_536)]
Cells = Annotated[int, Field(ge=1, le=200_000)]
Width = Annotated[int, Field(ge=1, le=65_536)]  # of a layer
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as NumPy and Lightning take it

# How large.
SizePx = Annotated[int, Field(ge=8, le=4096)]
Pixels = Annotated[int, Field(ge=64, le=100_000_000_000)]
SpacingM = Annotated[float, Field(ge=1, le=20_000_000)]  # half way round the Earth
SpacingDeg = Annotated[float, Field(ge=0.00001, lt=180)]
BufferM = Annotated[float, Field(ge=0, le=20_000_000)]
DistanceKm = Annotated[float, Field(ge=0.001, le=20_000)]
ShoreKm = Annotated[float, Field(ge=0, le=20_000)]
Seconds = Annotated[float, Field(ge=0.1, le=86_400)]

# What part.
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(ge=0.000001, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(ge=0.000000001, lt=1)]
Half = Annotated[float, Field(ge=0, le=0.5)]

# How much.
Rate = Annotated[float, Field(ge=1e-12, le=100)]  # of learning
RateOrNone = Annotated[float, Field(ge=0, le=100)]
Decay = Annotated[float, Field(ge=0, le=100)]
Weight = Annotated[float, Field(ge=0, le=1_000_000)]  # of one thing against others
PositiveWeight = Annotated[float, Field(ge=0.000001, le=1_000_000)]
Times = Annotated[float, Field(gt=1, le=1e12)]
Noise = Annotated[float, Field(ge=0, le=255)]  # of pixels from 0 to 255
Scale = Annotated[float, Field(ge=0.001, le=1000)]
Margin = Annotated[float, Field(ge=0, le=4)]  # of which each head has a range of its own


def checked_by(check: Callable[[Any], object]) -> AfterValidator:
    """Make a validator of a function that raises an error of this project where a value is wrong."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except WaymarkError as error:
            raise ValueError(str(error)) from error
        return value

    return AfterValidator(validate)


def _nameable(path: str) -> str:
    """Refuse what no disk could have as a path, at which the operating system would raise."""
    if "\0" in path or len(path) > LONGEST_PATH or any(len(_bytes(part)) > LONGEST_NAME for part in Path(path).parts):
        raise ValueError(f"{shown(repr(path))} is no path that a disk can hold; give that of a file or folder")
    return path


def _bytes(part: str) -> bytes:
    return part.encode(errors="surrogatepass")


def check_name(section: str, name: str) -> None:
    """Refuse a name of the user's own that could be no folder's: it is one below trained/ and reports/.

    Raises:
        ParameterError: it has other letters, or too many.
    """
    if not isinstance(name, str):
        raise ParameterError(f"params.yaml: {section}: the name {shown(name)} is no text; put it in quotes")
    if not NAME.fullmatch(name):
        raise ParameterError(f"params.yaml: {section}.{shown(name)}: {NAMES}")


def _is_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(NAMES)
    return name


def _or_name(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


PathText = Annotated[str, Field(min_length=1, description="the path of a file or folder"), AfterValidator(_nameable)]
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_PATH)]
Name = Annotated[str, Field(description="a name"), AfterValidator(_is_name)]
OrName = BeforeValidator(_or_name)  # `head: cells` stands for {name: cells}

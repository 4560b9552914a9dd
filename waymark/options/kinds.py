"""Kinds of options: what is a sensible count, distance, share or rate, wherever somebody sets one.

Bounds keep nonsense out (a number with thirty zeros, infinity, a slip of the unit), and leave room for whatever
somebody could want.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

LONGEST_NAME = 255  # bytes of one part of a path, on all common disks
LONGEST_PATH = 4096
LONGEST_SHOWN = 60  # characters of a path in a message

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


def _nameable(path: str) -> str:
    """Refuse what no disk could have as a path, at which the operating system would raise."""
    parts = [] if "\0" in path else [part.encode(errors="surrogatepass") for part in Path(path).parts]
    if "\0" in path or len(path) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in parts):
        shown = repr(path) if len(path) < LONGEST_SHOWN else f"{path[:LONGEST_SHOWN]!r}..."
        raise ValueError(f"{shown} is no path that a disk can hold; give that of a file or folder")
    return path


PathText = Annotated[str, Field(min_length=1, description="the path of a file or folder"), AfterValidator(_nameable)]
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_PATH)]

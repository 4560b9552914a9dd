"""A picture of the report."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """One picture, as JPEG or PNG, and the words below it, such as `90° east`."""

    encoded: bytes
    label: str = ""

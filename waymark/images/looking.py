"""Compact descriptions of pictures: hash, colours, edges."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from waymark.images.decode import Status, read_picture
from waymark.images.resizing import channel_figures, perceptual_hash
from waymark.images.tars import open_member

SAME_LEVEL = 10  # difference from the median colour, in levels of 255, up to which a pixel counts as this colour
DESCRIBED = 192  # length of `colour_and_gradient`


class Wanted(NamedTuple):
    """A picture to describe, with or without a hash of its file and a descriptor of its colours and edges."""

    path: Path
    digest: bool
    descriptor: bool


class Look(NamedTuple):
    """Description of a picture; only status and reason if it cannot be decoded.

    Attributes:
        status: whether it could be decoded.
        reason: why not.
        digest: SHA-256 of the file; empty if not requested or not readable.
        perceptual_hash: 16 hexadecimal digits, as in `resize`.
        mean: of each channel, in levels of 255.
        std: of each channel.
        evenness: share of the pixels that have nearly the median colour.
        descriptor: `(192,)` colours and gradients, if requested.
    """

    status: Status
    reason: str = ""
    digest: str = ""
    perceptual_hash: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    evenness: float = 0.0
    descriptor: NDArray[np.float32] | None = None


def look(wanted: Wanted, size_px: int, *, max_pixels: int) -> Look:
    """Decode a picture like `resize`, and describe it; never raises for faults of the picture.

    Args:
        wanted: the picture.
        size_px: side of the square that is described.
        max_pixels: width times height beyond which it is not decoded.
    """
    status, reason, pixels = read_picture(wanted.path, size_px, max_pixels=max_pixels)
    digest = _digest(wanted.path) if wanted.digest else ""
    if pixels is None:
        return Look(status, reason, digest)
    figures, count = channel_figures(pixels), pixels.shape[0] * pixels.shape[1]
    mean = np.array(figures["channel_sum"]) / count
    variance = np.array(figures["channel_sum_squares"]) / count - mean * mean
    return Look(
        status,
        reason,
        digest,
        perceptual_hash(pixels),
        tuple(mean.tolist()),
        tuple(np.sqrt(np.maximum(variance, 0)).tolist()),
        evenness(pixels),
        colour_and_gradient(pixels) if wanted.descriptor else None,
    )


def _digest(path: Path) -> str:
    try:
        with open_member(path.parent, path.name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError:  # its status says why
        return ""


def evenness(pixels: NDArray[np.uint8]) -> float:
    """Compute the share of the `(H, W, 3)` pixels that have nearly the median colour.

    >>> evenness(np.full((8, 8, 3), 200, np.uint8))
    1.0
    """
    flat = pixels.reshape(-1, 3).astype(np.int16)
    return float((np.abs(flat - np.median(flat, axis=0)) <= SAME_LEVEL).all(axis=1).mean())


def colour_and_gradient(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe `(H, W, 3)` pixels by 64 colours and by 8 directions of edges in 16 fields, `(192,)`.

    Square roots of histograms, so that Euclidean distance is the Hellinger distance; colours and edges weigh the same.
    """
    levels = pixels.reshape(-1, 3) >> 6
    colours = np.bincount(levels @ np.array([16, 4, 1]), minlength=64).astype(np.float64)
    grey = pixels.astype(np.float64).mean(axis=2)
    down, across = np.gradient(grey)
    direction = np.minimum((np.arctan2(down, across) % np.pi) / np.pi * 8, 7).astype(int)
    rows, columns = (np.minimum(np.arange(side) * 4 // side, 3) for side in grey.shape)
    field = (rows[:, None] * 4 + columns) * 8 + direction
    edges = np.bincount(field.ravel(), weights=np.hypot(down, across).ravel(), minlength=128)
    parts = [np.sqrt(part / max(part.sum(), 1e-9)) for part in (colours, edges)]
    return np.concatenate(parts).astype(np.float32)

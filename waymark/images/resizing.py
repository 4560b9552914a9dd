"""Decode many pictures in worker processes that a hostile file may crash."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from waymark.images.decode import Fit, Picture, decoding_bytes, read_picture
from waymark.system.workers import Lost, in_processes

logger = logging.getLogger(__name__)

CHUNK = 32  # pictures that a worker takes at once
CHUNK_BYTES = 16 * 2**20  # or fewer, if the results are large
TIMEOUT_S = 60.0  # for a picture, on a busy machine; then the decoder is killed

T = TypeVar("T")
R = TypeVar("R")


def read_pictures(
    paths: Sequence[Path], size_px: int, *, max_pixels: int, fit: Fit = "crop", workers: int | None = None
) -> Iterator[Picture]:
    """Decode files in worker processes, in order.

    A file that crashes or hangs its decoder gets the status `crashed`.

    Args:
        paths: files, in order.
        size_px: side of the squares.
        max_pixels: width times height beyond which a picture is not decoded.
        fit: how a picture becomes square, see `square_pixels`.
        workers: number of processes; by default one for each CPU, as far as the memory suffices.
    """
    read = partial(read_picture, size_px=size_px, max_pixels=max_pixels, fit=fit)
    chunk = max(1, min(CHUNK, CHUNK_BYTES // (size_px * size_px * 3)))
    found = look_at(paths, read, max_pixels=max_pixels, chunk=chunk, workers=workers)
    for path, picture in zip(paths, found, strict=True):
        if isinstance(picture, Lost):
            logger.warning("%s crashed its decoder: %s", path.name, picture.reason)
            yield Picture("crashed", crash(picture), None)
        else:
            yield picture


def crash(lost: Lost) -> str:
    """Describe why a picture has the status `crashed`."""
    return f"crashed its decoder: {lost.reason}"


def look_at(
    pictures: Sequence[T],
    look: Callable[[T], R],
    *,
    max_pixels: int,
    chunk: int | None = None,
    workers: int | None = None,
) -> Iterator[R | Lost]:
    """Describe pictures in worker processes, in order.

    Args:
        pictures: in order.
        look: describes one, with the same `max_pixels`.
        max_pixels: width times height of the largest picture, which limits the memory of a process.
        chunk: pictures that a process takes at once; 32 by default.
        workers: number of processes; by default one for each CPU, as far as the memory suffices.
    """
    return in_processes(
        look,
        pictures,
        chunk=chunk or CHUNK,
        timeout_s=TIMEOUT_S,
        workers=workers,
        memory_bytes=decoding_bytes(max_pixels),
    )


def perceptual_hash(pixels: NDArray[np.uint8]) -> str:
    """Compute a perceptual hash, which is similar for near-duplicates.

    The gradient hash (64 bits) compares integers only and is the same on every CPU, unlike hashes that use a cosine
    transform.

    Args:
        pixels: `(H, W, 3)` RGB.
    """
    return str(imagehash.dhash(Image.fromarray(pixels)))


def channel_figures(pixels: NDArray[np.uint8]) -> dict[str, list[int]]:
    """Compute sums of the channels of `(H, W, 3)` pixels in integers, which are exact."""
    flat = pixels.reshape(-1, 3).astype(np.int64)
    return {
        "channel_sum": flat.sum(axis=0).tolist(),
        "channel_sum_squares": (flat * flat).sum(axis=0).tolist(),
        "channel_min": flat.min(axis=0).tolist(),
        "channel_max": flat.max(axis=0).tolist(),
    }

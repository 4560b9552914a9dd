"""Decode many pictures in worker processes that a hostile one may crash."""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as Timeout
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from pebble import ProcessExpired, ProcessFuture, ProcessPool
from PIL import Image

from waymark.images.decode import Fit, Picture, read_picture
from waymark.processes import die_with_parent

logger = logging.getLogger(__name__)

CHUNK = 32  # pictures a worker takes at once
TIMEOUT_S = 20.0  # a picture; a decoder that hangs is ended


def available_workers() -> int:
    """Count the CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def read_pictures(
    paths: Sequence[Path], size_px: int, *, max_pixels: int, fit: Fit = "crop", workers: int | None = None
) -> Iterator[Picture]:
    """Decode files in processes of their own, in order.

    A file that crashes or hangs its decoder comes out with the status `crashed`; the
    others of its chunk are decoded again, each alone.

    Args:
        paths: files, in the order wanted.
        size_px: side of the squares.
        max_pixels: width times height beyond which a picture is not decoded.
        fit: how a picture becomes a square, see `square_pixels`.
        workers: number of processes; as many as there are CPUs by default.
    """
    workers = workers or available_workers()
    chunks = (paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK))
    with ProcessPool(max_workers=workers, context=get_context("spawn"), initializer=_begin_worker) as pool:

        def begin(chunk: Sequence[Path]) -> "ProcessFuture[list[Picture]]":
            arguments = (list(chunk), size_px, max_pixels, fit)
            return pool.schedule(_read_chunk, args=arguments, timeout=TIMEOUT_S * len(chunk))

        waiting = [(chunk, begin(chunk)) for chunk in islice(chunks, 2 * workers)]
        while waiting:
            chunk, future = waiting.pop(0)
            if (following := next(chunks, None)) is not None:
                waiting.append((following, begin(following)))
            try:
                yield from future.result()
            except (ProcessExpired, Timeout):
                alone = [(path, begin([path])) for path in chunk]
                yield from (_read_alone(path, single) for path, single in alone)


def _read_chunk(paths: list[Path], size_px: int, max_pixels: int, fit: Fit) -> list[Picture]:
    return [read_picture(path, size_px, max_pixels=max_pixels, fit=fit) for path in paths]


def _read_alone(path: Path, future: "ProcessFuture[list[Picture]]") -> Picture:
    try:
        (picture,) = future.result()
    except (ProcessExpired, Timeout) as error:
        logger.warning("%s ended its decoder: %s", path.name, error)
        return Picture("crashed", f"ended its decoder: {type(error).__name__}", None)
    return Picture(*picture)


def _begin_worker() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def perceptual_hash(pixels: NDArray[np.uint8]) -> str:
    """Hash what a picture shows, so that near-duplicates come near each other.

    The gradient hash (64 bits) compares integers only and is the same on every CPU, which
    the hashes that go through a cosine transform do not promise.

    Args:
        pixels: `(H, W, 3)` RGB.
    """
    return str(imagehash.dhash(Image.fromarray(pixels)))


def channel_figures(pixels: NDArray[np.uint8]) -> dict[str, list[int]]:
    """Sum up the channels of `(H, W, 3)` pixels in integers, which add up exactly."""
    flat = pixels.reshape(-1, 3).astype(np.int64)
    return {
        "channel_sum": flat.sum(axis=0).tolist(),
        "channel_sum_squares": (flat * flat).sum(axis=0).tolist(),
        "channel_min": flat.min(axis=0).tolist(),
        "channel_max": flat.max(axis=0).tolist(),
    }

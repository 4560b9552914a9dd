"""Pictures in a few uncompressed tars instead of many files: written deterministically, read by name."""

import errno
import stat
import tarfile
from functools import cache
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from waymark.errors import ImageError

SHARD_BYTES = 256_000_000
SUFFIX = ".tar"
NO_TAR = (tarfile.TarError, ValueError, OverflowError, KeyError, IndexError)  # what tarfile raises on broken headers


class _Members(NamedTuple):
    """Positions of the members of a tar, as arrays: dictionaries of millions would be large."""

    names: NDArray[np.bytes_]  # (N,) in ascending order
    offsets: NDArray[np.int64]  # (N,) first byte
    lengths: NDArray[np.int64]  # (N,) in bytes


def shard_name(shard: int) -> str:
    """Return the file name of a tar.

    >>> shard_name(7)
    'shard-00007.tar'
    """
    return f"shard-{shard:05d}{SUFFIX}"


def read_bytes(root: Path, path: str) -> bytes:
    """Read the bytes of a picture, see `open_member`."""
    with open_member(root, path) as file:
        return file.read()


def open_member(root: Path, path: str) -> IO[bytes]:
    """Open a picture that is a file, or a member of a tar: `images/shard-00000.tar/a.jpg`.

    The members of a tar are listed once in each process; an opened member is read into memory.

    Args:
        root: folder that paths are relative to.
        path: of the picture, below `root`.

    Raises:
        FileNotFoundError: there is no such file, tar or member.
        OSError: it is a folder, or a pipe or device, which might never end.
        ImageError: the tar is invalid.
    """
    file = root / path
    archive = file.parent
    if archive.suffix != SUFFIX or not archive.is_file():
        if not stat.S_ISREG(file.stat().st_mode):
            raise OSError(errno.EINVAL, "not a file but a folder, pipe or device", str(file))
        return file.open("rb")
    state = archive.stat()
    members = _members(archive, state.st_ino, state.st_mtime_ns, state.st_size)
    name = file.name.encode()
    row = int(np.searchsorted(members.names, name))
    if row == len(members.names) or members.names[row] != name:
        raise FileNotFoundError(2, "no such member of a tar", str(file))
    with archive.open("rb") as opened:
        opened.seek(members.offsets[row])
        return BytesIO(opened.read(members.lengths[row]))


@cache
def _members(archive: Path, inode: int, modified_ns: int, length: int) -> _Members:
    """List a tar; a file that replaces it has another inode, time or length, and is listed again."""
    try:
        with tarfile.open(archive, "r:") as opened:
            listed = [(member.name.encode(), member.offset_data, member.size) for member in opened if member.isreg()]
    except NO_TAR as error:
        raise ImageError(f"{archive} is not a tar ({error}); pack its pictures again") from error
    found = sorted(listed)
    names, offsets, lengths = zip(*found, strict=True) if found else ((), (), ())
    return _Members(np.array(names, dtype=np.bytes_), np.array(offsets, np.int64), np.array(lengths, np.int64))


class TarWriter:
    """Writes pictures into tars of bounded length, whose bytes depend only on the pictures and their order.

    Args:
        stem: path of the tars without `-00.tar`, `-01.tar` ...
        shard_bytes: largest length of a tar with several pictures.
    """

    def __init__(self, stem: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self.stem = stem
        self.shard_bytes = shard_bytes
        self.paths: list[Path] = []
        self._open: tarfile.TarFile | None = None

    def add(self, name: str, data: bytes) -> int:
        """Write one picture, and return the number of its tar."""
        room = self.shard_bytes - 2 * tarfile.RECORDSIZE  # header, padding and the end of the tar
        if self._open is None or (self._open.offset and self._open.offset + len(data) > room):
            self._begin()
        assert self._open is not None
        member = tarfile.TarInfo(name)  # time and owner are 0
        member.size = len(data)
        self._open.addfile(member, BytesIO(data))
        return len(self.paths) - 1

    def _begin(self) -> None:
        self.close()
        self.paths.append(self.stem.with_name(f"{self.stem.name}-{len(self.paths):02d}{SUFFIX}"))
        self._open = tarfile.open(self.paths[-1], "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 (close below)

    def close(self) -> None:
        """Close the open tar."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def __enter__(self) -> "TarWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

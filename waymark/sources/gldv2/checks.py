"""What a downloaded file must be before it is used."""

import asyncio
import hashlib
import re
from pathlib import Path

from waymark.sources.gldv2 import layout
from waymark.sources.gldv2.fetching import Check, Remote

MD5 = re.compile(r"\s*([0-9a-fA-F]{32})\b")


def md5_check(remote: Remote, path: str) -> Check:
    """Compare a file with its MD5; where they differ, either may be wrong, and the MD5 is fetched anew first."""

    async def check(archive: Path) -> str | None:
        found = await asyncio.to_thread(_md5, archive)
        text = await remote.file(path, _is_md5, self_checking=True)
        if found != _told(text):
            text.unlink()
            text = await remote.file(path, _is_md5, self_checking=True)
        return None if found == _told(text) else "its MD5 is not the one that the server tells"

    return check


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _told(text: Path) -> str | None:
    match = MD5.match(text.read_text(errors="replace"))
    return match[1].lower() if match else None


async def _is_md5(path: Path) -> str | None:
    return "it holds no MD5" if _told(path) is None else None


def columns_check(kind: str) -> Check:
    """Look for the columns of a table in its first line."""

    async def check(path: Path) -> str | None:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            names = [name.strip().strip('"') for name in file.readline(10_000).split(",")]
        missing = [name for name in layout.COLUMNS[kind] if name not in names]
        return f"it is no table with a column {missing[0]}" if missing else None

    return check


async def take_table(remote: Remote, kind: str) -> Path:
    """Return a table of `layout.COLUMNS`."""
    return await remote.file(kind, columns_check(kind), self_checking=False)

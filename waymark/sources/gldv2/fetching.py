"""Files of a server, each taken once: cut off they go on where they were, and an error page is never data."""

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
from tqdm import tqdm

from waymark.errors import SourceError

logger = logging.getLogger(__name__)

CHUNK_BYTES = 2**20
BACKOFF_S = 0.5  # before the second attempt, and twice as long before each further one
LONGEST_BACKOFF_S = 30.0
WRONG_TRIES = 3  # how often a file whose content is wrong is taken again
TEMPORARY = (408, 425, 429)  # besides 5xx
PAGES = ("text/html", "application/xhtml+xml", "application/xml", "text/xml")  # what servers write errors in
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

Check = Callable[[Path], Awaitable[str | None]]  # says what is wrong with the content of a file


class _UnusableError(Exception):
    """An answer that cannot be taken for the file; another attempt may bring a better one."""


class _AbsentError(Exception):
    """The server has no such file, or does not give it."""


@dataclass(frozen=True)
class _Part:
    """A file on its way.

    Attributes:
        path: its bytes so far; next to them stands what the server sent about the whole.
    """

    path: Path

    @property
    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.note")

    def whole(self) -> tuple[int | None, str]:
        """Return the length of the whole and the validator (a strong ETag or a date), as far as the server told."""
        if not self._note.exists():
            return None, ""
        total, _, validator = self._note.read_text().partition("\n")
        return int(total) if total else None, validator

    def begin(self, total: int | None = None, validator: str = "") -> None:
        """Forget the bytes so far, before the note can speak of others."""
        self.path.unlink(missing_ok=True)
        unfinished = self.path.with_name(f"{self.path.name}.note.new")
        unfinished.write_text(f"{'' if total is None else total}\n{validator}")
        unfinished.replace(self._note)

    def finish(self, destination: Path) -> None:
        """Rename the complete file."""
        self.path.replace(destination)
        self._note.unlink(missing_ok=True)


class Remote:
    """A base URL and the folder that mirrors it.

    Args:
        base_url: the address below which the files lie.
        mirror: folder for the files, under the same paths.
        timeout_s: longest silence of the server.
        retries: how many attempts in a row may bring nothing new.
    """

    def __init__(self, base_url: str, mirror: Path, *, timeout_s: float, retries: int) -> None:
        self.base_url = base_url.rstrip("/")
        self.mirror = mirror
        self.retries = retries
        self.timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        self.progress: tqdm[Any] | None = None

    async def __aenter__(self) -> "Remote":
        self.session = aiohttp.ClientSession(timeout=self.timeout, trust_env=True, auto_decompress=False)
        self.progress = tqdm(unit="B", unit_scale=True, desc="download", disable=None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()
        if self.progress is not None:
            self.progress.close()

    async def file(self, path: str, check: Check, *, self_checking: bool) -> Path:
        """Fetch a file, which is downloaded unless it is there, and checked in either case.

        Args:
            path: of the file below the base URL.
            check: says what is wrong with its content.
            self_checking: whether the check would notice bytes that are missing or of another version.

        Raises:
            SourceError: the server does not have it, or gives nothing right.
        """
        destination = self.mirror / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        wrong = ""
        for _ in range(WRONG_TRIES):
            if not destination.exists():
                await self._download(path, destination, self_checking)
            if (found := await check(destination)) is None:
                return destination
            wrong = found
            logger.warning("%s: %s; it is downloaded again", path, wrong)
            destination.unlink()
        raise SourceError(
            f"{self.base_url}/{path}: {wrong}, {WRONG_TRIES} times over; try again later, or ask who serves it"
        )

    async def optional(self, path: str, check: Check) -> Path | None:
        """Fetch a file that a server need not have; None where it has none."""
        try:
            return await self.file(path, check, self_checking=False)
        except SourceError as error:
            if isinstance(error.__cause__, _AbsentError):
                return None
            raise

    async def _download(self, path: str, destination: Path, self_checking: bool) -> None:
        part = _Part(destination.with_name(f"{destination.name}.part"))
        url = f"{self.base_url}/{path}"
        furthest, failures = part.length, 0
        while True:
            try:
                await self._attempt(url, part, self_checking)
                return part.finish(destination)
            except _AbsentError as error:
                raise SourceError(
                    f"{url}: {error}; check download.gldv2.base_url, and name the tars that are there in"
                    " download.gldv2.tars"
                ) from error
            except (aiohttp.ClientError, TimeoutError, ConnectionError, _UnusableError) as error:
                reason = str(error) or type(error).__name__
            failures = 1 if part.length > furthest else failures + 1
            furthest = max(furthest, part.length)
            if failures > self.retries:
                raise SourceError(f"{url}: {reason}, after {self.retries} retries; try again later: what came is kept")
            logger.info("%s: %s; attempt %d follows", path, reason, failures + 1)
            await asyncio.sleep(_backoff_s(failures))

    async def _attempt(self, url: str, part: _Part, self_checking: bool) -> None:
        """Take what is missing of a file; what came before an error stays."""
        if part.length and part.length == part.whole()[0]:  # ended after its last byte, before it got its name
            return
        async with self.session.get(url, headers=_headers(part, self_checking)) as response:
            begin, total = self._accept(response, part, self_checking)
            if begin == 0:
                part.begin(total, _validator(response))
            with part.path.open("ab") as file:
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    file.write(chunk)
                    if self.progress is not None:
                        self.progress.update(len(chunk))
        if total is not None and part.length != total:
            raise _UnusableError(f"gave {part.length} bytes of {total}")

    def _accept(self, response: aiohttp.ClientResponse, part: _Part, self_checking: bool) -> tuple[int, int | None]:
        """Read where the answer begins in the file and how long the file is, or refuse it."""
        status = response.status
        if status == 416:  # what is there is as long as the file or longer, and nobody knows whether it is right
            part.begin()
            raise _UnusableError("has no such range")
        if 400 <= status < 500 and status not in TEMPORARY:
            raise _AbsentError(f"the server answers {status} {response.reason}")
        if status not in (200, 206):
            raise _UnusableError(f"the server answers {status} {response.reason}")
        if response.content_type in PAGES:
            raise _UnusableError(f"the server answers with a page ({response.content_type}) in place of the file")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _UnusableError("the server answers in an encoding that was not asked for")
        if status == 206:
            return self._continued(response, part)
        if response.content_length is None and not self_checking and not _chunked(response):
            raise _UnusableError("the server does not say how long the file is")
        return 0, response.content_length

    def _continued(self, response: aiohttp.ClientResponse, part: _Part) -> tuple[int, int]:
        match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        begin, end, total = map(int, match.groups()) if match else (-1, -1, -1)
        length, validator = part.whole()
        changed = (validator and _validator(response) not in ("", validator)) or length not in (None, total)
        if not 0 < begin == part.length or end != total - 1 or changed:
            part.begin()
            raise _UnusableError("the server answers with another range or another version than was asked for")
        return begin, total


def _headers(part: _Part, self_checking: bool) -> dict[str, str]:
    """Ask for what is missing, where it is certain to belong to what is there."""
    headers = {"Accept-Encoding": "identity"}
    _, validator = part.whole()
    if part.length and (validator or self_checking):
        headers["Range"] = f"bytes={part.length}-"
        if validator:
            headers["If-Range"] = validator
    return headers


def _validator(response: aiohttp.ClientResponse) -> str:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _chunked(response: aiohttp.ClientResponse) -> bool:
    return "chunked" in response.headers.get("Transfer-Encoding", "").lower()


def _backoff_s(failures: int) -> float:
    """Wait twice as long each time, and not all at once."""
    return float(min(LONGEST_BACKOFF_S, BACKOFF_S * 2 ** (failures - 1)) * random.uniform(0.5, 1.0))

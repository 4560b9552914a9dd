"""Downloads from a server that misbehaves: whole and right files, nothing twice, or a clear error."""

import asyncio

import numpy as np
import pytest
from gldv2_server import Server

from waymark.errors import SourceError
from waymark.sources.gldv2 import fetching
from waymark.sources.gldv2.fetching import Remote

CONTENT = np.random.default_rng(1).bytes(3_000_000)
PATH = "train/images_000.tar"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(fetching, "BACKOFF_S", 0.001)


@pytest.fixture
def server():
    with Server({PATH: CONTENT}) as running:
        yield running


async def is_content(path):
    return None if path.read_bytes() == CONTENT else "it is wrong"


async def anything(path):
    return None


def take(server, mirror, *, check=is_content, self_checking=True, retries=3, timeout_s=5.0, path=PATH):
    async def one():
        async with Remote(server.url, mirror, timeout_s=timeout_s, retries=retries) as remote:
            return await remote.file(path, check, self_checking=self_checking)

    return asyncio.run(one())


def left_over(mirror):
    return sorted(path.name for path in mirror.rglob("*") if path.is_file())


def test_a_file_is_taken_once(server, tmp_path):
    assert take(server, tmp_path) == tmp_path / PATH
    assert take(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [(PATH, 200, 0)]
    assert left_over(tmp_path) == ["images_000.tar"]


def test_a_cut_connection_goes_on_where_it_was(server, tmp_path):
    server.faults[PATH] = [("cut", 1_000_000), 500, ("cut", 1_500_000)]
    assert take(server, tmp_path).read_bytes() == CONTENT
    assert [status for _, status, _ in server.requests] == [200, 500, 206, 206]
    begins = [begin for _, _, begin in server.requests]
    assert 0 < begins[2] <= 1_000_000 < begins[3] <= 2_500_000
    # what is sent twice is at most what lay in buffers when the connection broke
    assert server.sent[PATH] < len(CONTENT) + 2 * 500_000


@pytest.mark.parametrize("self_checking", [True, False])
def test_a_server_that_ignores_ranges_makes_it_start_over(server, tmp_path, self_checking):
    server.faults[PATH] = [("cut", 1_000_000), "no range"]
    assert take(server, tmp_path, check=anything, self_checking=self_checking).read_bytes() == CONTENT
    assert server.requests == [(PATH, 200, 0), (PATH, 200, 0)]


def test_a_range_that_was_not_asked_for_is_not_appended(server, tmp_path):
    server.faults[PATH] = [("cut", 1_000_000), "wrong range"]
    assert take(server, tmp_path, check=anything).read_bytes() == CONTENT
    assert [status for _, status, _ in server.requests] == [200, 206, 200]


def test_versions_are_never_mixed(server, tmp_path):
    server.faults[PATH] = [("cut", 1_000_000)]
    with pytest.raises(SourceError, match="after 0 retries"):
        take(server, tmp_path, check=anything, retries=0)
    assert "images_000.tar.part" in left_over(tmp_path)
    other = server.files[PATH] = np.random.default_rng(2).bytes(3_000_000)
    server.forget()
    assert take(server, tmp_path, check=anything).read_bytes() == other
    assert server.requests == [(PATH, 200, 0)]  # the server was told which version was begun


def test_a_server_that_mixes_versions_is_found_out(server, tmp_path):
    server.faults[PATH] = [("cut", 1_000_000)]
    with pytest.raises(SourceError):
        take(server, tmp_path, check=anything, retries=0)
    other = server.files[PATH] = np.random.default_rng(2).bytes(3_000_000)
    server.faults[PATH] = ["any version"]  # answers 206 with bytes of the new one
    server.forget()
    assert take(server, tmp_path, check=anything).read_bytes() == other
    assert [status for _, status, _ in server.requests] == [206, 200]


def test_without_a_validator_only_what_is_checked_goes_on(server, tmp_path):
    server.etags = False
    for self_checking, expected in ((True, [200, 206]), (False, [200, 200])):
        server.forget()
        server.faults[PATH] = [("cut", 1_000_000)]
        mirror = tmp_path / str(self_checking)
        assert take(server, mirror, check=anything, self_checking=self_checking).read_bytes() == CONTENT
        assert [status for _, status, _ in server.requests] == expected


def test_a_page_in_place_of_a_file_is_no_data(server, tmp_path):
    server.faults[PATH] = [("cut", 1_000_000), "page", 503]
    assert take(server, tmp_path).read_bytes() == CONTENT
    assert [status for _, status, _ in server.requests] == [200, 200, 503, 206]  # and costs nothing of what was there
    server.faults[PATH] = ["page", ...]
    with pytest.raises(SourceError, match=r"images_000\.tar: the server answers with a page \(text/html\).*3 retries"):
        take(server, tmp_path / "again")
    assert not (tmp_path / "again" / PATH).exists()


def test_wrong_content_is_taken_again_and_then_given_up(server, tmp_path, caplog):
    server.faults[PATH] = [("bytes", b"rubbish")]
    assert take(server, tmp_path).read_bytes() == CONTENT
    assert "it is wrong; it is downloaded again" in caplog.text
    server.forget()
    server.faults[PATH] = [("bytes", b"rubbish"), ...]
    with pytest.raises(SourceError, match=r"/bucket/train/images_000\.tar: it is wrong, 3 times over"):
        take(server, tmp_path / "again")
    assert server.count(PATH) == 3
    assert left_over(tmp_path / "again") == []


def test_a_file_that_went_bad_on_the_disk_is_taken_again(server, tmp_path):
    take(server, tmp_path).write_bytes(CONTENT[:-1])
    assert take(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404])
def test_what_is_absent_is_said_at_once(server, tmp_path, status):
    server.faults[PATH] = [status, ...]
    with pytest.raises(SourceError, match=rf"{PATH}: the server answers {status} .*download\.gldv2\.base_url"):
        take(server, tmp_path)
    assert server.count(PATH) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_what_is_temporary_is_tried_again(server, tmp_path, status):
    server.faults[PATH] = [status, status, status]
    assert take(server, tmp_path, retries=3).read_bytes() == CONTENT
    server.faults[PATH] = [status] * 4
    with pytest.raises(SourceError, match=rf"answers {status} .*after 3 retries"):
        take(server, tmp_path / "again", retries=3)


def test_retries_count_attempts_that_bring_nothing(server, tmp_path):
    server.faults[PATH] = [("cut", 700_000)] * 4  # each brings something
    assert take(server, tmp_path, retries=1).read_bytes() == CONTENT
    server.faults[PATH] = [("cut", 500_000), ("cut", 0), ...]
    with pytest.raises(SourceError, match="after 1 retries"):
        take(server, tmp_path / "again", retries=1)


def test_a_silent_server_is_given_up(server, tmp_path):
    server.faults[PATH] = ["hang"]
    assert take(server, tmp_path, timeout_s=0.3).read_bytes() == CONTENT


def test_nobody_listening_is_an_error_that_names_the_address(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(SourceError, match=r"127\.0\.0\.1.*after 1 retries"):
        take(server, tmp_path, retries=1)


def test_a_table_of_unknown_length_is_not_trusted(server, tmp_path):
    server.faults[PATH] = ["lengthless", ...]
    assert take(server, tmp_path, self_checking=True).read_bytes() == CONTENT
    with pytest.raises(SourceError, match="does not say how long"):
        take(server, tmp_path / "again", self_checking=False)


def test_the_last_byte_is_not_asked_for_again(server, tmp_path):
    """Killed after the last byte and before the file had its name."""
    server.faults[PATH] = [("cut", 1_000_000)]
    with pytest.raises(SourceError):
        take(server, tmp_path, retries=0)
    (tmp_path / f"{PATH}.part").write_bytes(CONTENT)
    server.forget()
    assert take(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == []


def test_more_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / f"{PATH}.part").write_bytes(CONTENT + b"more")
    assert take(server, tmp_path).read_bytes() == CONTENT
    assert [status for _, status, _ in server.requests] == [416, 200]


def test_waiting_doubles_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(fetching, "BACKOFF_S", 0.5)
    waits = [[fetching._backoff_s(failures) for _ in range(200)] for failures in (1, 2, 3, 20)]
    for its, longest in zip(waits, (0.5, 1.0, 2.0, 30.0), strict=True):
        assert longest / 2 <= min(its) < 0.6 * longest < 0.9 * longest < max(its) <= longest
    assert all(len(set(its)) > 100 for its in waits)  # not all at once

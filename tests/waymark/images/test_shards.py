import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from waymark.images.shards import INDEX_SCHEMA, SHARD_BYTES, Shards, shard_name, shard_rows, write_shard

SIZE_PX = 12


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 256, (7, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, pixels):
    """Seven views in two shards: r0 to r3 with view 0 and 1, but the last is quarantined."""
    write_shard(list(pixels[:5]), SIZE_PX, tmp_path / shard_name(0))
    write_shard(list(pixels[5:]), SIZE_PX, tmp_path / shard_name(1))
    rows = [
        {"record_id": f"r{number // 2}", "view": number % 2, "shard": number // 5, "row": number % 5, "status": "ok"}
        for number in range(7)
    ]
    rows.append({"record_id": "r3", "view": 1, "status": "truncated"})
    index = pa.Table.from_pylist(rows, INDEX_SCHEMA).replace_schema_metadata({"size_px": str(SIZE_PX)})
    pq.write_table(index, tmp_path / "index.parquet")
    return tmp_path


def test_pixels_come_back_as_they_were(folder, pixels):
    shards = Shards(folder)
    assert shards.size_px == SIZE_PX
    for number, picture in enumerate(pixels):
        np.testing.assert_array_equal(shards[f"r{number // 2}", number % 2], picture)
    assert shards.index.num_rows == 8


def test_a_quarantined_or_unknown_view_is_not_there(folder):
    shards = Shards(folder)
    assert ("r3", 0) in shards
    for key in (("r3", 1), ("r4", 0), ("r0", 2)):
        assert key not in shards
        with pytest.raises(KeyError):
            shards[key]


def test_pixels_are_mapped_not_copied(folder):
    """Two looks at a view share their memory, it lies in the mapping of the file, and nobody can write to it."""
    shards = Shards(folder)
    one = shards["r1", 0]
    assert np.shares_memory(one, shards["r1", 0])
    assert not one.flags.owndata
    assert not one.flags.writeable
    views = [shards[f"r{number // 2}", number % 2] for number in range(7)]
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        lines = maps.readlines()
    for view in views:
        (its,) = [line for line in lines if lies_in(line, view.__array_interface__["data"][0])]
        assert its.rstrip().endswith((shard_name(0), shard_name(1)))


def lies_in(line, address):
    start, stop = (int(end, 16) for end in line.split()[0].split("-"))
    return start <= address < stop


def test_shards_travel_to_workers_without_their_pixels(folder, pixels):
    shards = Shards(folder)
    untouched = len(pickle.dumps(shards))
    for key in (("r0", 0), ("r3", 0)):
        shards[key]
    sent = pickle.dumps(shards)
    assert len(sent) == untouched
    np.testing.assert_array_equal(pickle.loads(sent)["r3", 0], pixels[6])
    np.testing.assert_array_equal(shards["r3", 0], pixels[6])  # and this one goes on


def test_the_same_pictures_are_the_same_bytes_uncompressed(tmp_path, pixels):
    for name in ("one", "two"):
        write_shard(list(pixels), SIZE_PX, tmp_path / name)
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "two").read_bytes()
    assert pixels.tobytes() in data


def test_a_shard_is_as_large_as_it_is_said_to_be(tmp_path):
    assert shard_rows(64) * 64 * 64 * 3 <= SHARD_BYTES < (shard_rows(64) + 1) * 64 * 64 * 3
    assert shard_rows(10_000) == 1
    picture = np.zeros((256, 256, 3), dtype=np.uint8)
    write_shard([picture] * 3, 256, tmp_path / "shard")
    assert (tmp_path / "shard").stat().st_size == pytest.approx(3 * picture.size, abs=4096)


def test_pixels_fill_a_tensor(folder, pixels):
    views = np.zeros((1, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    views[0] = Shards(folder)["r2", 1]
    assert torch.from_numpy(views).sum() == pixels[5].sum(dtype=np.int64)

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import cdist

from tasks import block_split
from tasks.training.certainty import Calibrate
from waymark.errors import SplitError
from waymark.geo import project
from waymark.geo.cells import LEARNT
from waymark.images.shards import INDEX_SCHEMA

HTRS = "EPSG:3765"
NUMBER = 400


def settings(**changes):
    return block_split.BlockSplit(calibrate=Calibrate(), **{"block_m": 20_000.0, "buffer_m": 3_000.0, **changes})


@pytest.fixture
def table():
    rng = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "record_id": [f"r{row:03d}" for row in range(NUMBER)],
            "latitude": rng.uniform(45.0, 46.2, NUMBER),
            "longitude": rng.uniform(15.5, 17.5, NUMBER),
            "group": [None if row % 4 else f"pano-{row // 8}" for row in range(NUMBER)],
            "split": rng.choice(["train", "val", "test"], NUMBER),
        }
    )


@pytest.fixture
def index(table):
    return index_of(table, np.random.default_rng(5).integers(2**62, 2**63, NUMBER))


def index_of(table, hashes):
    """An index of pictures of the same colours with these hashes."""
    figures = {"view": 0, "status": "ok", "channel_sum": [100 * 64] * 3, "channel_sum_squares": [10_900 * 64] * 3}
    rows = [
        {"record_id": record_id, "perceptual_hash": f"{value:016x}", **figures}
        for record_id, value in zip(table["record_id"], hashes, strict=True)
    ]
    return pa.Table.from_pylist(rows, INDEX_SCHEMA).replace_schema_metadata({"size_px": "8"})


def metres(table):
    return project(table[["latitude", "longitude"]].to_numpy(), HTRS)


def test_blocks_go_whole_to_one_split_and_nobody_near_a_held_out_one_is_trained_on(table, index):
    table["group"] = None
    divided = block_split._by_blocks(table, HTRS, index, settings())
    xy_m = metres(divided)
    squares = [f"{column},{row}" for column, row in np.floor(xy_m / 20_000).astype(int)]
    assert divided.groupby(squares)["split"].nunique().max() == 1
    train, held_out = xy_m[divided["split"] == "train"], xy_m[divided["split"] != "train"]
    assert cdist(train, held_out).min() >= 3_000
    assert set(divided["split"]) == {"train", "val", "test"}
    assert len(block_split._by_blocks(table, HTRS, index, settings(buffer_m=0.0))) == NUMBER > len(divided)


def test_a_group_is_never_split_apart(table, index):
    divided = block_split._by_blocks(table, HTRS, index, settings(buffer_m=0.0))
    assert divided.groupby("group")["split"].nunique().max() == 1


def test_a_record_without_a_place_has_no_part(table, index):
    table.loc[3, ["latitude", "longitude"]] = np.nan
    assert "r003" not in set(block_split._by_blocks(table, HTRS, index, settings(buffer_m=0.0))["record_id"])


def test_of_copies_that_in_training_yields(table, index):
    table["group"] = None
    divided = block_split._by_blocks(table, HTRS, index, settings()).set_index("record_id")["split"]
    trained, tested = (divided.index[divided == split][0] for split in ("train", "test"))
    digits = index["perceptual_hash"].to_pylist()
    rows = table.set_index("record_id").index
    digits[rows.get_loc(trained)] = f"{int(digits[rows.get_loc(tested)], 16) ^ 1:016x}"
    copied = index_of(table, [int(its, 16) for its in digits])
    again = block_split._by_blocks(table, HTRS, copied, settings()).set_index("record_id")["split"]
    assert trained not in again.index
    assert again.equals(divided.drop(trained))


def test_blocks_too_large_to_fill_all_splits_say_so(table, index):
    with pytest.raises(SplitError, match=r"groups cannot fill|leave .* without records; make block_split"):
        block_split._by_blocks(table, HTRS, index, settings(block_m=1e6, buffer_m=0.0))


@pytest.mark.parametrize("learnt", [True, False])
def test_cells_that_follow_the_training_records_are_refused(tmp_path, learnt):
    places = pa.table({"record_id": ["a"], "cell": [0]}).replace_schema_metadata(LEARNT if learnt else {"other": "1"})
    pq.write_table(places, tmp_path / "places.parquet")
    if learnt:
        with pytest.raises(SplitError, match=r"follow the training records of the random split.*whose cells"):
            block_split._refuse_learnt_cells("cells", tmp_path)
    else:
        block_split._refuse_learnt_cells("cells", tmp_path)

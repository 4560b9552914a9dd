"""How far the data at hand have drifted from those that a champion was trained on. No stage: it asks the registry."""

import pandas as pd
import pyarrow.parquet as pq

from tasks.registry.runs import read_exposure
from tasks.registry.versions import champion_of, version_of
from tasks.training.tables import SHARDS, read_table
from waymark.data.drift import compare, markdown
from waymark.data.exposure import exposure_table


def drift(name: str) -> str | None:
    """Compare the training data in this folder with those of a champion.

    Args:
        name: of the registered model.

    Returns:
        Markdown; None where there is no champion, or one whose training kept no record of its data.
    """
    champion = champion_of(name)
    before = None if champion is None else read_exposure(version_of(name, champion))
    if before is None:
        return None
    now = exposure_table(read_table(), pq.read_table(SHARDS / "index.parquet")).to_pandas()
    return markdown(compare(_trained_on(before), _trained_on(now)))


def _trained_on(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == "train"].reset_index(drop=True)

"""How often the country, the region and the town of an answer are those of the truth."""

import pandas as pd

from waymark.geo.gazetteer import nearest_places, nearest_towns
from waymark.metrics.figures import Figures


def name_figures(predictions: pd.DataFrame) -> Figures:
    """Compare the names of predicted places with those of the true ones.

    Args:
        predictions: rows of predictions.parquet; `latitude`, `longitude`, `predicted_latitude` and
            `predicted_longitude` in degrees count, of rows that have all four.

    Returns:
        `country_accuracy`: of the records whose truth lies in a country or within about 25 km of its shore, the share
        predicted in the same one. `region_accuracy`: of the records with a town of their country within 25 km that has
        a region (the first-order division of GeoNames), the share whose prediction has the same region of the same
        country. `city_accuracy`: of all placed records, the share where the town of at least 15,000 people that is
        nearest to the prediction, however far, is the one nearest to the truth. None where no record counts.
    """
    columns = ["latitude", "longitude", "predicted_latitude", "predicted_longitude"]
    degrees = predictions[columns].dropna().to_numpy(dtype=float)
    pairs = list(zip(nearest_places(degrees[:, :2]), nearest_places(degrees[:, 2:]), strict=True))
    towns = nearest_towns(degrees[:, :2]) == nearest_towns(degrees[:, 2:])
    return {
        "country_accuracy": _share([truth.country == guess.country for truth, guess in pairs if truth.country]),
        "region_accuracy": _share([truth[1:3] == guess[1:3] for truth, guess in pairs if truth.region]),
        "city_accuracy": _share(towns.tolist()),
    }


def _share(right: list[bool]) -> float | None:
    return sum(right) / len(right) if right else None

"""Made-up models, grids and pictures for the tests of the report; run it to look at one."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from shapely import box, union_all
from shapely.geometry import Polygon

from waymark.data.leakage import Finding, Leakage
from waymark.metrics.figures import WITHIN_KM
from waymark.metrics.reliability import reliability
from waymark.metrics.risk import risk_coverage
from waymark.report.content import BlockSplit, Guess, Model, Picture, Report
from waymark.report.data import Data, Grid

LAND = Polygon([(13.5, 45.4), (15.2, 46.3), (19.2, 45.8), (19.0, 45.0), (16.2, 45.1), (16.6, 43.9), (18.5, 42.5),
                (16.9, 43.0), (15.2, 43.8), (14.0, 44.8)])  # fmt: skip


def region() -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(geometry=[LAND], crs="EPSG:4326")


def distance_km(latitude, longitude, other_latitude, other_longitude):
    lat, lon, lat2, lon2 = (np.radians(v) for v in (latitude, longitude, other_latitude, other_longitude))
    a = np.sin((lat2 - lat) / 2) ** 2 + np.cos(lat) * np.cos(lat2) * np.sin((lon2 - lon) / 2) ** 2
    return 2 * 6371.0088 * np.arcsin(np.sqrt(a))


def predictions(number: int, *, spread: float = 0.5, seed: int = 1, without_place: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    points = gpd.GeoSeries([LAND]).sample_points(number, rng=7).explode()
    latitude, longitude = points.y.to_numpy(), points.x.to_numpy()
    sure = rng.lognormal(0, 0.8, number) * spread
    predicted_latitude = latitude + rng.normal(0, 1, number) * sure * 0.6
    predicted_longitude = longitude + rng.normal(0, 1, number) * sure
    off = distance_km(latitude, longitude, predicted_latitude, predicted_longitude)
    frame = pd.DataFrame(
        {
            "record_id": [f"place-{index:05d}" for index in range(number)],
            "split": np.where(np.arange(number) % 2, "test", "val"),
            "latitude": latitude,
            "longitude": longitude,
            "predicted_latitude": predicted_latitude,
            "predicted_longitude": predicted_longitude,
            "distance_km": off,
            "cell": 0.0,
            "predicted_cell": 0.0,
            "oracle_km": 7.0,
            "constant_km": distance_km(latitude, longitude, 44.9, 16.0),
            "radius_50_km": sure * 75,
            "radius_90_km": sure * 170,
            "landmarks": [[] for _ in range(number)],
            "predicted_landmark": None,
            "score": np.nan,
            "rank": np.nan,
            "probability": rng.uniform(0.05, 0.9, number),
            "nearest_train_km": rng.lognormal(1, 1, number),
        }
    )
    truth = ["latitude", "longitude", "distance_km", "oracle_km", "constant_km", "nearest_train_km"]
    frame.loc[frame.index[:without_place], truth] = np.nan
    return frame


def metrics(frame: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    figures = {}
    for split in ("val", "test"):
        rows = frame[(frame["split"] == split) & frame["distance_km"].notna()]
        off = rows["distance_km"].to_numpy()
        figures[split] = {
            "records": len(rows),
            "mean_km": float(off.mean()),
            "median_km": float(np.median(off)),
            "p90_km": float(np.quantile(off, 0.9)),
            **{f"within_{limit}km": float((off <= limit).mean()) for limit in WITHIN_KM},
            "geoscore": float((5000 * np.exp(-off / 1492.7)).mean()),
            "cell_accuracy": 0.31,
            "constant_mean_km": float(rows["constant_km"].mean()),
            "oracle_mean_km": 7.25,
            "coverage_50": float((off <= rows["radius_50_km"]).mean()),
            "coverage_90": float((off <= rows["radius_90_km"]).mean()),
        }
    return figures


def curves(model: str, epochs: int = 12, final_km: float = 60.0, *, steps: bool = True) -> pd.DataFrame:
    epoch = np.arange(epochs)
    noise = np.random.default_rng(3).normal(0, 1, epochs)
    return pd.DataFrame(
        {
            "model": model,
            "epoch": epoch,
            "train_loss": 4.5 * np.exp(-epoch / 4) + 0.4,
            "val_loss": 3.9 * np.exp(-epoch / 3) + 0.9 + 0.03 * epoch,
            "val_mean_km": final_km + 90 * np.exp(-epoch / 2.5) + 2 * noise,
            "learning_rate": np.where(epoch < epochs // 2, 1e-3, 1e-4) if steps else 1e-3,
        }
    )


def cells(step: float = 0.25) -> gpd.GeoDataFrame:
    squares = [
        box(x, y, x + step, y + step) for x in np.arange(13.25, 19.5, step) for y in np.arange(42.25, 46.5, step)
    ]
    squares = [square for square in squares if square.intersects(LAND)]
    land = [square.intersection(LAND) for square in squares]
    clipped = [not square.centroid.within(LAND) for square in squares]
    centres = [part.representative_point() if moved else square.centroid
               for square, part, moved in zip(squares, land, clipped, strict=True)]  # fmt: skip
    return gpd.GeoDataFrame(
        {
            "cell": np.arange(len(squares)),
            "area_km2": [part.area * 8700 for part in land],
            "latitude": [centre.y for centre in centres],
            "longitude": [centre.x for centre in centres],
            "clipped": clipped,
        },
        geometry=squares,
        crs="EPSG:4326",
    )


def picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (96, 96), tuple(int(v) for v in rng.integers(150, 230, 3)))
    ImageDraw.Draw(image).polygon(
        [(0, 96), (0, 60), (40, int(rng.integers(20, 60))), (96, 66), (96, 96)], fill="#5c7a4a"
    )
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()


def guesses(frame: pd.DataFrame, *, worst: bool, number: int = 4) -> list[Guess]:
    rows = frame[frame["split"] == "test"].dropna(subset=["distance_km"])
    rows = rows.sort_values("distance_km", ascending=not worst).head(number)
    views = ((0, "north"), (90, "east"), (180, "south"), (270, "west"))
    return [
        Guess(
            row.record_id, row.distance_km, row.latitude, row.longitude, row.predicted_latitude,
            row.predicted_longitude, row.radius_90_km,
            [Picture(picture(heading + index), f"{heading}° {name}") for heading, name in views],
        )
        for index, row in enumerate(rows.itertuples())
    ]  # fmt: skip


def model(name: str, number: int = 520, *, spread: float = 0.5, seed: int = 1) -> Model:
    frame = predictions(number, spread=spread, seed=seed, without_place=4)
    test = frame[(frame["split"] == "test") & frame["distance_km"].notna()]
    figures = metrics(frame)
    return Model(
        name, figures, frame, curves(name), {"backbone": "resnet18", "target": "data/grid", "views": "concat"},
        guesses(frame, worst=False), guesses(frame, worst=True), intervals(figures), by_cell(), by_region(),
        reliability(test["probability"].to_numpy(), test["distance_km"].to_numpy() < 60),
        radii(), risk_coverage(test["distance_km"].to_numpy(), test["radius_90_km"].to_numpy()), nearness(),
        Picture(drawing(1), "filters of the first layer"),
        [Picture(drawing(2), "layer1"), Picture(drawing(3), "layer4")],
    )  # fmt: skip


def intervals(figures: dict[str, dict[str, float | None]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Nine to eleven tenths of every figure but the number of records."""
    return {
        split: {
            **{name: (0.9 * value, 1.1 * value) for name, value in its.items() if name != "records" and value},
            "times_constant": (0.4, 0.6),
        }
        for split, its in figures.items()
    }


def by_cell() -> gpd.GeoDataFrame:
    grid = cells()
    count = len(grid)
    rng = np.random.default_rng(6)
    mean = np.sort(rng.lognormal(4, 0.8, count))[::-1]
    errors = {"split": "test", "cell": grid["cell"], "records": rng.integers(1, 12, count), "mean_km": mean,
              "mean_low_km": mean * 0.8, "mean_high_km": mean * 1.3, "median_km": mean * 0.9}  # fmt: skip
    return gpd.GeoDataFrame(errors, geometry=grid.geometry, crs=grid.crs)


def by_region() -> pd.DataFrame:
    return pd.DataFrame(
        {"split": "test", "region": ["Istra", "Zagorje"], "records": [8, 4], "mean_km": [81.25, 44.5],
         "mean_low_km": [60.0, np.nan], "mean_high_km": [103.5, np.nan], "median_km": [70.0, 41.0]}
    )  # fmt: skip


def radii() -> pd.DataFrame:
    promised = np.array([0.1, 0.5, 0.9])
    return pd.DataFrame(
        {"promised": promised, "covered": [0.12, 0.47, 0.93], "low": [0.08, 0.41, 0.88], "high": [0.17, 0.53, 0.96],
         "records": 260}
    )  # fmt: skip


def nearness() -> pd.DataFrame:
    near = np.array([0.4, 1.5, 4.0, 12.0])
    return pd.DataFrame(
        {"nearest_low_km": near / 2, "nearest_km": near, "nearest_high_km": near * 2, "median_km": near * 10,
         "low_km": near * 8, "high_km": near * 13, "records": [65, 65, 64, 64]}
    )  # fmt: skip


def drawing(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pair(model: str, against: str, ratio: tuple[float, float, float], *, split: str = "test") -> dict:
    names = ("value", "low", "high")
    return {
        **{"model": model, "against": against, "split": split, "records": 260},
        "difference_km": dict(zip(names, (100 * (part - 1) for part in ratio), strict=True)),
        "ratio": dict(zip(names, ratio, strict=True)),
    }


def side(times: float, seed: int, number: int = 200) -> pd.DataFrame:
    errors = np.random.default_rng(seed).lognormal(3.5, 0.8, number) * times
    return pd.DataFrame({"split": "test", "distance_km": errors, "constant_km": 121.5})


def side_figures(times: float, rows: pd.DataFrame) -> dict:
    mean = float(rows["distance_km"].mean())
    quantiles = {f"q{share}_km": times * (index + 1) for index, share in enumerate(("05", "25", "50", "75", "95"))}
    return {
        **{"records": len(rows), "mean_km": mean, "median_km": float(rows["distance_km"].median())},
        **{"constant_mean_km": 121.5, "times_constant": mean / 121.5, "units": 17},
        **{"intervals": {"mean_km": [30.25, 60.5]}, "nearest_train_km": quantiles},
    }


def block_split(model: str) -> BlockSplit:
    random, blocks = side(1.0, 1), side(1.6, 2)
    found = {
        **{"block_m": 20_000.0, "buffer_m": 2_000.0, "records": {"test": 200}},
        **{"random": side_figures(1.0, random), "blocks": side_figures(1.6, blocks)},
        "ratio": {"value": 1.62, "low": 1.41, "high": 1.83},
        "meaning": "Apart from its training places it errs farther.",
    }
    return BlockSplit(model, found, random, blocks)


def leakage() -> Leakage:
    figures = {"records": 260, "nearest_train_km": {"q50_km": 2.5}, "within_10m": 0.0, "within_100m": 0.034,
               "within_1000m": 0.125, "same_place": 3, "in_shared_groups": 7, "shared_groups": 3, "near_duplicates": 2,
               "training_copies": 5}  # fmt: skip
    findings = [
        Finding("leak", "Groups are split apart.", "Use split.by: blocks."),
        Finding("ok", "No held-out record has the coordinates of training."),
    ]
    copies = [{"record_id": "place-00007", "split": "test", "train_record_id": "place-00009", "bits": 2}]
    return Leakage({"val": figures, "test": figures}, copies, findings)


def landmarks(number: int = 140) -> pd.DataFrame:
    names = [f"landmark-{rank:03d}" for rank in range(number)]
    images = (400 / np.arange(1, number + 1) ** 0.9).astype(int) + 1
    return pd.DataFrame(
        {"landmark": names, "name": [name.replace("-", " ").title() for name in names], "images": images}
    )


def places(number: int = 2600) -> pd.DataFrame:
    points = gpd.GeoSeries([LAND]).sample_points(number, rng=5).explode()
    split = np.array(["train"] * 8 + ["val", "test"])[np.arange(number) % 10]
    return pd.DataFrame({"latitude": points.y.to_numpy(), "longitude": points.x.to_numpy(), "split": split})


def report(models: list[Model] | None = None) -> Report:
    grid = cells()
    counts = {cell: int(count) for cell, count in enumerate(np.random.default_rng(2).poisson(9, len(grid)))}
    counts |= dict.fromkeys(range(0, len(grid), 7), 0)
    return Report(
        source={
            "title": "Waymark · Croatia", "name": "synthetic", "licence": "CC0-1.0", "made_up": True,
            "description": "A seeded generator of places inside the real outline of Croatia.",
            "counts": {"records": 2740, "pictures": 9800},
        },
        data=Data(
            {"raw": 2740, "kept": 2600},
            {"fewer than 5 images": 88, "outside the region": 31, "exact duplicate": 21},
            {"truncated": 2, "too large": 1},
            {"train": 2080, "val": 260, "test": 260, "unused": 0},
            {"picture side": "64 px", "shards": "3 files, 118 MB"},
            landmarks(),
            places(),
        ),
        region=region(),
        grids=[Grid("data/grid", grid, counts, "25 km", "EPSG:3765", {"val": 7.25, "test": 7.25})],
        models=[model("cells", spread=0.4), model("coordinates", spread=0.6, seed=2)] if models is None else models,
        pairs=[
            pair("coordinates", "cells", (1.59, 1.44, 1.73)),
            pair("coordinates", "cells", (1.2, 1.1, 1.3), split="val"),
        ],
        block_splits=[block_split("cells")],
        leakage=leakage(),
    )  # fmt: skip


def world(number: int = 30_000) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    frame = predictions(number)
    frame["latitude"], frame["longitude"] = rng.uniform(-55, 70, number), rng.uniform(-180, 180, number)
    frame["predicted_latitude"], frame["predicted_longitude"] = (
        rng.uniform(-55, 70, number),
        rng.uniform(-180, 180, number),
    )
    frame["distance_km"] = distance_km(*(frame[name] for name in
        ("latitude", "longitude", "predicted_latitude", "predicted_longitude")))  # fmt: skip
    return frame


def world_region() -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(geometry=[union_all([box(-180, -56, 180, 72)]).convex_hull], crs="EPSG:4326")


if __name__ == "__main__":
    from waymark.report.page import report_page

    Path(sys.argv[1]).write_text(report_page(report()), encoding="utf-8")

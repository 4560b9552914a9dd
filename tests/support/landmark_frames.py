"""Made-up models that name landmarks, for the tests of the report; run it to look at a page of them."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import report_frames as made
from PIL import Image

from waymark.report.content import Confusion, Ensemble, LandmarkGuess, Model, Picture, Recognition, Report
from waymark.report.data import Data
from waymark.report.heat import draw_attention

NAMES = ("Rialto Bridge", "Arena of Pula", "Cathedral of Saint Domnius", "Stari Most", "Old Town Hall")


def figures(gap: float) -> dict[str, dict[str, float]]:
    return {
        split: {"queries": 180 + rank, "gap": gap + rank / 50, "gap_unrejected": gap - 0.021, "top1": gap + 0.04,
                "top5": 0.9625, "answered": 0.7431, "precision": 0.9513}
        for rank, split in enumerate(("test", "val"))
    }  # fmt: skip


def intervals(gap: float) -> dict[str, dict[str, tuple[float, float]]]:
    ends = {"gap": (gap - 0.031, gap + 0.029), "top1": (0.801, 0.897)}
    return {"test": ends, "val": ends}


def curves(model: str, epochs: int = 12) -> pd.DataFrame:
    gap = 0.8 * (1 - np.exp(-np.arange(epochs) / 3)) + np.random.default_rng(2).normal(0, 0.02, epochs)
    return made.curves(model, epochs).drop(columns="val_mean_km").assign(val_gap=gap, val_top1=gap + 0.05)


def curve(number: int = 260) -> pd.DataFrame:
    score = np.sort(np.random.default_rng(3).normal(0.6, 0.2, number))[::-1]
    right = np.random.default_rng(4).random(number) < np.linspace(1.1, 0.3, number)
    answered = np.arange(1, number + 1)
    return pd.DataFrame(
        {"threshold": score, "answered": answered / number, "precision": np.cumsum(right) / answered,
         "recall": np.cumsum(right) / 200, "confidence": 1 / (1 + np.exp(-8 * (score - 0.5)))}
    )  # fmt: skip


def parts() -> pd.DataFrame:
    return pd.DataFrame(
        {"part": ["head", "middle", "tail"], "landmarks": [4, 9, 22], "training_images": [800, 400, 71],
         "queries": [100, 60, 20], "top1": [0.93, 0.85, 0.4], "top5": [0.99, 0.97, 0.7], "gap": [0.9, 0.8, 0.35]}
    )  # fmt: skip


def attention(seed: int) -> bytes:
    pixels = np.asarray(Image.open(io.BytesIO(made.picture(seed))).resize((192, 192)))
    y, x = np.mgrid[0:7, 0:7]
    heat = np.exp(-((y - seed % 7) ** 2 + (x - 3) ** 2) / 4)
    file = io.BytesIO()
    Image.fromarray(draw_attention(pixels, heat)).save(file, "JPEG", quality=85)
    return file.getvalue()


def guesses(*, right: bool) -> list[LandmarkGuess]:
    return [
        LandmarkGuess(
            f"query-{rank:03d}", [] if rank == 2 else [name], name if right else NAMES[rank - 1], 0.9 - rank / 10,
            right, [Picture(made.picture(rank))], 0.9 - rank / 10,
        )
        for rank, name in enumerate(NAMES)
        if not (right and rank == 2)
    ]  # fmt: skip


def confusion(true: int, answered: int, count: int) -> Confusion:
    pictures = [Picture(made.picture(true + 5)), Picture(made.picture(answered + 5), "training")]
    return Confusion(f"{true}", NAMES[true], f"{answered}", NAMES[answered], count, pictures)


def recognition(*, attends: bool = False) -> Recognition:
    return Recognition(
        relevant="all",
        facts={"weight of retrieval": "0.4", "threshold": "0.512", "wanted precision": "95.0 %"},
        parts=parts(),
        confusions=[confusion(0, 3, 12), confusion(3, 1, 3)],
        best=guesses(right=True),
        worst=guesses(right=False),
        curve=curve(),
        threshold=0.512,
        attention=[Picture(attention(seed), f"query-{seed}: {NAMES[seed]}") for seed in range(4)] if attends else (),
    )  # fmt: skip


def size(millions: float) -> dict[str, float | None]:
    return {"parameters_millions": millions, "checkpoint_mb": 4.1 * millions, "gmacs": 1.82}


def nowhere(frame: pd.DataFrame) -> pd.DataFrame:
    truth = [name for name in frame if name.endswith(("_km", "latitude", "longitude"))]
    return frame.assign(**dict.fromkeys(truth))


def model(name: str, gap: float = 0.81, *, attends: bool = False) -> Model:
    return Model(
        name, figures(gap), nowhere(made.predictions(260)), curves(name), {"head": "arcface", "backbone": "resnet18"},
        intervals=intervals(gap), size=size(11.4 if attends else 11.2), recognition=recognition(attends=attends),
    )  # fmt: skip


def joint(name: str, gap: float = 0.78) -> Model:
    both = made.model(name)
    named = model(name, gap)
    return replace(
        both,
        metrics={split: {**its, **named.metrics[split]} for split, its in both.metrics.items()},
        intervals={split: {**its, **named.intervals[split]} for split, its in both.intervals.items()},
        curves=both.curves.assign(**named.curves[["val_gap", "val_top1"]]),
        size=named.size, recognition=named.recognition,
    )  # fmt: skip


def ensemble(name: str = "both", gap: float = 0.86) -> Ensemble:
    return Ensemble(name, ["arcface", "attention"], figures(gap), intervals=intervals(gap))


def splits(number: int = 140) -> pd.DataFrame:
    landmarks = made.landmarks(number)
    val = landmarks["images"] // 10
    train = np.where(np.arange(number) % 20 == 19, 0, landmarks["images"] - 2 * val)
    return landmarks[["landmark", "name"]].assign(train=train, val=val, test=val + 1)


def data() -> Data:
    return Data(
        {"fetched": 5200, "kept": 4810},
        {"fewer than 5 images": 300, "exact duplicate": 90},
        splits={"train": 3800, "val": 500, "test": 510},
        landmarks=made.landmarks(),
        share_over_10=0.6429,
        share_over_100=0.0357,
        orientations={"landscape": 3100, "portrait": 1400, "square": 310, "unknown": 0},
        sizes=[{"width": 640, "height": 480, "records": 2800}, {"width": 480, "height": 640, "records": 1300}],
        megapixels={"q10": 0.2, "q50": 0.31, "q90": 1.92},
        landmark_splits=splits(),
    )  # fmt: skip


def report(models: list[Model] | None = None) -> Report:
    return Report(
        {
            **{"title": "Landmarks", "name": "table", "description": "Frames of five landmarks."},
            **{"licence": "CC0-1.0", "counts": {"records": 5200}},
        },
        data(),
        models=[model("arcface"), model("attention", 0.79, attends=True)] if models is None else models,
        ensembles=[ensemble()],
    )


def joint_report() -> Report:
    both = made.report([made.model("cells", spread=0.4), joint("joint"), model("attention", 0.79, attends=True)])
    return replace(both, ensembles=[ensemble()], data=replace(data(), places=made.places()))


if __name__ == "__main__":
    from waymark.report.page import report_page

    Path(sys.argv[1]).write_text(report_page(report()), encoding="utf-8")
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(report_page(joint_report()), encoding="utf-8")

"""Speed and memory, as ratios measured in one run on the present data (after `make run`).

python -m scripts.bench
"""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tasks.common.stage import load_params
from tasks.train import STAGE
from tasks.training.setup import prepare
from tasks.training.tables import open_shards, read_statistics, read_table
from waymark.images.decode import MAX_PIXELS, read_picture
from waymark.images.resizing import read_pictures
from waymark.system.workers import available_workers

PICTURES = 2000
ROUNDS = 3


def fastest_s(work: Callable[[], object]) -> float:
    """Return the shortest time of a few rounds, which is the least disturbed."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def cpu_s(folder: str, *command: str) -> float:
    """Measure the CPU seconds of a command of this checkout and of its workers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=False, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def check_and_resize() -> tuple[float, float]:
    """Measure the CPU seconds of `waymark check` and of the stage resize for the pictures of data/raw."""
    with TemporaryDirectory() as folder:
        shutil.copy("params.yaml", folder)
        (Path(folder) / "data").mkdir()
        for name in ("raw", "filtered"):
            (Path(folder) / "data" / name).symlink_to(Path("data", name).resolve())
        return cpu_s(folder, "waymark", "check", "data/raw"), cpu_s(folder, "tasks.resize")


def orchestration() -> dict[str, float]:
    """Measure the CPU seconds of commands that have nothing to do, each against what it cannot do without."""
    torch_s = cpu_s(".", "torch.version")  # imports all of torch
    return {
        "waymark --help / import torch": cpu_s(".", "waymark", "--help") / torch_s,
        "waymark guess --help / import torch": cpu_s(".", "waymark", "guess", "--help") / torch_s,
        "up-to-date pipeline / dvc status": cpu_s(".", "flows.pipeline") / cpu_s(".", "dvc", "status"),
    }


def main() -> None:
    """Print the ratios."""
    shards, table = open_shards(), read_table()
    paths = [Path("data/raw") / view["path"] for views in table["views"] for view in views][:PICTURES]
    size_px = shards.size_px
    alone = fastest_s(lambda: [read_picture(path, size_px, max_pixels=MAX_PIXELS) for path in paths])
    pool = fastest_s(lambda: list(read_pictures(paths, size_px, max_pixels=MAX_PIXELS)))
    keys = [
        (record_id, view)
        for record_id, views in zip(table["record_id"], table["views"], strict=True)
        for view in range(len(views))
    ]
    mapped = fastest_s(lambda: [shards[key].copy() for key in keys[:PICTURES] if key in shards])
    print(f"decode in {available_workers()} processes / in one: {pool / alone:.2f} of the time")
    print(f"read from shards / decode: {mapped / alone:.4f} of the time")

    check, resize = check_and_resize()
    print(f"check a source / resize it: {check / resize:.2f} of the CPU seconds ({check:.0f} / {resize:.0f})")

    model = next(iter(load_params()["models"]))
    setup = prepare(model, STAGE.read(load_params(), model), table, read_statistics())
    loader = setup.loaders.training(setup.train)
    load = fastest_s(lambda: sum(len(batch.label) for batch in loader))
    batch = next(iter(loader))

    def step() -> None:
        setup.locator.train()
        setup.locator.place_head.loss(setup.locator(batch.views, batch.present).place, batch).backward()

    steps = fastest_s(step) * len(loader)
    print(
        f"load and augment / forward and backward on {torch.get_num_threads()} threads: {load / steps:.3f} of the time"
    )
    for name, ratio in orchestration().items():
        print(f"{name}: {ratio:.2f} of the CPU seconds")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()

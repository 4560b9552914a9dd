"""Divide the region into the cells of a further grid, which a model names as its target."""

from pathlib import Path

from tasks.common.stage import Stage
from tasks.grid import Grid, check_grid, grid_places

GRIDS = Path("data/grids")

STAGE = Stage("grids", Grid, section="grids.{entry}", shared=("region",), each="grids", check=check_grid)


def grids(name: str, settings: Grid) -> None:
    """Divide the region into the cells of a further grid, which a model names as its target."""
    grid_places(settings, GRIDS / name)


if __name__ == "__main__":
    STAGE.main(grids)

"""Which files of the project a module imports, directly or through others."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = ("flows", "tasks", "waymark")


def module_file(name: str) -> Path | None:
    """Find the file of a module of the project."""
    if name.split(".")[0] not in FLOORS:
        return None
    stem = ROOT.joinpath(*name.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.exists():
            return path
    return None


def imported_names(path: Path) -> set[str]:
    """List the modules that a file names in its imports, with the packages around them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(name.split(".")[: depth + 1]) for name in names for depth in range(name.count(".") + 1)}


def closure(module: str) -> set[Path]:
    """Follow the imports of a module to all files of the project that it runs."""
    start = module_file(module)
    assert start is not None, module
    found, queue = set(), [start, *filter(None, map(module_file, parents(module)))]
    while queue:
        path = queue.pop()
        if path not in found:
            found.add(path)
            queue.extend(filter(None, map(module_file, imported_names(path))))
    return {path.relative_to(ROOT) for path in found if says_something(path)}


def says_something(path: Path) -> bool:
    """Tell a module from the empty front of a package, which holds a docstring at most."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


def parents(module: str) -> list[str]:
    """List the packages around a module."""
    parts = module.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def shortest(files: set[Path]) -> list[str]:
    """Name files by folders where a whole folder is meant."""
    for folder in sorted({parent for file in files for parent in file.parents} - {Path()}, key=str, reverse=True):
        inside = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py")}
        if len(folder.parts) > 1 and inside and inside <= files:
            files = {file for file in files if folder not in file.parents} | {folder}
    return sorted(map(str, files))

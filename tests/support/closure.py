"""Which files of the project a module imports, directly or through others."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
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
    for node in executed(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(name.split(".")[: depth + 1]) for name in names for depth in range(name.count(".") + 1)}


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk the nodes that run: not those for the type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from executed(node)


def closure(module: str, stop: Callable[[Path], bool] = lambda path: False) -> set[Path]:
    """Follow the imports of a module to all files of the project that it runs.

    Args:
        module: where to begin.
        stop: whether a file, by its path from the root, and what it imports are left out.
    """
    start = module_file(module)
    assert start is not None, module
    found, queue = set(), [start, *filter(None, map(module_file, parents(module)))]
    while queue:
        path = queue.pop()
        if path not in found and not stop(path.relative_to(ROOT)):
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

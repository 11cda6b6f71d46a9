"""Gives modules the names that they import for type checkers only.

Without these names autodoc cannot tell what the annotations of such a module mean; it then prints
all of a signature as it is written, and links to nothing.
"""

import ast
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType


def import_names(package: str, *, leave_out: tuple[str, ...] = ()) -> None:
    """Do what stands below ``if TYPE_CHECKING:`` in every module of a package.

    :param leave_out: parts of module names whose modules are not imported.
    """
    root = import_module(package)
    found = pkgutil.walk_packages(root.__path__, f"{package}.")
    names = [each.name for each in found if not set(leave_out) & set(each.name.split("."))]
    for module in map(import_module, names):
        for node in _imports(module):
            source = import_module(node.module or package)
            for each in node.names:
                setattr(module, each.asname or each.name, getattr(source, each.name))


def _imports(module: ModuleType) -> Iterator[ast.ImportFrom]:
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from (each for each in node.body if isinstance(each, ast.ImportFrom))

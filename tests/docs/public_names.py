"""Finds the public names of the package, with their definitions and docstrings.

A name is public if no part of it begins with an underscore, and it belongs to a module that
``docs/reference/api.rst`` presents above its heading "Further modules": it stands in the module's
``__all__``, or the page chooses it by ``:members:``, or, where there is neither, it is defined
there. Public classes bring their methods, properties and attributes with them, save those that do
only what a base class has said of them already. Test methods of contracts are no API.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from tests.servers import ROOT

PAGE = ROOT / "docs" / "reference" / "api.rst"
INTERNAL = "Further modules"  # the heading from which on nothing is public

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True, kw_only=True)
class Name:
    """A public name: where it is, its definition in the source, and what is said of it.

    ``owner`` is the class that it belongs to, which may also be where it is described.
    """

    module: str
    path: str
    node: Definition
    doc: str
    owner: ast.ClassDef | None = None
    is_described_by_owner: bool = False

    @property
    def full(self) -> str:
        return f"{self.module}.{self.path}"

    def places(self, modules: Iterable[str]) -> list[str]:
        """The full names by which the reference may show it, or the class that describes it.

        ``modules`` are those in which it may be shown, if they import it.
        """
        outermost = self.path.partition(".")[0]
        itself = getattr(import_module(self.module), outermost)
        place = self.path.rpartition(".")[0] if self.is_described_by_owner else self.path
        return [
            f"{module}.{place}"
            for module in (self.module, *modules)
            if getattr(import_module(module), outermost, None) is itself
        ]


def public_modules() -> dict[str, list[str]]:
    """The public modules, each with the names that the page chooses (none: all of them)."""
    public = PAGE.read_text(encoding="utf-8").partition(f"\n{INTERNAL}\n")[0]
    found: dict[str, list[str]] = {}
    for module, options in re.findall(
        r"^\.\. automodule:: (\S+)\n((?:   :.*\n)*)", public, re.MULTILINE
    ):
        chosen = re.search(r":members:(.*)", options)
        found[module] = chosen[1].replace(",", " ").split() if chosen else []
    return found


def names_of(module: str, presented: Collection[str] = ()) -> Iterator[Name]:
    """The public names of a module, those of its classes included.

    ``presented`` is what the page chooses of a module that has no ``__all__``; none means all.
    """
    imported = import_module(module)
    defined = definitions(tree(module).body)
    chosen = getattr(imported, "__all__", None) or presented
    for name in chosen:
        made_in = getattr(getattr(imported, name), "__module__", module)
        if name not in defined and made_in.startswith("triggers"):
            yield from names_of(made_in, [name])
    for name, (node, doc) in defined.items():
        if is_public(name) and (not chosen or name in chosen):
            yield Name(module=module, path=name, node=node, doc=doc)
            if isinstance(node, ast.ClassDef):
                yield from _members(module, node)


def _members(module: str, owner: ast.ClassDef) -> Iterator[Name]:
    cls = getattr(import_module(module), owner.name)
    for name, (node, doc) in definitions(owner.body).items():
        if not is_public(name) or name.startswith("test_"):
            continue
        described = doc or field_of(ast.get_docstring(owner) or "", "ivar", name)
        if described or not _is_described_by_a_base(cls, name):
            yield Name(
                module=module,
                path=f"{owner.name}.{name}",
                node=node,
                doc=described,
                owner=owner,
                is_described_by_owner=not doc,
            )


def _is_described_by_a_base(cls: type, name: str) -> bool:
    for base in cls.__mro__[1:]:
        if base.__module__.startswith("triggers."):
            owner = definitions(tree(base.__module__).body)[base.__name__][0]
            assert isinstance(owner, ast.ClassDef)
            doc = definitions(owner.body).get(name, (None, ""))[1]
            if doc or field_of(ast.get_docstring(owner) or "", "ivar", name):
                return True
        elif getattr(vars(base).get(name), "__doc__", None):
            return True
    return False


@cache
def tree(module: str) -> ast.Module:
    """The source of a module, parsed."""
    return ast.parse(inspect.getsource(import_module(module)))


def definitions(body: list[ast.stmt]) -> dict[str, tuple[Definition, str]]:
    """What the body of a module or class defines, by name, with the docstring.

    Type variables are left out: signatures show them, and there is nothing to say of them.
    """
    found: dict[str, tuple[Definition, str]] = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if "overload" not in decorators_of(node):
                found[node.name] = node, ast.get_docstring(node) or ""
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if node.value is None or "TypeVar(" not in ast.unparse(node.value):
                names = [each.id for each in targets if isinstance(each, ast.Name)]
                found |= dict.fromkeys(names, (node, _string(following)))
    return found


def decorators_of(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> set[str]:
    return {ast.unparse(each) for each in node.decorator_list}


def _string(node: ast.stmt | None) -> str:
    """The string that a statement consists of: the docstring of the assignment above it."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        value = node.value.value
        return inspect.cleandoc(value) if isinstance(value, str) else ""
    return ""


def is_public(name: str) -> bool:
    return not name.startswith("_")


def field_of(doc: str, kind: str, name: str) -> str:
    """The text of a field such as ``:param name:``; empty if there is none."""
    pattern = rf"^:{kind} {re.escape(name)}:(.*?)(?=^:\w|^\S|\Z)"
    found = re.search(pattern, doc, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def text_of(doc: str) -> str:
    """A docstring without its fields."""
    return re.split(r"^:\w+", doc, maxsplit=1, flags=re.MULTILINE)[0]

"""What the docstring of a public name has to say, beside what the annotations do.

* What each parameter is: ``:param name:``, or ````name```` in the text. ``plan: Plan`` explains
  itself, if the class is ours.
* The unit of each number: seconds, bytes, characters, how many of what.
* What a ``None`` stands for, as the default of a parameter or as the value of an attribute.
* What is returned: ``:returns:``, unless the first words name it (``The instance …``).
* Each exception that is raised here, or in a private function of the module that is called here,
  and not caught.
* Of an exception, each attribute that it carries. Nobody else makes them, so the parameters of
  their constructors are no matter.

Or it sends the reader on, to where all of that is said: ``See :meth:`…`.``
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Collection, Iterator
from importlib import import_module
from typing import Any

from tests.docs.public_names import (
    Name,
    decorators_of,
    definitions,
    field_of,
    is_public,
    text_of,
    tree,
)
from triggers import exceptions

Function = ast.FunctionDef | ast.AsyncFunctionDef

_REFERENCE = re.compile(r"See :(?:meth|func):`~?[\w.]+`\.")  # Sphinx knows if it leads nowhere
_NUMBER = re.compile(r"(?:^|\| )(int|float|timedelta|Duration)(?: \||$)")
_UNIT = re.compile(
    r"seconds?|minutes|hours|days|bytes|characters|how (many|often|far)|number|at most|times|"
    r"position|levels?|``timedelta``|attempts|instances|firings|sessions|hooks|configurations|"
    r"threads|durations?",
    re.IGNORECASE,
)
_NONE = re.compile(
    r"``None``|default|without|if (it|they|there|one|any|given|nobody|nothing)|unless|else"
)
_NAMES_RESULT = re.compile(
    r"(A|All|An|Another|Arguments|Bytes|Directives|Each|Every|Everything|Exactly|Firings|How|"
    r"Instances|Keyword|Kwargs|Names?|One|Plain|Static|Tasks|The|Those|Triggers|Uids|What|When|"
    r"Where|Whether|Which|Who)\b"
)
_CALLED = {"SessionStorage": {"storage"}, "TaskInstance": {"instance", "task_instance"}}


def complaints(name: Name) -> Iterator[str]:
    """What the docstring of a public name leaves unsaid."""
    node = name.node
    if not name.doc:
        yield "has no docstring"
    elif _REFERENCE.fullmatch(name.doc):
        return
    elif isinstance(node, ast.ClassDef):
        yield from _of_class(name, node)
    elif isinstance(node, Function):
        yield from _of_function(name, node)
    else:
        yield from _of_attribute(name, node)


def _of_class(name: Name, node: ast.ClassDef) -> Iterator[str]:
    found = getattr(import_module(name.module), name.path)
    if issubclass(found, BaseException):
        for attribute in _attributes_set_in(node):
            if is_public(attribute) and not field_of(name.doc, "ivar", attribute):
                yield f"does not explain its attribute {attribute!r}"
        return
    start = definitions(node.body).get("__init__", (None, ""))[0]
    if isinstance(start, Function):
        yield from _of_parameters(start, name.doc, is_method=True)
        yield from _of_raised(start, name)


def _attributes_set_in(node: ast.ClassDef) -> Iterator[str]:
    for each in ast.walk(node):
        for target in each.targets if isinstance(each, ast.Assign) else ():
            is_own = isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self"
            if is_own and target.attr != "args":  # which every exception has
                yield target.attr


def _of_function(name: Name, node: Function) -> Iterator[str]:
    is_method = name.owner is not None and "staticmethod" not in decorators_of(node)
    yield from _of_parameters(node, name.doc, is_method=is_method)
    yield from _of_raised(node, name)
    returned = ast.unparse(node.returns) if node.returns else "None"
    if decorators_of(node) & {"property", "cached_property"}:
        if _NUMBER.search(returned) and not _UNIT.search(name.doc):
            yield "does not say its unit"
    elif returned not in ("None", "Never", "NoReturn", "Self") and not _says_result(name.doc):
        yield "does not say what it returns"


def _says_result(doc: str) -> bool:
    said = re.search(r":returns:|\b[Rr]eturns?\b|``None`` if|[Yy]ield", doc)
    return bool(said or _NAMES_RESULT.match(doc))


def _of_attribute(name: Name, node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    value = node.value.value if isinstance(node.value, ast.Constant) else ...
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (is_number or _NUMBER.search(annotation)) and not _UNIT.search(name.doc):
        yield "does not say its unit"
    of_class = text_of(ast.get_docstring(name.owner) or "") if name.owner else ""
    if value is None and "``None``" not in of_class and not _NONE.search(name.doc):
        yield "does not say what None means"


def _of_parameters(node: Function, doc: str, *, is_method: bool) -> Iterator[str]:
    for argument, default in parameters_of(node, is_method=is_method):
        said = field_of(doc, "param", argument.arg)
        if not said and re.search(rf"``(\*\*)?{argument.arg}``", text_of(doc)):
            said = " ".join(doc.split())
        if not said:
            if not _is_called_like_its_class(argument):
                yield f"does not explain {argument.arg!r}"
            continue
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        if _NUMBER.search(annotation) and not _UNIT.search(said):
            yield f"does not say the unit of {argument.arg!r}"
        if isinstance(default, ast.Constant) and default.value is None and not _NONE.search(said):
            yield f"does not say what {argument.arg!r} is by default"


def parameters_of(node: Function, *, is_method: bool) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """The parameters that a caller gives, each with its default."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = [None] * (len(positional) - len(arguments.defaults))
    named = list(zip(positional, [*required, *arguments.defaults], strict=True))
    yield from named[1:] if is_method else named
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    yield from ((each, None) for each in (arguments.vararg, arguments.kwarg) if each is not None)


def _is_called_like_its_class(argument: ast.arg) -> bool:
    annotation = ast.unparse(argument.annotation) if argument.annotation else ""
    words = re.findall(r"[A-Z][a-z]+", annotation)
    if not words or "".join(words) != annotation.rpartition(".")[2]:
        return False
    return argument.arg in _CALLED.get(annotation, {words[-1].lower()})


def _of_raised(node: Function, name: Name) -> Iterator[str]:
    fields = " ".join(re.findall(r"^:raises ([^:]+):", name.doc, re.MULTILINE))
    for raised in sorted(_raised_by(node, name.module)):
        if not re.search(rf"\b{raised}\b", f"{fields} {text_of(name.doc)}"):
            yield f"does not document {raised}"


def _raised_by(node: ast.AST, module: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """Names of the exceptions that leave a function, private ones of the module included."""
    found: set[str] = set()
    functions = definitions(tree(module).body)
    for each, caught in _happening_in(node):
        raised: set[str] = set()
        if isinstance(each, ast.Raise) and each.exc is not None:
            made = each.exc.func if isinstance(each.exc, ast.Call) else each.exc
            raised = {ast.unparse(made).rpartition(".")[2]}
        elif isinstance(each, ast.Call) and isinstance(each.func, ast.Name):
            called = each.func.id
            if called.startswith("_") and called in functions and called not in seen:
                raised = _raised_by(functions[called][0], module, seen | {called})
        found |= {name for name in raised if _is_error(name) and not _is_caught(name, caught)}
    return found


def _happening_in(
    node: ast.AST, caught: frozenset[str] = frozenset()
) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """What happens in a call of a function, each with the names of what is caught there.

    What happens in a function that it defines is no part of the call.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.Lambda | ast.ClassDef):
            continue
        here = caught
        if isinstance(node, ast.Try) and child in node.body:
            types = [each.type for each in node.handlers if each.type is not None]
            names = (name for each in types for name in ast.walk(each))
            here = caught | {each.id for each in names if isinstance(each, ast.Name)}
        yield child, here
        yield from _happening_in(child, here)


def _class_of(name: str) -> type:
    found: Any = getattr(exceptions, name, None) or getattr(builtins, name, None)
    return found if isinstance(found, type) else object


def _is_error(name: str) -> bool:
    found = _class_of(name)
    return issubclass(found, Exception) and found is not NotImplementedError


def _is_caught(name: str, caught: Collection[str]) -> bool:
    """Whether one of these names is that of the exception, or of a base class of it."""
    return any(base.__name__ in caught for base in _class_of(name).__mro__)

"""Registries of managers, storages and runners.

A class gets into a registry by an entry point of an installed distribution (so that every worker
finds it), or in this process only by :meth:`Registry.register`. Either way it is imported when it
is first asked for, so an installed plug-in costs nothing until it is used.

One name stands for one class. Workers find a class by nothing but its name, so two classes of one
name are an error wherever it shows, and never a matter of which was installed first.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import reduce
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from class_registry.entry_points import EntryPointClassRegistry
from django.apps import apps
from django.utils.module_loading import import_string

from triggers.exceptions import UnknownBackend

C = TypeVar("C", bound=type)
T = TypeVar("T")

_OWN_PACKAGE = __name__.partition(".")[0]


class Registry(EntryPointClassRegistry, Generic[T]):  # type: ignore[misc]  # the library is untyped
    """Classes of one kind, by name.

    :param group: the entry point group, such as ``triggers.storages``.
    :param base: import path of the class that every registered class must extend.
    :param usual: import path of the subclass of it that is meant to be extended, if there is one.
    """

    def __init__(self, group: str, base: str, usual: str = "") -> None:
        super().__init__(group)
        self._base = base
        self._extended = f"{usual} (or {base})" if usual else base
        self._registered: dict[str, type] = {}
        self._found: dict[str, type] = {}
        self._known: dict[str, list[EntryPoint]] | None = None

    def __contains__(self, key: object) -> bool:
        return key in self._registered or key in self._entry_points()

    def __len__(self) -> int:
        return len(self.names())

    def register(self, cls: C) -> C:
        """Register a class under its ``name`` in this process; usable as a decorator.

        Workers are other processes: for them use an entry point, or register where they import.
        To register a class again does nothing; a class that was defined again, in the same place
        of the same module, replaces its older self.

        :param cls: the class; it extends the registry's base class and has a ``name``.
        :returns: the class.
        :raises UnknownBackend: it has no ``name``, does not extend the base class, lacks a method
            that it must have, or the name belongs to another class.
        """
        name = getattr(cls, "name", None)
        place = place_of(cls)
        if not isinstance(name, str) or not name:
            reason = f"{place} cannot be registered: give it a class attribute 'name'."
            raise UnknownBackend(self.group, name, reason)
        if not self._fits(cls):
            reason = (
                f"{place} cannot be registered in {self.group}: it must extend {self._extended}."
            )
            raise UnknownBackend(self.group, name, reason)
        if lacking := _lacking(cls):
            reason = f"{place} cannot be registered in {self.group}: it is abstract; {lacking}"
            raise UnknownBackend(self.group, name, reason)
        other = self._registered.get(name)
        if other is None and name in self._entry_points():
            # It may be just this class, whose module is not imported to its end; or nothing that
            # can be loaded, which whoever asks for the name is told.
            with suppress(UnknownBackend):
                other = self._loaded(name)
        if other is not None and not _is_same(cls, other):
            raise self._taken(name, cls, other)
        self._registered[name] = cls
        self._found.pop(name, None)
        return cls

    def unregister(self, name: str) -> None:
        """Undo :meth:`register`; does nothing if there was none.

        :param name: the name to forget.
        """
        self._registered.pop(name, None)
        self._found.pop(name, None)

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted({*self._registered, *self._entry_points()})

    def get_class(self, key: str) -> type[T]:
        """The class of this name.

        :param key: the name of the class.
        :raises UnknownBackend: there is none, or more than one; its entry point cannot be loaded;
            the class is of the wrong kind, lacks a method, or has another ``name``.
        """
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._find(key)
        return found

    def get(self, key: str, *args: Any, **kwargs: Any) -> T:
        """A new object of the class of this name.

        :param key: the name of the class.
        :param args: positional arguments of its constructor.
        :param kwargs: keyword arguments of its constructor.
        :raises UnknownBackend: as :meth:`get_class`.
        """
        return self.get_class(key)(*args, **kwargs)

    def refresh(self) -> None:
        """Look for entry points again, after a distribution was installed at run time."""
        self._known = None
        self._found.clear()

    def items(self) -> Any:
        """All names with their classes; imports every one of them."""
        return {name: self.get_class(name) for name in self.names()}.items()

    def broken_plugins(self) -> Iterator[UnknownBackend]:
        """What is wrong with the entry points of other distributions; imports what they name."""
        for name, points in sorted(self._entry_points().items()):
            if len(points) == 1 and _is_own(points[0]):
                continue
            try:
                self.get_class(name)
            except UnknownBackend as error:
                yield error

    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        if self._known is None:
            known: dict[str, list[EntryPoint]] = {}
            for each in entry_points(group=self.group):
                known.setdefault(each.name, []).append(each)
            self._known = known
        return self._known

    def _find(self, key: str) -> type:
        registered = self._registered.get(key)
        if key in self._entry_points():
            loaded = self._loaded(key)
            if registered is None:
                return loaded
            if not _is_same(registered, loaded):
                raise self._taken(key, registered, loaded)
        if registered is None:
            known = ", ".join(self.names()) or "none"
            reason = (
                f"Nothing is registered as {key!r} in {self.group} (known: {known}). Declare an "
                f"entry point in that group and reinstall, or call register()."
            )
            raise UnknownBackend(self.group, key, reason)
        return registered

    def _loaded(self, key: str) -> type:
        """The class that the entry point of this name stands for."""
        points = self._entry_points()[key]
        if len(points) > 1:
            claims = _texts(points)
            if len(points) > sum(map(_is_own, points)) > 0:
                remedy = f"This name is {_OWN_PACKAGE}' own, so rename the other"
            else:
                remedy = "Uninstall all of these distributions but one, or rename"
            reason = (
                f"{key!r} in {self.group} is declared more than once: by {' and '.join(claims)}. "
                f"{remedy}: both the entry point and the class attribute 'name'."
            )
            raise UnknownBackend(self.group, key, reason, claims)
        [point] = points
        try:
            found = _load(point)
        except _CannotLoad as error:
            if _is_own(point) and apps.ready and not apps.is_installed(_OWN_PACKAGE):
                raise self._not_installed(point) from error.__cause__
            raise self._unusable(point, str(error)) from error.__cause__
        problem = self._problem(found, key)
        if problem:
            raise self._unusable(point, problem)
        cls: type = found
        return cls

    def _problem(self, found: Any, key: str) -> str:
        """Why a loaded object is not what the entry point ``key`` may name; empty if it is."""
        if not isinstance(found, type):
            return f"it stands for {found!r}, which is no class."
        if not self._fits(found):
            return f"{place_of(found)} must extend {self._extended}."
        name = getattr(found, "name", None)
        if name != key:
            return (
                f"the class attribute 'name' of {place_of(found)} is {name!r}, and workers look a "
                f"class up by that: set name = {key!r}, or rename the entry point."
            )
        lacking = _lacking(found)
        return f"{place_of(found)} is abstract; {lacking}" if lacking else ""

    def _fits(self, cls: Any) -> bool:
        return isinstance(cls, type) and issubclass(cls, import_string(self._base))

    def _unusable(self, point: EntryPoint, problem: str) -> UnknownBackend:
        owner = "its distribution" if point.dist is None else point.dist.name
        reason = (
            f"Entry point {_described(point)}, group {self.group}, cannot be used: {problem} "
            f"Mend that and install {owner} again, or uninstall it."
        )
        return UnknownBackend(self.group, point.name, reason, _texts([point]))

    def _not_installed(self, point: EntryPoint) -> UnknownBackend:
        """What our own classes that need models ask for."""
        reason = (
            f"{point.name!r} in {self.group} needs the Django app {_OWN_PACKAGE!r}: add "
            f"{_OWN_PACKAGE!r} to INSTALLED_APPS, and run 'manage.py migrate'."
        )
        return UnknownBackend(self.group, point.name, reason, _texts([point]))

    def _taken(self, name: str, cls: type, other: type) -> UnknownBackend:
        points = self._entry_points().get(name, [])
        by = f", by {' and '.join(_texts(points))}" if points else ""
        reason = (
            f"{place_of(cls)} cannot be registered as {name!r} in {self.group}: the name belongs "
            f"to {place_of(other)}{by}. Give one of them another class attribute 'name'."
        )
        return UnknownBackend(self.group, name, reason, _texts(points))


class _CannotLoad(Exception):
    """What an entry point names could not be imported; says why."""


def _load(point: EntryPoint) -> Any:
    """What an entry point names. Like its own ``load``, but tells the ways apart to fail."""
    match = point.pattern.match(point.value)
    if match is None:
        raise _CannotLoad(f"{point.value!r} is not of the form module:Class.")
    module_name, attribute = match["module"], match["attr"] or ""
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if f"{module_name}.".startswith(f"{missing}."):
            raise _CannotLoad(f"there is no module {module_name!r}.") from error
        reason = f"{module_name!r} needs the module {missing!r}, which is not installed."
        raise _CannotLoad(reason) from error
    except Exception as error:  # whatever a module does when it is imported
        raised = f"{type(error).__name__}: {error}".rstrip(".: ")
        reason = f"importing {module_name!r} raised {raised}."
        raise _CannotLoad(reason) from error
    try:
        return reduce(getattr, filter(None, attribute.split(".")), module)
    except AttributeError as error:
        reason = f"the module {module_name!r} has no {attribute!r}."
        raise _CannotLoad(reason) from error


def _is_own(point: EntryPoint) -> bool:
    return point.value.partition(".")[0] == _OWN_PACKAGE


def _lacking(cls: type) -> str:
    """What a class must still have before objects can be made of it; empty if it has all."""
    if not inspect.isabstract(cls):
        return ""
    methods: frozenset[str] = getattr(cls, "__abstractmethods__", frozenset())
    *others, last = [f"{name}()" for name in sorted(methods)]
    return f"write {' and '.join(filter(None, [', '.join(others), last]))}."


def _described(point: EntryPoint) -> str:
    """An entry point as its distribution declares it, and which that is."""
    dist = point.dist
    owner = "unknown" if dist is None else f"{dist.name} {dist.version}"
    return f"'{point.name} = {point.value}' of distribution {owner}"


def _texts(points: Sequence[EntryPoint]) -> tuple[str, ...]:
    return tuple(sorted(map(_described, points)))


def place_of(cls: Any) -> str:
    """Where a class is defined, for people.

    :param cls: the class.
    :returns: its module and its name, with dots; of something else, its ``repr``.
    """
    name = getattr(cls, "__qualname__", None)
    return repr(cls) if name is None else f"{cls.__module__}.{name}"


def _is_same(cls: type, other: type) -> bool:
    """Whether these are one class, perhaps from before and after its module was loaded again."""
    return cls is other or (place_of(cls) == place_of(other) and "<locals>" not in cls.__qualname__)

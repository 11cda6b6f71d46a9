"""Registries of managers, storages and runners.

A class gets into a registry by an entry point of an installed distribution (so that every worker
finds it), or in this process only by :meth:`Registry.register`. Either way it is imported when it
is first asked for, so an installed plug-in costs nothing until it is used.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from class_registry.entry_points import EntryPointClassRegistry
from django.utils.module_loading import import_string

from triggers.exceptions import UnknownBackend

C = TypeVar("C", bound=type)


class Registry(EntryPointClassRegistry):  # type: ignore[misc]  # the library is untyped
    """Classes of one kind, by name.

    :param group: the entry point group, such as ``triggers.storages``.
    :param base: import path of the class that every registered class must extend.
    """

    def __init__(self, group: str, base: str) -> None:
        super().__init__(group)
        self._base = base
        self._classes: dict[str, type] = {}
        self._known: dict[str, EntryPoint] | None = None

    def __contains__(self, key: object) -> bool:
        return key in self._classes or key in self._entry_points()

    def __len__(self) -> int:
        return len(self.names())

    def register(self, cls: C) -> C:
        """Register a class under its ``name`` in this process; usable as a decorator.

        Workers are other processes: for them use an entry point, or register where they import.
        A class registered here takes precedence over an entry point of the same name.

        :raises UnknownBackend: it has no ``name`` or does not extend the base class.
        """
        name = getattr(cls, "name", None)
        if not isinstance(name, str) or not name:
            reason = f"{cls.__qualname__} cannot be registered: give it a class attribute 'name'."
            raise UnknownBackend(self.group, name, reason)
        self._classes[name] = self._checked(cls, name, f"{cls.__module__}.{cls.__qualname__}")
        return cls

    def unregister(self, name: str) -> None:
        """Undo :meth:`register`; does nothing if there was none."""
        self._classes.pop(name, None)

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted({*self._classes, *self._entry_points()})

    def get_class(self, key: str) -> Any:
        """The class of this name.

        :raises UnknownBackend: there is none, it cannot be imported, or it is of the wrong kind.
        """
        found = self._classes.get(key)
        if found is None:
            found = self._classes[key] = self._load(key)
        return found

    def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """A new object of the class of this name.

        :raises UnknownBackend: as :meth:`get_class`.
        """
        return self.get_class(key)(*args, **kwargs)

    def refresh(self) -> None:
        """Look for entry points again, after a distribution was installed at run time."""
        self._known = None

    def items(self) -> Any:
        """All names with their classes; imports every one of them."""
        return {name: self.get_class(name) for name in self.names()}.items()

    def _entry_points(self) -> dict[str, EntryPoint]:
        if self._known is None:
            self._known = {each.name: each for each in entry_points(group=self.group)}
        return self._known

    def _load(self, key: str) -> type:
        entry_point = self._entry_points().get(key)
        if entry_point is None:
            known = ", ".join(self.names()) or "none"
            reason = (
                f"Nothing is registered as {key!r} in {self.group} (known: {known}). Declare an "
                f"entry point in that group and reinstall, or call register()."
            )
            raise UnknownBackend(self.group, key, reason)
        try:
            cls = entry_point.load()
        except (ImportError, AttributeError) as error:
            reason = f"Entry point {key!r} of {self.group} ({entry_point.value}): {error}"
            raise UnknownBackend(self.group, key, reason) from error
        return self._checked(cls, key, f"entry point {key!r} ({entry_point.value})")

    def _checked(self, cls: Any, key: str, what: str) -> type:
        base = import_string(self._base)
        if not (isinstance(cls, type) and issubclass(cls, base)):
            reason = f"{what} of {self.group} must extend {self._base}."
            raise UnknownBackend(self.group, key, reason)
        return cls

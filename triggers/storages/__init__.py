"""Storages: where a session's state lives, and how a decision is committed to it.

=============  ==================================================================================
``session``    the port: six methods for a storage to write; everything people ask is built on it
``base``       the documented base class for custom storages: ``_load_from_backend`` and ``_save``
``memory``     tests and demos
``database``   Django's databases: the default
``cache``      Django's cache
``redis``      Redis and Valkey: many firings a second
=============  ==================================================================================
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from triggers import conf
from triggers.exceptions import SettingsError
from triggers.limits import options_taken_by
from triggers.registry import Registry, place_of

if TYPE_CHECKING:
    from triggers.storages.session import SessionStorage


class StorageRegistry(Registry["SessionStorage"]):
    """Storage classes by name."""

    def get(self, key: str, uid: str, **options: Any) -> SessionStorage:
        """The session ``uid`` in the storage registered as ``key``.

        :param options: the storage's keyword arguments; without any, those of the first alias of
            ``TRIGGERS`` that uses this storage.
        :raises UnknownBackend: no such storage.
        :raises InvalidUid: ``uid`` is no usable session uid.
        :raises TypeError: the storage cannot be made with these arguments, or not as it is written.
        """
        cls = self.get_class(key)
        options = options or conf.options_of(key)
        try:
            return _made(cls, uid, options)
        except TypeError as error:
            if not _is_called_wrong(cls, options):
                raise
            # Their names alone: a value may be a password.
            given = ", ".join(sorted(options)) or "no options"
            raise TypeError(
                f"{place_of(cls)} cannot be made with {given}: {error}. It takes: "
                f"{', '.join(options_taken_by(cls))}. A worker makes it of what its property "
                "'options' returned, which must hold every argument that it needs."
            ) from error


def open_session(alias: conf.Alias, uid: str) -> SessionStorage:
    """The session ``uid`` in the storage that an alias describes.

    :param alias: the entry of ``TRIGGERS``.
    :param uid: the session's uid.
    :raises SettingsError: the alias's ``OPTIONS`` do not fit the storage; the error names the
        alias, and the option if it is one.
    :raises UnknownBackend: no such storage.
    :raises InvalidUid: ``uid`` is no usable session uid.
    """
    cls = storage_backends.get_class(alias.storage)
    try:
        return _made(cls, uid, alias.options)
    except SettingsError as error:
        if type(error) is not SettingsError:  # it says more than a sentence, as MissingPackages
            raise
        raise SettingsError(describe_unfit(alias, error)) from error
    except TypeError as error:
        if not _is_called_wrong(cls, alias.options):
            raise
        raise SettingsError(describe_unfit(alias, error)) from error


def _made(cls: type[SessionStorage], uid: str, options: Mapping[str, Any]) -> SessionStorage:
    """The session ``uid`` in a storage of this class.

    :raises TypeError: its ``__init__`` does not call that of the base class.
    """
    storage = cls(uid, **options)
    if not hasattr(storage, "limits"):
        raise TypeError(
            f"{place_of(cls)}.__init__() must call super().__init__(uid, **limits), with the "
            "keyword arguments that it does not take itself."
        )
    return storage


def describe_unfit(alias: conf.Alias, error: Exception) -> str:
    """Which option of an alias is wrong, and why.

    :param alias: the entry of ``TRIGGERS``.
    :param error: what the storage raised when it was constructed.
    :returns: the place in ``TRIGGERS`` with the reason, for people.
    """
    place = f"TRIGGERS[{alias.name!r}]['OPTIONS']"
    if str(error).startswith(place):
        return str(error)
    cls = storage_backends.get_class(alias.storage)
    wrong = [name for name in alias.options if _fits(cls, alias.options, name)]
    if len(wrong) == 1:
        place += f"[{wrong[0]!r}]"
    reason = str(error)
    if _is_called_wrong(cls, alias.options):
        reason += f". The {alias.storage} storage takes: {', '.join(options_taken_by(cls))}."
    return f"{place}: {reason}"


def _fits(cls: type[SessionStorage], options: Mapping[str, Any], left_out: str) -> bool:
    """Whether a storage can be made with all of these options but one."""
    try:
        cls("-", **{name: value for name, value in options.items() if name != left_out})
    except Exception:  # whatever is wrong with the others, it is not this one alone
        return False
    return True


def _is_called_wrong(cls: type[SessionStorage], options: Mapping[str, Any]) -> bool:
    """Whether an option is missing, or one that the storage's ``__init__`` has no parameter for."""
    try:
        inspect.signature(cls).bind("-", **options)
    except TypeError:
        return True
    return False


storage_backends = StorageRegistry(
    "triggers.storages",
    "triggers.storages.session.SessionStorage",
    usual="triggers.storages.base.BaseTriggerStorage",
)
"""The registry of storage classes, by name."""

__all__ = ["StorageRegistry", "storage_backends"]

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

from typing import TYPE_CHECKING, Any

from triggers import conf
from triggers.registry import Registry

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
        """
        return self.get_class(key)(uid, **(options or conf.options_of(key)))


storage_backends = StorageRegistry("triggers.storages", "triggers.storages.session.SessionStorage")
"""The registry of storage classes, by name."""

__all__ = ["StorageRegistry", "storage_backends"]

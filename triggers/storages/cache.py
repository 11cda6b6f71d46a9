"""Sessions in Django's cache: the drop-in for the storage of the documents.

A session is one JSON text under one key. Writers take turns by the lock of
:mod:`triggers.locking`; what the cache evicts, or loses in a restart, is lost, so use a cache that
keeps what it is given, and the ``database`` storage where losing a session would hurt.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from django.core.cache import caches

from triggers import payload
from triggers.engine import SessionState
from triggers.storages.base import BaseTriggerStorage

_LONGEST_NAME = 180
"""Characters of a uid in a key; memcached allows 250 for the whole key."""


class CacheStorageBackend(BaseTriggerStorage):
    """A session in one of Django's caches.

    :param uid: the session's uid.
    :param cache: alias of the cache in ``CACHES``.
    :param timeout: seconds after the last change until the session expires; ``None``, the
        default, keeps it for ever (unlike the cache's own default of 300 seconds).
    :param payload_limit: bytes of JSON that the kwargs of one firing, or one result, may take.
    """

    name = "cache"
    saves_at_once = True

    def __init__(
        self,
        uid: str,
        cache: str = "default",
        timeout: float | None = None,
        *,
        payload_limit: int = payload.DEFAULT_LIMIT,
    ) -> None:
        super().__init__(uid, payload_limit=payload_limit)
        self.cache = cache
        self.timeout = timeout

    @property
    def options(self) -> dict[str, Any]:
        return {**super().options, "cache": self.cache, "timeout": self.timeout}

    @property
    def _key(self) -> str:
        # Every cache takes these characters; a uid may have any.
        name = quote(self.uid, safe=":")
        if len(name) > _LONGEST_NAME:
            name = hashlib.sha256(self.uid.encode()).hexdigest()
        return f"triggers:session:{name}"

    @property
    def lock_name(self) -> str:
        return f"{self.name}:{self.cache}:{self.uid}"

    def delete(self) -> None:
        with self._locked() as held:
            caches[self.cache].delete(self._key)
            held.state, held.dirty = SessionState(), False

    def _load_from_backend(self) -> tuple[Any, Any, Any]:
        text = caches[self.cache].get(self._key)
        if text is None:
            return None, None, None
        document = payload.decode(text)
        return document["configs"], document["instances"], document["metas"]

    def _save(self) -> None:
        document = {
            "configs": self._serialize(self._configs),
            "instances": self._serialize(self._instances),
            "metas": self._serialize(self._metas),
        }
        caches[self.cache].set(self._key, payload.dump(document), self.timeout)

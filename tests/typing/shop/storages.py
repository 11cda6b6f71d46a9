"""A storage of one's own: load, save, and an option."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from triggers.limits import LimitOptions
from triggers.storages import storage_backends
from triggers.storages.base import BaseTriggerStorage


@storage_backends.register
class DocumentStorage(BaseTriggerStorage):
    """Keeps sessions in a dict of this process."""

    name = "document"

    documents: ClassVar[dict[str, list[Any]]] = {}

    def __init__(self, uid: str, *, prefix: str = "", **limits: Unpack[LimitOptions]) -> None:
        super().__init__(uid, **limits)
        self.prefix = prefix

    @property
    def options(self) -> dict[str, Any]:
        return {**super().options, "prefix": self.prefix}

    def _load_from_backend(
        self,
    ) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
        configs, instances, metas = copy.deepcopy(
            self.documents.get(self.prefix + self.uid, [{}, {}, {}])
        )
        return configs, instances, metas

    def _save(self) -> None:
        parts = (self._configs, self._instances, self._metas)
        self.documents[self.prefix + self.uid] = [self._serialize(each) for each in parts]

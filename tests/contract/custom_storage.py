"""A storage such as a user would write: it knows how to load and to save, and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Unpack

from triggers.limits import LimitOptions
from triggers.storages.base import BaseTriggerStorage


class FolderStorage(BaseTriggerStorage):
    """Keeps each session in a file."""

    name = "folder"

    def __init__(self, uid: str, *, folder: str, **limits: Unpack[LimitOptions]) -> None:
        super().__init__(uid, **limits)
        self.folder = Path(folder)
        self.path = self.folder / hashlib.sha256(uid.encode()).hexdigest()

    @property
    def options(self) -> dict[str, Any]:
        return {**super().options, "folder": str(self.folder)}

    def _load_from_backend(self) -> tuple[Any, Any, Any]:
        if not self.path.exists():
            return {}, {}, {}
        saved = json.loads(self.path.read_text())
        return saved["configs"], saved["instances"], saved["metas"]

    def _save(self) -> None:
        self.folder.mkdir(exist_ok=True, parents=True)
        saved = {
            "configs": self._serialize(self._configs),
            "instances": self._serialize(self._instances),
            "metas": self._serialize(self._metas),
        }
        # Written in place on purpose: only the base's lock keeps two writers apart.
        self.path.write_text(json.dumps(saved))

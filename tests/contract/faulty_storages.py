"""A storage that lists its sessions, and copies of it that are wrong in one way each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.contract.custom_storage import FolderStorage

Document = dict[str, Any]


class Listing(FolderStorage):
    """Keeps every promise."""

    name = "test-listing"

    def _save(self) -> None:
        self._metas["uid"] = self.uid
        super()._save()

    def _delete_from_backend(self) -> None:
        self.path.unlink(missing_ok=True)

    @classmethod
    def saved(cls, folder: str) -> Iterator[Document]:
        return (json.loads(path.read_text()) for path in Path(folder).iterdir())

    @classmethod
    def overdue(cls, limit: int, *, folder: str, **options: Any) -> list[str]:
        return cls.due(limit, "due_at", cls("-", folder=folder).now(), folder)

    @classmethod
    def ticking(
        cls, limit: int, until: datetime | None, *, folder: str, **options: Any
    ) -> list[str]:
        return cls.due(limit, "timer_at", until or cls("-", folder=folder).now(), folder)

    @classmethod
    def due(cls, limit: int, what: str, until: datetime, folder: str) -> list[str]:
        found = []
        for each in cls.saved(folder):
            moments = [one[what] for one in cls.dated(each) if one.get(what)]
            if moments and datetime.fromisoformat(min(moments)) <= until:
                found.append((min(moments), each["metas"]["uid"]))
        return [uid for _moment, uid in sorted(found)][:limit]

    @classmethod
    def dated(cls, saved: Document) -> list[Document]:
        return [*saved["instances"].values(), *saved["metas"]["pending"]]

    @classmethod
    def sessions(cls, limit: int, *, after: str = "", folder: str, **options: Any) -> list[str]:
        uids = sorted(each["metas"]["uid"] for each in cls.saved(folder))
        return [uid for uid in uids if uid > after][:limit]


class ByUid(Listing):
    name = "test-by-uid"

    @classmethod
    def due(cls, limit: int, *args: Any) -> list[str]:
        return sorted(super().due(10_000, *args))[:limit]


class Unlimited(Listing):
    name = "test-unlimited"

    @classmethod
    def due(cls, limit: int, *args: Any) -> list[str]:
        return super().due(10_000, *args)


class AlwaysNow(Listing):
    name = "test-always-now"

    @classmethod
    def ticking(cls, limit: int, until: datetime | None, **options: Any) -> list[str]:
        return super().ticking(limit, None, **options)


class Markless(Listing):
    name = "test-markless"

    @classmethod
    def dated(cls, saved: Document) -> list[Document]:
        return list(saved["instances"].values())


class SamePage(Listing):
    name = "test-same-page"

    @classmethod
    def sessions(cls, limit: int, *, after: str = "", **options: Any) -> list[str]:
        return super().sessions(limit, **options)


class DeletesWithoutLock(Listing):
    name = "test-deletes-without-lock"

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)


class DeletesNothing(Listing):
    name = "test-deletes-nothing"

    def _delete_from_backend(self) -> None:
        pass


class InTwoFiles(Listing):
    name = "test-in-two-files"
    saves_at_once = True

    def _load_from_backend(self) -> tuple[Any, Any, Any]:
        if not self.path.exists():
            return {}, {}, {}
        instances = json.loads(self.path.with_suffix(".instances").read_text())
        time.sleep(0.001)
        saved = json.loads(self.path.read_text())
        return saved["configs"], instances, saved["metas"]

    def _save(self) -> None:
        self.folder.mkdir(exist_ok=True, parents=True)
        values = {"configs": self._configs, "metas": self._metas}
        for suffix, value in ((".instances", self._instances), ("", values)):
            draft = self.path.with_suffix(".draft")
            draft.write_text(json.dumps(self._serialize(value)))
            draft.replace(self.path.with_suffix(suffix))


class Elsewhere(Listing):
    """Workers open another folder."""

    name = "test-elsewhere"

    @property
    def options(self) -> dict[str, Any]:
        return {**super().options, "folder": f"{self.folder}-of-workers"}


class WithoutArgument(Listing):
    name = "test-without-argument"

    @property
    def options(self) -> dict[str, Any]:
        return self.limits.chosen()


class OptionsOfPath(Listing):
    name = "test-options-of-path"

    @property
    def options(self) -> dict[str, Any]:
        return {**super().options, "folder": self.folder}

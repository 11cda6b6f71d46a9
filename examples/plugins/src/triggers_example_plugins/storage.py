"""A storage that keeps each session in a file.

Two methods are all that it needs, ``_load_from_backend`` and ``_save``: the base class takes the
lock of the session around both, so that no two processes change one session at a time. What
comes after these two lets recovery, timers and ``manage.py triggers purge`` find its sessions.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Unpack

from triggers.exceptions import SettingsError, StorageUnavailable
from triggers.limits import LimitOptions
from triggers.storages.base import BaseTriggerStorage

log = logging.getLogger(__name__)

Document = Mapping[str, Any]


class DirectoryStorage(BaseTriggerStorage):
    """A session in a file of a directory, which all processes of the project see.

    :param uid: the session's uid.
    :param directory: absolute path of the directory; it is made when something is saved in it.
    :param limits: see :class:`~triggers.limits.Limits`.
    :raises SettingsError: ``directory`` is not an absolute path.
    """

    name = "directory"
    saves_at_once = True  # a reader finds the old file or the new one, never half of one

    def __init__(self, uid: str, *, directory: str, **limits: Unpack[LimitOptions]) -> None:
        super().__init__(uid, **limits)
        self.directory = Path(directory)
        if not self.directory.is_absolute():
            raise SettingsError(
                f"directory must be an absolute path, got {str(directory)!r}: workers are started "
                "elsewhere."
            )

    @property
    def options(self) -> dict[str, Any]:
        # What a worker makes the same storage of: plain JSON.
        return {**super().options, "directory": str(self.directory)}

    @property
    def path(self) -> Path:
        """The file of this session."""
        # A uid may be longer than a file name, and contain any character.
        return self.directory / f"{hashlib.sha256(self.uid.encode()).hexdigest()}.json"

    def _load_from_backend(self) -> tuple[Document | None, Document | None, Document | None]:
        saved = _read(self.path)
        if saved is None:
            return None, None, None
        return saved["configs"], saved["instances"], saved["metas"]

    def _save(self) -> None:
        document = {
            "uid": self.uid,
            "configs": self._serialize(self._configs),
            "instances": self._serialize(self._instances),
            "metas": self._serialize(self._metas),
        }
        draft = self.path.with_suffix(".draft")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # It must be on the disk before it takes the place of the file, and so must be that it
            # has: what was fired is not to be lost, should the power fail.
            with draft.open("w", encoding="utf-8") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
            _sync_directory(self.directory)
        except OSError as error:
            raise StorageUnavailable(self.name, str(error)) from error

    def _delete_from_backend(self) -> None:
        try:
            self.path.unlink()
            _sync_directory(self.directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageUnavailable(self.name, str(error)) from error

    @classmethod
    def overdue(cls, limit: int, **options: Any) -> list[str]:
        storage = cls("-", **options)
        return _due_longest(storage.directory, _due_at, storage.now())[:limit]

    @classmethod
    def ticking(cls, limit: int, until: datetime | None, **options: Any) -> list[str]:
        storage = cls("-", **options)
        return _due_longest(storage.directory, _timer_at, until or storage.now())[:limit]

    @classmethod
    def sessions(
        cls,
        limit: int,
        *,
        after: str = "",
        unchanged_since: datetime | None = None,
        **options: Any,
    ) -> list[str]:
        found = []
        for saved in _saved_in(cls("-", **options).directory):
            changed_at = _moment(saved["metas"]["clock"])
            if changed_at is None or saved["metas"]["phase"] == "purged":
                continue
            if saved["uid"] > after and (unchanged_since is None or changed_at < unchanged_since):
                found.append(saved["uid"])
        return sorted(found)[:limit]


# Functions, and not methods: names that begin with "_" are the base class's own.


def _saved_in(directory: Path) -> Iterator[Document]:
    """What is saved of every session; the cost of a look grows with their number."""
    for path in directory.glob("*.json"):
        try:
            saved = _read(path)
        except StorageUnavailable as error:
            # One file that is damaged must not keep recovery from the others.
            log.error("%s", error)
            continue
        if saved is not None:
            yield saved


def _read(path: Path) -> Document | None:
    try:
        saved: Document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageUnavailable(DirectoryStorage.name, f"{path}: {error}") from error
    return saved


def _due_longest(
    directory: Path, moment_of: Callable[[Document], datetime | None], until: datetime
) -> list[str]:
    """Uids of the sessions that are due by a moment, first the one that is due for longest."""
    dated = ((moment_of(saved), saved["uid"]) for saved in _saved_in(directory))
    due = ((moment, uid) for moment, uid in dated if moment is not None and moment <= until)
    return [uid for _moment, uid in sorted(due)]


def _due_at(saved: Document) -> datetime | None:
    """When recovery has something to do: for an instance, or for a hook that was not called."""
    dated = [*saved["instances"].values(), *saved["metas"]["pending"]]
    return _earliest(each["due_at"] for each in dated)


def _timer_at(saved: Document) -> datetime | None:
    """When time alone changes an instance."""
    return _earliest(each["timer_at"] for each in saved["instances"].values())


def _earliest(texts: Iterable[str | None]) -> datetime | None:
    moments = (_moment(text) for text in texts)
    return min((moment for moment in moments if moment is not None), default=None)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":  # where a directory cannot be opened
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

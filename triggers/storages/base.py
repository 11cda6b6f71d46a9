"""The base class for custom storages: write two methods, load and save, and it is exact.

The base keeps every other writer out of the session while it loads the state, decides, and saves
(:mod:`triggers.locking`), so a backend needs no locking of its own. The cost of an operation
grows with the session, since all of it is loaded and saved; the bundled ``memory`` and
``database`` storages extend :class:`~triggers.storages.session.SessionStorage` instead.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, ClassVar, Unpack

from triggers.engine import Event, Plan, SessionState, Transition, Verdicts, decide
from triggers.engine.previewing import Preview
from triggers.exceptions import StorageUnavailable, TriggersError
from triggers.limits import LimitOptions
from triggers.locking import session_lock
from triggers.registry import place_of
from triggers.storages.document import dump_state, load_state, plain
from triggers.storages.session import SessionStorage, present_of
from triggers.storages.whole import (
    require_instance,
    select_firings,
    select_instances,
    standing_of,
)
from triggers.types import Firing, Instance, Standing, TaskConfig, TaskInstance

_ATTEMPTS = 50
"""How often a decision is made again because somebody else has saved in between."""


class Conflict(Exception):
    """Raised by a ``_save`` that compares: since the load, somebody else has saved.

    The decision is then made again, on what they left.
    """


class BaseTriggerStorage(SessionStorage):
    """A session that is loaded and saved as a whole.

    Implement :meth:`_load_from_backend` and :meth:`_save`, and set ``name``.

    :param uid: the session's uid, a non-empty string of at most 255 characters.
    :param limits: what bounds the session and the work on it, by name: the fields of
        :class:`~triggers.limits.Limits`.
    """

    saves_at_once: ClassVar[bool] = False
    """Whether a reader sees either all of a save or nothing of it. Then reading takes no lock."""

    _threads = threading.local()

    def __init__(self, uid: str, **limits: Unpack[LimitOptions]) -> None:
        super().__init__(uid, **limits)
        self._configs: dict[str, TaskConfig] = {}
        self._instances: dict[str, TaskInstance] = {}
        self._metas: dict[str, Any] = {}

    @abstractmethod
    def _load_from_backend(
        self,
    ) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None, Mapping[str, Any] | None]:
        """Load what :meth:`_save` saved for ``self.uid``.

        :returns: configurations, instances and metadata, each as it was serialized; ``None`` or
            empty for a session that was never saved.
        """

    @abstractmethod
    def _save(self) -> None:
        """Save ``self._configs``, ``self._instances`` and ``self._metas`` for ``self.uid``.

        Either all of it gets saved, or an exception says that nothing was.
        """

    def _delete_from_backend(self) -> None:
        """Remove what :meth:`_save` saved for ``self.uid``; nothing, if nothing is there.

        The lock of the session is held. By default an empty session is saved.
        """
        self._save()

    @staticmethod
    def _serialize(value: Any) -> Any:
        """Turn ``_configs``, ``_instances`` or ``_metas`` into plain JSON for saving."""
        return plain(value)

    def commit(self, event: Event, verdicts: Verdicts) -> Transition:
        for _ in range(_ATTEMPTS):
            with suppress(Conflict), self._locked() as held:
                for key in event.reads(held.state.plan).instances:
                    require_instance(held.state.instances, key, self.uid)
                transition = decide(event, held.state, present_of(self), verdicts)
                held.state.apply(transition)
                held.dirty = held.dirty or not transition.is_empty
                return transition
        reason = "others keep changing the session, and its lock does not keep them out"
        raise StorageUnavailable(self.name, reason)

    def decide_only(self, event: Preview, verdicts: Verdicts) -> Transition:
        return decide(event, self._view(), present_of(self), verdicts)

    def acquire_lock(self) -> AbstractContextManager[Any]:
        """Keep every other process out of this session for the length of a ``with`` block.

        The state is loaded afresh at the beginning, and saved at the end if anything changed. A
        block within a block of the same thread joins it.

        :returns: a context manager that yields the storage.
        """
        return self._as_lock()

    @contextmanager
    def _as_lock(self) -> Iterator[BaseTriggerStorage]:
        with self._undecidable_again(), self._locked():
            yield self

    def save(self) -> None:
        """Save now what was changed under :meth:`acquire_lock`, instead of at its end."""
        held = self._held()
        if held is not None:
            with self._undecidable_again():
                self._store(held)

    def plan(self) -> Plan:
        return self._view().plan

    def find_instances(
        self, *, task: str | None = None, number: int | None = None
    ) -> Iterable[Instance]:
        return select_instances(self._view(), task, number)

    def find_firings(
        self, *, seqs: Collection[int] | None = None, latest: bool = False
    ) -> Iterable[Firing]:
        return select_firings(self._view(), seqs, latest=latest)

    def standing(self) -> Standing:
        return standing_of(self._view())

    def delete(self) -> None:
        """Remove what is stored of the session, and what was changed under :meth:`acquire_lock`.

        A storage overrides :meth:`_delete_from_backend` instead: this waits for whoever is
        between loading and saving, who would bring everything back.
        """
        with self._undecidable_again(), self._locked() as held:
            empty = _Held(SessionState(), held.revision, held.is_held)
            self._fill(empty)
            self._delete_from_backend()
            held.state, held.dirty = empty.state, False
            # The same as before, unless something was saved: so nothing is stored any more.
            revision = self._metas.get("revision")
            held.revision = None if revision == held.revision else revision

    @classmethod
    def overdue(cls, limit: int, **options: Any) -> Collection[str]:
        """Nothing: a storage that only loads and saves cannot list its sessions.

        Call :func:`triggers.recovery.recover` for the sessions that you know of.

        :param limit: how many at most.
        :param options: the keyword arguments with which the storage is constructed.
        :returns: nothing, as such a storage cannot list its sessions.
        """
        return ()

    @property
    def lock_name(self) -> str:
        """What the lock of this session is called: the same for all that open the same state."""
        return f"{self.name}:{self.uid}"

    def when_committed(self, do: Callable[[], object]) -> None:
        held = self._held()
        if held is None:
            do()
        else:
            held.after.append(do)

    @contextmanager
    def _locked(self) -> Iterator[_Held]:
        joined = self._held()
        if joined is not None:
            yield joined
            return
        after: list[Callable[[], object]] = []
        try:
            with self._session_lock() as is_held:
                held = self._all_held()[self.lock_name] = _Held(*self._read(), is_held)
                try:
                    yield held
                finally:
                    # What was decided before an error in the caller's own block still counts.
                    try:
                        if held.dirty:
                            self._store(held)
                        after = held.after
                    finally:
                        del self._all_held()[self.lock_name]
        finally:
            for do in after:
                do()

    def _session_lock(self) -> AbstractContextManager[Callable[[], bool]]:
        """Wait for the lock of this session; the block gets whether it is still held.

        A storage whose ``_save`` compares may use a lock that can be lost.
        """
        name: Any = self.lock_name
        if not isinstance(name, str) or not name:
            raise TypeError(
                f"{place_of(type(self))}.lock_name must be a property with a non-empty string, the "
                "same for all that open the same state and for no other session, got "
                f"{name!r}."
            )
        return session_lock(name)

    @contextmanager
    def _undecidable_again(self) -> Iterator[None]:
        """Around the caller's own changes: when they meet a conflict, nobody can repeat them."""
        try:
            yield
        except Conflict as conflict:
            reason = "the lock of the session was lost, and others have changed it; nothing of "
            raise StorageUnavailable(self.name, f"{reason}this was saved") from conflict

    def _held(self) -> _Held | None:
        """What this thread holds the lock of, so that a block within a block can join it."""
        return self._all_held().get(self.lock_name)

    def _all_held(self) -> dict[str, _Held]:
        held: dict[str, _Held] | None = getattr(self._threads, "held", None)
        if held is None:
            held = self._threads.held = {}
        return held

    def _view(self) -> SessionState:
        held = self._held()
        if held is not None:
            return held.state
        if self.saves_at_once:
            return self._load()
        with self._locked() as held:
            return held.state

    def _load(self) -> SessionState:
        return self._read()[0]

    def _read(self) -> tuple[SessionState, Any]:
        loaded = self._load_from_backend()
        problem = _misshapen(loaded)
        if problem:
            raise TypeError(self._wrongly_loaded(problem))
        configs, instances, metas = (member or {} for member in loaded)
        try:
            state = load_state(self.uid, configs, instances, metas)
        except TriggersError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            problem = f"what it returned is not that ({type(error).__name__}: {error})"
            raise TypeError(self._wrongly_loaded(problem)) from error
        return state, metas.get("revision")

    def _wrongly_loaded(self, problem: str) -> str:
        return (
            f"{place_of(type(self))}._load_from_backend() must return a tuple of three, "
            "configurations, instances and metadata, each the dict that _serialize() had made of "
            "it for _save(), or None if the session was never saved; for session "
            f"{self.uid!r} {problem}."
        )

    def _store(self, held: _Held) -> None:
        self._fill(held)
        self._save()
        held.revision = self._metas.get("revision")
        held.dirty = False

    def _fill(self, held: _Held) -> None:
        """Set what ``_save`` saves, if nobody else can have changed the session meanwhile."""
        state = held.state
        self._configs = dict(state.plan.configuration.tasks)
        self._metas = dump_state(state)
        if held.revision is not None:
            self._metas["revision"] = held.revision
        self._instances = {each.name: each for each in self.present_all(state.instances.values())}
        if not held.is_held():
            reason = "the lock of the session was lost; nothing of this was saved"
            raise StorageUnavailable(self.name, reason)


_MEMBERS = ("configurations", "instances", "metadata")


def _misshapen(loaded: Any) -> str:
    """What is wrong with the shape of what was loaded; empty if it is right."""
    if not isinstance(loaded, tuple | list):
        return f"it returned {_described(loaded)}"
    if len(loaded) != len(_MEMBERS):
        return f"it returned a {type(loaded).__name__} of {len(loaded)}"
    for what, member in zip(_MEMBERS, loaded, strict=True):
        if member and not isinstance(member, Mapping):
            return f"it returned {_described(member)} as the {what}"
    return ""


def _described(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


class _Held:
    """A session that this thread has locked and loaded.

    ``revision`` goes from the metadata that were loaded into those that are saved: what a
    ``_save`` that compares expects to find, and then what it has put there.
    """

    __slots__ = ("after", "dirty", "is_held", "revision", "state")

    def __init__(self, state: SessionState, revision: Any, is_held: Callable[[], bool]) -> None:
        self.state = state
        self.revision = revision
        self.is_held = is_held
        self.dirty = False
        self.after: list[Callable[[], object]] = []

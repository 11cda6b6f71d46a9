"""A whole session as one JSON document: what :class:`BaseTriggerStorage` loads and saves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import fields
from datetime import datetime
from typing import Any

from triggers import payload
from triggers.configuration import Configuration, restore
from triggers.engine import Pending, SessionState, compile_plan
from triggers.exceptions import StateVersionError
from triggers.types import Firing, Instance, Phase, Status, TaskConfig, TaskInstance

STATE_VERSION = 4
"""Version of the stored form. Raise it when an older process could not read what is written."""

VERSION_OF_NAMES = 2
"""The version that firings of several names need."""

VERSION_OF_PHASES = 3
"""The version that a session needs which is not open: an older process would go on with it."""

VERSION_OF_FINALIZING = 4
"""The version that a session needs which finalizes: an older process would not fire that."""

_INSTANCE_FIELDS = tuple(each.name for each in fields(Instance))
_TIMES = frozenset({"created_at", "changed_at", "due_at", "not_before", "timer_at"})
_LISTS = ("counted", "told")


def plain(value: Any) -> Any:
    """Turn configurations, instances, metadata or any mix of them into plain JSON."""
    if isinstance(value, TaskConfig):
        return json.loads(payload.dump(value.directives))
    if isinstance(value, TaskInstance):
        return _dump_instance(value.record)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted(plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return json.loads(payload.dump(value))


def needed_version(phase: Phase, *, finalizes: bool) -> int:
    """The version of a session: not more than it needs, so that older processes go on with it."""
    if finalizes:
        return VERSION_OF_FINALIZING
    return VERSION_OF_NAMES if phase is Phase.OPEN else VERSION_OF_PHASES


def dump_state(state: SessionState) -> dict[str, Any]:
    """What a state holds beside its configuration and its instances, as plain JSON."""
    finalizes = state.plan.configuration.finalizes
    return {
        "version": needed_version(state.phase, finalizes=finalizes),
        **({"finalizes": True} if finalizes else {}),
        "phase": state.phase.value,
        "seq": state.seq,
        "clock": _iso(state.clock),
        "manager": state.manager,
        "firings": [_dump_firing(firing) for firing in state.firings.values()],
        "passed": [[*name, seq] for name, seq in state.passed.items()],
        "pending": [_dump_pending(pending) for pending in state.pending.values()],
    }


def load_state(
    uid: str, configs: Mapping[str, Any], instances: Mapping[str, Any], metas: Mapping[str, Any]
) -> SessionState:
    """The state that was stored as these three documents.

    :raises StateVersionError: a newer version of this package wrote it.
    """
    version = metas.get("version", STATE_VERSION)
    if version > STATE_VERSION:
        raise StateVersionError(uid, version, STATE_VERSION)
    tasks = restore(payload.dump(plain(configs)))
    finalize = metas.get("finalizes", False)
    state = SessionState(
        plan=compile_plan(tasks.merged_with(Configuration(), finalize=finalize)),
        phase=Phase(metas.get("phase", Phase.OPEN)),
        seq=metas.get("seq", 0),
        clock=_time(metas.get("clock")),
        manager=metas.get("manager"),
    )
    for firing in metas.get("firings", ()):
        state.add_firing(_load_firing(firing))
    for task, trigger, seq in metas.get("passed", ()):
        state.passed[task, trigger] = seq
    for document in plain(instances).values():
        state.add(_load_instance(document))
    for pending in metas.get("pending", ()):
        state.pending[pending["ref"]] = Pending(**{**pending, "due_at": _time(pending["due_at"])})
    return state


def _dump_instance(record: Instance) -> dict[str, Any]:
    document = {name: getattr(record, name) for name in _INSTANCE_FIELDS}
    for name in _TIMES:
        document[name] = _iso(document[name])
    document["status"] = str(record.status)
    document["taken"] = dict(record.taken)
    for name in _LISTS:
        document[name] = {key: list(items) for key, items in document[name].items()}
    document["metadata"] = payload.dump(dict(record.metadata))
    return document


def _load_instance(document: Mapping[str, Any]) -> Instance:
    # Version 1 lacks what came later; those fields have defaults.
    values = {name: document[name] for name in _INSTANCE_FIELDS if name in document}
    for name in _TIMES & values.keys():
        values[name] = _time(values[name])
    for name in _LISTS:
        lists = document.get(name, {})
        values[name] = {key: tuple(items) for key, items in lists.items()}
    values["status"] = Status(values["status"])
    values["metadata"] = payload.decode(values["metadata"])
    return Instance(**values)


def _dump_firing(firing: Firing) -> dict[str, Any]:
    return {
        "seq": firing.seq,
        "trigger": firing.trigger,
        "kwargs": firing.kwargs,
        "at": _iso(firing.at),
        "key": firing.key,
        "cause": firing.cause,
        "also": list(firing.also),
        "refused": dict(firing.refused),
    }


def _load_firing(document: Mapping[str, Any]) -> Firing:
    values = {**document, "at": _time(document["at"]), "also": tuple(document.get("also", ()))}
    return Firing(**values)


def _dump_pending(pending: Pending) -> dict[str, Any]:
    return {
        "ref": pending.ref,
        "kind": pending.kind,
        "data": plain(pending.data),
        "due_at": _iso(pending.due_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _time(text: Any) -> Any:
    return None if text is None else datetime.fromisoformat(text)

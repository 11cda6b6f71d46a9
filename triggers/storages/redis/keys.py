"""The names of a session's keys, and the bucket that they lie in.

All keys of a session, and the indexes of its bucket, begin with the same hash tag, so that one
script may change them together, on Redis Cluster too::

    {triggers:43}:s:order%3A42          head: sequence number, clock, revision, counts, latest …
    {triggers:43}:s:order%3A42:b        body: instances by name, firings by sequence number
    {triggers:43}:s:order%3A42:k        idempotency keys
    {triggers:43}:s:order%3A42:p        pending marks
    {triggers:43}:s:order%3A42:a        active instances: scheduled or running
    {triggers:43}:s:order%3A42:timers   when time alone changes which instance
    {triggers:43}:s:order%3A42:w:paid   instances that wait for "paid"
    {triggers:43}:s:order%3A42:u:t_x    unsettled instances of "t_x", where somebody asks

    {triggers:43}:sessions              sessions of this bucket
    {triggers:43}:due                   when recovery should look at what, of each
    {triggers:43}:timers                of each, what time changes first
    {triggers:43}:plan:<digest>         a configuration, and how many sessions have it
    {triggers:43}:done:<client>         the latest commit of one connection, for a minute
"""

from __future__ import annotations

import zlib
from urllib.parse import quote, unquote

from triggers.exceptions import SettingsError

BUCKETS = 64
"""Into how many parts the sessions of a prefix are divided. Stored data depend on it."""

BODY = ":b"
IDEMPOTENCY = ":k"
PENDING = ":p"
ACTIVE = ":a"
TIMERS = ":timers"
WAITING = ":w:"
UNSETTLED = ":u:"

PARTS = (BODY, IDEMPOTENCY, PENDING, ACTIVE, TIMERS)
"""The keys that every session has, beside its head and its sets of waiting instances."""

NOTHING_OPEN = ""
"""In place of a trigger: the waiting instances that no firing can change any more, only time."""


_QUOTED = {code: quote(chr(code), safe="") for code in range(128)}


def check_prefix(prefix: object) -> str:
    """Return a usable prefix.

    :raises SettingsError: it is no string, empty, or would break the hash tag.
    """
    if not isinstance(prefix, str) or not prefix or "{" in prefix or "}" in prefix:
        raise SettingsError(f"prefix must be a non-empty string without braces, got {prefix!r}.")
    return prefix


def bucket_key(prefix: str, bucket: int, name: str) -> str:
    """The key of an index of a bucket, or of something else that lies in it."""
    return f"{{{prefix}:{bucket}}}:{name}"


def bucket_of(uid: str) -> int:
    """The bucket that a session lies in."""
    return zlib.crc32(uid.encode("utf-8")) % BUCKETS


def head_key(prefix: str, uid: str) -> str:
    """The key of a session's head; the other keys of the session begin with it."""
    return bucket_key(prefix, bucket_of(uid), f"s:{member_of(uid)}")


def member_of(uid: str) -> str:
    """A session in an index of its bucket."""
    # An object is made for every firing, and most uids have a colon that must be quoted.
    return uid.translate(_QUOTED) if uid.isascii() else quote(uid, safe="")


def uid_of(member: str) -> str:
    """The session of a member of an index; what follows on a space says what it is about."""
    return unquote(member.partition(" ")[0])


def awaited(trigger: str) -> str:
    """The part of the session that says which instances wait for a trigger."""
    return WAITING + trigger


def unsettled(task: str) -> str:
    """The part of the session that says which instances of a task are unsettled."""
    return UNSETTLED + task


def count_field(task: str) -> str:
    """The field of the head that says how many instances a task has."""
    return f"c:{task}"


def latest_field(trigger: str) -> str:
    """The field of the head with the sequence number of a trigger's latest firing."""
    return f"l:{trigger}"


def passed_field(task: str, trigger: str) -> str:
    """The field of the head with the latest firing of a trigger that passed a task's filter.

    A task's name has no ``#``.
    """
    return f"p:{task}#{trigger}"

"""Which sessions there are, and in which of them something is due: looked up bucket by bucket."""

from __future__ import annotations

from datetime import datetime

from triggers.storages.redis import keys
from triggers.storages.redis.records import instant
from triggers.storages.redis.server import Server


def list_sessions(
    server: Server, prefix: str, limit: int, after: str, unchanged_since: datetime | None
) -> list[str]:
    """Uids of at most so many sessions: bucket by bucket, in each in the order of its members.

    :param after: begin after this uid; empty: at the beginning.
    :param unchanged_since: only those that were last decided on before this moment.
    """
    found: list[str] = []
    bucket = keys.bucket_of(after) if after else 0
    start = f"({keys.member_of(after)}" if after else "-"
    while len(found) < limit and bucket < keys.BUCKETS:
        index = keys.bucket_key(prefix, bucket, "sessions")
        [members] = server.commands(
            ["ZRANGEBYLEX", index, start, "+", "LIMIT", "0", str(limit)],
        )
        if not members:
            bucket, start = bucket + 1, "-"
            continue
        start = f"({members[-1].decode()}"
        uids = [keys.uid_of(member.decode()) for member in members]
        if unchanged_since is not None:
            uids = _unchanged(server, prefix, uids, unchanged_since)
        found += uids
    return found[:limit]


def _unchanged(server: Server, prefix: str, uids: list[str], since: datetime) -> list[str]:
    heads = [keys.head_key(prefix, uid) for uid in uids]
    clocks = server.commands(*(["HGET", head, "clock"] for head in heads))
    latest = int(instant(since))
    return [
        uid
        for uid, clock in zip(uids, clocks, strict=True)
        if clock is not None and int(clock) < latest
    ]


def list_due(server: Server, prefix: str, index: str, limit: int, latest: datetime) -> list[str]:
    """Uids of at most so many sessions in which something is due, those first that wait longest.

    :param index: ``due`` or ``timers``.
    """
    since: dict[str, float] = {}
    open_buckets, offset = list(range(keys.BUCKETS)), 0
    # Page by page, since one session may have more that is due than fits on a page.
    while open_buckets:
        page = ["WITHSCORES", "LIMIT", str(offset), str(limit)]
        places = [keys.bucket_key(prefix, each, index) for each in open_buckets]
        until = instant(latest)
        answers = server.commands(
            *(["ZRANGEBYSCORE", place, "-inf", until, *page] for place in places)
        )
        still_open = []
        for bucket, answer in zip(open_buckets, answers, strict=True):
            uids = [keys.uid_of(member.decode()) for member in answer[::2]]
            for uid, at in zip(uids, answer[1::2], strict=True):
                since.setdefault(uid, float(at))
            # A full page of different sessions is as many as were asked for.
            if len(set(uids)) < limit == len(uids):
                still_open.append(bucket)
        open_buckets, offset = still_open, offset + limit
    return sorted(since, key=since.__getitem__)[:limit]

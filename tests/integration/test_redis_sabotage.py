"""Scripts that are broken on purpose: the comparison with the engine notices each of them.

A few are tried always, all of them with ``TRIGGERS_TESTS_THOROUGH=1``.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis
from hypothesis import Phase

from tests import servers
from tests.integration import test_redis_executors as executors
from tests.machine import explore
from triggers.clock import set_time
from triggers.runners import task_runners
from triggers.storages.redis.scripts import bulk, script

pytestmark = [pytest.mark.server("redis"), pytest.mark.django_db]

THOROUGH = bool(os.environ.get("TRIGGERS_TESTS_THOROUGH"))

QUICK = (
    ("fire", "latest = math.max(latest, tonumber(known[6 + field] or 0))", ""),
    ("fire", "'\\n\\n' .. ARGV[11]", "'\\n\\n' .. told"),
    ("fire", "call('SADD', head .. ':a', name)", ""),
    ("fire", "is_barred and role ~= 'b' and role ~= 'x'", "is_barred"),
    ("claim", "if status ~= 'scheduled' then", "if status == 'finished' then"),
)
RARE = (
    ("fire", "if not is_new then\n            moves", "if false then\n            moves"),
    ("fire", "is_new ~= is_decided", "is_new and not is_decided"),
    ("fire", "(count == 0 or ARGV[first_task + 4] == '1')", "count == 0"),
    ("fire", "table.sort(numbers)", ""),
    ("fire", "depth = tostring(led_by + 1)", "depth = '0'"),
    ("fire", "call('ZREM', bucket .. 'due', member .. ' i:' .. finished)", ""),
    ("fire", "call('SREM', head .. ':a', finished)", ""),
    ("fire", "barring == 'heard' or", "false or"),
    ("fire", "for index = first_set, first_read - 1 do", "for index = first_set, first_set do"),
    ("fire", "'l:' .. outcome", "'l:'"),
    ("fire", "call('HEXISTS', head .. ':k', ARGV[7]) == 1", "false"),
    ("fire", "lineage ~= match(finished, '%d+$')", "false"),
    ("fire", "its_token ~= token", "false"),
    ("fire", "last > tonumber(ARGV[6])", "false"),
    ("fire", "known[3] == 'open' or", "true or"),
    ("fire", "is_ready and role ~= 'n' and role ~= 'x'", "is_ready"),
    ("fire", "            changed_at = now\n", ""),
    ("fire", "answer[#answer + 1] = text", "answer[#answer + 1] = body[4]"),
    ("claim", "timer[2] and tonumber(timer[2]) <= tonumber(now)", "false"),
    ("claim", "redis.call('ZADD', bucket .. 'due', due, member .. ' i:' .. ARGV[5])", ""),
)


@pytest.fixture
def machine() -> Iterator[type[executors.Machine]]:
    """The machine, on keys of its own: what a broken script leaves is in nobody's way."""

    class Own(executors.Machine):
        prefix = f"{executors.PREFIX}:{uuid4().hex}"

    task_runners.register(executors.Noting)
    yield Own
    task_runners.unregister(executors.Noting.name)
    set_time(None)
    with redis.Redis.from_url(servers.redis_url()) as client:
        for key in client.scan_iter(f"{{{Own.prefix}:*", count=1000):
            client.unlink(key)


@pytest.mark.parametrize(("name", "piece", "instead"), QUICK + RARE if THOROUGH else QUICK)
def test_a_script_that_errs_is_noticed(
    name: str,
    piece: str,
    instead: str,
    machine: type[executors.Machine],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    right = script(name)
    assert piece in right.text, "the script has changed; adapt this test"
    text = right.text.replace(piece, instead)
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(right, "text", text)
    monkeypatch.setattr(right, "opening", bulk("EVALSHA") + bulk(sha) + bulk("1"))
    with pytest.raises(AssertionError, match=r"a script left|assert") as noticed:
        explore(
            machine,
            at_least=1_000_000,  # go on until it is noticed
            interesting=("fire by a script",),
            max_examples=60,
            stateful_step_count=40,
            phases=[Phase.generate],
        )
    assert "should have happened" not in str(noticed.value)

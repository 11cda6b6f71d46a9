"""The clock of storages: the machine's, or what was set for the process, the thread or the task."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest

from triggers.clock import current_time, frozen_time, local_time, overridden_time, set_time

ONE = datetime(2011, 3, 1, 9, tzinfo=UTC)
OTHER = datetime(2012, 3, 1, 9, tzinfo=UTC)


def test_without_more_it_is_the_machines() -> None:
    before = datetime.now(UTC)
    assert before <= current_time() <= datetime.now(UTC)
    assert overridden_time() is None


def test_a_local_time_holds_until_the_end_of_its_block_and_blocks_nest() -> None:
    with local_time(ONE):
        with local_time(OTHER):
            assert (current_time(), overridden_time()) == (OTHER, OTHER)
        assert (current_time(), overridden_time()) == (ONE, ONE)
    assert overridden_time() is None


def test_a_local_time_ends_with_an_error() -> None:
    with pytest.raises(LookupError), local_time(ONE):
        raise LookupError
    assert overridden_time() is None


def test_a_local_time_goes_before_that_of_the_process() -> None:
    with frozen_time(ONE):
        with local_time(OTHER):
            assert current_time() == OTHER
        assert current_time() == ONE


def test_other_threads_do_not_see_a_local_time() -> None:
    seen: list[datetime | None] = []
    with local_time(ONE):
        thread = threading.Thread(target=lambda: seen.append(overridden_time()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_asyncio_tasks_have_a_time_each() -> None:
    async def at(moment: datetime) -> datetime:
        with local_time(moment):
            await asyncio.sleep(0)
            return current_time()

    async def both() -> tuple[datetime, datetime]:
        return await asyncio.gather(at(ONE), at(OTHER))

    assert tuple(asyncio.run(both())) == (ONE, OTHER)


def test_times_are_given_in_utc() -> None:
    east = timezone(timedelta(hours=9))
    with local_time(datetime(2011, 3, 1, 18, tzinfo=east)):
        assert (current_time(), current_time().tzinfo) == (ONE, UTC)


@pytest.mark.parametrize("begin", [lambda at: local_time(at).__enter__(), set_time])
def test_a_naive_time_is_refused(begin: object) -> None:
    assert callable(begin)
    with pytest.raises(ValueError, match="has no time zone; make it aware"):
        begin(datetime(2011, 3, 1))
    assert overridden_time() is None
